"""How the commands print businesses, keys and counts: for people, and as JSON's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from businesses import Business
from models import ApiKey

HOLDS = "It holds from the next call on; no restart is needed."
_FIELDS = tuple(name for name in Business.__struct_fields__ if name != "tenant_id")
_UNSET = {
    "language": "not set (STT_LANGUAGE)",
    "model": "not set (STT_MODEL)",
    "google_key_env": "not set (the service's own key)",
    "max_calls": "not set (MAX_CONCURRENT_CALLS)",
    "forward": "not set (calls are answered here)",
    "sentence": "not set (the text for the language)",
}


def business_json(business: Business) -> dict[str, Any]:
    """A business as JSON's shape: its id and all its settings."""
    fields: dict[str, Any] = msgspec.to_builtins(business)
    return {"id": fields.pop("tenant_id"), **fields}


def key_json(key: ApiKey) -> dict[str, Any]:
    """A key without its secret, as JSON's shape; moments in ISO 8601."""
    return {
        "id": key.id,
        "business": key.tenant_id,
        "name": key.name,
        "created_at": _iso(key.created_at),
        "revoked_at": _iso(key.revoked_at) if key.revoked_at else None,
    }


def print_business(business: Business) -> None:
    """All that is set for a business, a line each."""
    click.echo(business.tenant_id)
    for field in _FIELDS:
        click.echo(f"  {field:<17} {_told(field, getattr(business, field))}")


def print_businesses(businesses: list[Business]) -> None:
    """A line for each business."""
    width = max((len(business.tenant_id) for business in businesses), default=0)
    for business in businesses:
        language = business.language or "–"
        numbers = ", ".join(business.numbers) or "no numbers"
        click.echo(f"{business.tenant_id:<{width}}  {language:<11} {numbers}  {business.name}")


def print_changes(before: Business, after: Business) -> bool:
    """What differs, a line each; whether anything does."""
    differing = [field for field in _FIELDS if getattr(before, field) != getattr(after, field)]
    for field in differing:
        was, becomes = _told(field, getattr(before, field)), _told(field, getattr(after, field))
        click.echo(f"  {field:<17} {was} → {becomes}")
    return bool(differing)


def print_key(key: ApiKey) -> None:
    """A key without its secret, in a line."""
    state = f"revoked {_moment(key.revoked_at)}" if key.revoked_at else "in use"
    click.echo(f"{key.id}  made {_moment(key.created_at)}  {state:<29}  {key.name}".rstrip())


def told_counts(counts: Mapping[str, int]) -> str:
    """Counts in a sentence: 12 calls, 1 utterance; nothing, if there are none."""
    told = (
        f"{n:,} {kind.removesuffix('s') if n == 1 else kind}".replace("_", " ")
        for kind, n in counts.items()
        if n
    )
    return ", ".join(told) or "nothing"


def _told(field: str, value: object) -> str:
    if value is None:
        return _UNSET[field]
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
