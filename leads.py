"""Leads: whoever calls a business, by number, written as their calls begin."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Call, Lead

# In full (E.164) or, from some lines, without the plus; a withheld number is a word
_NUMBER = re.compile(r"\+?[0-9]{3,20}")


def is_number(text: str) -> bool:
    """Whether a caller can be called back: `anonymous` and the like cannot."""
    return _NUMBER.fullmatch(text) is not None


def customer_of(call: Call) -> str:
    """The number of the one who is not the business."""
    return call.called if call.direction.startswith("outbound") else call.caller


def touch_lead(session: Session, call: Call) -> Lead | None:
    """Note a new call in its lead, which its first call makes; None for a withheld number."""
    number = customer_of(call)
    if not is_number(number):
        return None
    lead = session.scalar(
        select(Lead)
        .where(Lead.tenant_id == call.tenant_id, Lead.number == number)
        .with_for_update()
    )
    if lead is None:
        lead = Lead(
            tenant_id=call.tenant_id,
            number=number,
            calls=1,
            first_call_at=call.started_at,
            last_call_at=call.started_at,
        )
        session.add(lead)
    else:
        lead.calls += 1
        lead.last_call_at = max(lead.last_call_at, call.started_at)
    session.flush()
    return lead
