"""PostgreSQL's index of words knows where an utterance stands in time.

So it can be asked for a word's newest utterances alone: else it gives all there ever were, each of
which is then fetched from its own place on the disk, only to be sorted and cut.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An utterance's places are the runs of 1024, 16 Ki, 256 Ki and 4 Mi ids that its own is in.

    The last two bits of a place are the kind of its run. `call_search.py` has the same rule.
    """
    if op.get_bind().dialect.name != "postgresql":
        return  # SQLite's index is read newest first
    op.execute(
        """
        CREATE FUNCTION search_places_of(id bigint) RETURNS bigint[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $function$
          SELECT ARRAY[id >> 10 << 2, id >> 14 << 2 | 1, id >> 18 << 2 | 2, id >> 22 << 2 | 3]
        $function$
        """
    )
    op.execute("DROP INDEX search_utterances_words")
    op.execute(
        "CREATE INDEX search_utterances_words ON utterances "
        "USING gin (search_words, search_places_of(id)) WITH (fastupdate = off)"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP INDEX search_utterances_words")
    op.execute(
        "CREATE INDEX search_utterances_words ON utterances USING gin (search_words) "
        "WITH (fastupdate = off)"
    )
    op.execute("DROP FUNCTION search_places_of(bigint)")
