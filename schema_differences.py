"""What of the tables is compared with the models, for migrations and for the test that they agree.

The search indexes differ from one database to the other and stand in the migrations only.
"""

from __future__ import annotations

from typing import Any

# Names of what the migrations alone know of: indexes of PostgreSQL's search, tables of SQLite's.
SEARCH_PREFIX = "search_"


def is_compared(_object: object, name: str | None, *_rest: object) -> bool:
    """Whether Alembic compares the thing of this name with the models."""
    return not (name or "").startswith(SEARCH_PREFIX)


COMPARED: dict[str, Any] = {"include_object": is_compared}
