"""Search in what was said, and the indexes of the API's lists.

The rules for words are those of `search_words.py`, as they were when this was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MARKS = (
    r"\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670"
    r"\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufe00-\ufe0f\ufeff"
    r"\u0022\u0027\u0060\u05f3\u05f4\u2018-\u201f"
)
_SEPARATORS = (
    r"\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u05be\u05c0\u05c3\u05c6"
    r"\u060c\u061b\u061f\u0640\u066a-\u066d\u06d4\u2000-\u2bff\u3000-\u303f"
)
_FINALS = dict(zip("ךםןףץς", "כמנפצσ", strict=True))

_LOT = 20

_INDEXES = {
    "search_calls_caller": ("tenant_id", "caller", "started_at", "id"),
    "search_calls_called": ("tenant_id", "called", "started_at", "id"),
    "search_calls_outcome": ("tenant_id", "outcome", "started_at", "id"),
}


def upgrade() -> None:
    for name, columns in _INDEXES.items():
        op.create_index(name, "calls", columns)
    live = sa.text("ended_at IS NULL")
    op.create_index(
        "search_calls_live",
        "calls",
        ["tenant_id", "started_at", "id"],
        postgresql_where=live,
        sqlite_where=live,
    )
    if op.get_bind().dialect.name == "postgresql":
        _upgrade_postgresql()
    else:
        _upgrade_sqlite()


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX search_utterances_words")
        op.execute("ALTER TABLE utterances DROP COLUMN search_words")
        op.execute("DROP FUNCTION search_words_of(text, text)")
    else:
        for event in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER search_utterances_{event}")
        op.execute("DROP TABLE search_utterances")
        op.execute("DROP VIEW search_texts")
    for name in ("search_calls_live", *_INDEXES):
        op.drop_index(name, "calls")


def _upgrade_postgresql() -> None:
    """A word is stored as BUSINESS/WORD, so that one index has each business's words by themselves.

    The words are a column, because they are read again for each row that may match; the index has
    no list of pending entries, which every search would have to read.
    """
    op.execute(
        rf"""
        CREATE FUNCTION search_words_of(tenant text, said text) RETURNS tsvector
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $function$
          SELECT array_to_tsvector(
            string_to_array(tenant || '/' || replace(words, ' ', ' ' || tenant || '/'), ' '))
          FROM (SELECT trim(BOTH ' ' FROM regexp_replace(regexp_replace(translate(lower(
            regexp_replace(normalize(said, NFKD), '[{_MARKS}]', '', 'g')),
            '{"".join(_FINALS)}', '{"".join(_FINALS.values())}'),
            '[{_SEPARATORS}]+', ' ', 'g'), '([^ ]{{64}})[^ ]+', '\1', 'g')) AS words) AS split
        $function$
        """
    )
    op.execute(
        "ALTER TABLE utterances ADD COLUMN search_words tsvector "
        "GENERATED ALWAYS AS (search_words_of(tenant_id, text)) STORED"
    )
    op.execute(
        "CREATE INDEX search_utterances_words ON utterances USING gin (search_words) "
        "WITH (fastupdate = off)"
    )


def _upgrade_sqlite() -> None:
    """FTS5 splits, folds and drops Latin accents by itself; the rest is done before it."""
    op.execute(f"CREATE VIEW search_texts AS SELECT id, {_plain('text')} AS words FROM utterances")
    op.execute(
        "CREATE VIRTUAL TABLE search_utterances USING fts5(words, content='search_texts', "
        "content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3')"
    )
    op.execute("INSERT INTO search_utterances (search_utterances) VALUES ('rebuild')")
    add = f"INSERT INTO search_utterances (rowid, words) VALUES (new.id, {_plain('new.text')});"
    remove = (
        "INSERT INTO search_utterances (search_utterances, rowid, words) "
        f"VALUES ('delete', old.id, {_plain('old.text')});"
    )
    for event, does in (
        ("INSERT", add),
        ("DELETE", remove),
        ("UPDATE OF id, text", f"{remove} {add}"),
    ):
        op.execute(
            f"CREATE TRIGGER search_utterances_{event.split()[0].lower()} AFTER {event} "
            f"ON utterances BEGIN {does} END"
        )


def _plain(column: str) -> str:
    """The text of `column` without marks and with no final letters.

    A few letters at a time, each lot within the next: SQLite's parser takes no deeper nesting.
    """
    letters = {**dict.fromkeys(_stripped(), ""), **{ord(a): b for a, b in _FINALS.items()}}
    pairs = list(letters.items())
    source = f"SELECT {column} AS words"
    for first in range(0, len(pairs), _LOT):
        expression = "words"
        for letter, instead in pairs[first : first + _LOT]:
            expression = f"replace({expression}, char({letter}), '{instead}')"
        source = f"SELECT {expression} AS words FROM ({source})"
    return f"({source})"


def _stripped() -> list[int]:
    """What FTS5 would take for the end of a word: niqqud, harakat, quotes, marks of direction."""
    ranges = ((0x5B0, 0x5BD), (0x64B, 0x652), (0x200B, 0x200F), (0x2018, 0x201F))
    single = (0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7, 0x22, 0x27, 0x60, 0x5F3, 0x5F4)
    return [*single, *(letter for low, high in ranges for letter in range(low, high + 1))]
