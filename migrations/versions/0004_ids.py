"""SQLite gives the id of a call once, as PostgreSQL does: never again when its call is deleted.

What was still said on a deleted call would else be written to the next one, of whatever business.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_calls_anew(autoincrement=True)


def downgrade() -> None:
    _make_calls_anew(autoincrement=False)


def _make_calls_anew(*, autoincrement: bool) -> None:
    """A copy in place of the table, since SQLite can change no table so; with its indexes."""
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table(
            "calls", recreate="always", table_kwargs={"sqlite_autoincrement": autoincrement}
        ):
            pass
