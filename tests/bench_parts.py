"""What the tests of the bench share: cases that were never measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench_case import Case
from bench_frames import Spread

_CASE = Case(
    peer="ours",
    calls=60,
    cpu_ms=2.0,
    cpu_share=0.12,
    frames=3_000,
    missing=0,
    doubled=0,
    disordered=0,
    messages=600,
    delay_ms=Spread(40.0, 80.0, 90.0, 120.0),
    loop_ms=Spread(1.0, 4.0, 5.0, 6.0),
    kilobytes=150.0,
    streams=60,
    most_together=60,
    refused=0,
    load_late_ms=Spread(0.5, 1.0, 2.0, 3.0),
    google_late_ms=Spread(0.5, 1.0, 2.0, 3.0),
    load_share=0.1,
    google_share=0.05,
    others_share=0.0,
)


def some_case(peer: str = "ours", calls: int = 60, **figures: Any) -> Case:
    """A case in which all went well, but for `figures`."""
    return replace(_CASE, peer=peer, calls=calls, **figures)
