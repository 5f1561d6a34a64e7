"""/api/usage: what a business used, month by month of its own time zone."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from api_access import tenant_id
from api_blueprint import blueprint
from api_fields import StrictSchema
from business_records import usage_of
from database import db
from models import Usage

# Ten years
_MONTHS = 120


class MonthSchema(StrictSchema):
    """A month's calls."""

    month = fields.String(required=True, metadata={"description": "as 2026-11"})
    calls = fields.Integer(required=True)
    minutes = fields.Float(required=True, metadata={"description": "of audio"})
    google_minutes = fields.Float(
        required=True, metadata={"description": "of audio sent to Google, repeats included"}
    )


class UsageSchema(StrictSchema):
    """The last ten years, newest month first."""

    months = fields.List(fields.Nested(MonthSchema), required=True)


@blueprint.address("GET", "/usage")
@blueprint.response(200, UsageSchema)
def show_usage() -> dict[str, Any]:
    """Calls and minutes, by month of the business's time zone"""
    months = db.session.scalars(usage_of(tenant_id()).order_by(Usage.month.desc()).limit(_MONTHS))
    return {
        "months": [
            {
                "month": one.month,
                "calls": one.calls,
                "minutes": round(one.seconds / 60, 2),
                "google_minutes": round(one.google_seconds / 60, 2),
            }
            for one in months
        ]
    }
