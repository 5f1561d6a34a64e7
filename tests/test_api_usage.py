"""Usage: by month, newest first, in minutes."""

from __future__ import annotations

from api_parts import Office
from flask import Flask


def test_usage_by_month(api: Flask) -> None:
    """Its own months only, rounded to hundredths of a minute."""
    office, other = Office(api), Office(api)
    office.used("2026-10", 2, 90.0, 100.3)
    office.used("2026-11", 1, 60.0, 60.0)
    other.used("2026-12", 9, 9, 9)
    assert office.client.get("/api/usage").get_json() == {
        "months": [
            {"month": "2026-11", "calls": 1, "minutes": 1.0, "google_minutes": 1.0},
            {"month": "2026-10", "calls": 2, "minutes": 1.5, "google_minutes": 1.67},
        ]
    }
