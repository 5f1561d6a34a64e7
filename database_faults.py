"""What a database said when it refused: the cause in one line, without what was to be written.

Pure. What SQLAlchemy makes of a fault quotes the statement, and a database's own detail the values:
names, notes and what callers said, which belong into no log.
"""

from __future__ import annotations

from sqlalchemy.exc import StatementError

from call_log import one_line

_LENGTH = 200


def cause_of(fault: Exception) -> str:
    """Kind and message of what the driver raised, or of `fault` if nothing is behind it."""
    cause = fault.orig if isinstance(fault, StatementError) and fault.orig else fault
    return one_line(f"{type(cause).__name__}: {cause}".split("\nDETAIL", 1)[0])[:_LENGTH]
