"""Nothing but `business_records.py` makes statements about what belongs to businesses.

Every module of the project is read as source. The few that work for all businesses at once are
named here, each with what it asks for and why; any other fails, and so does a name that is not
needed any more.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

import pytest
from query_rules import MAKERS, Fault, Tables, called, faults_of
from running_service import PROJECT
from sqlalchemy import inspect

import models
from database import Base

_MAPPED = {mapper.class_.__name__: mapper for mapper in Base.registry.mappers}
_OWNED = {
    name: mapper
    for name, mapper in _MAPPED.items()
    if name == "Tenant" or "tenant_id" in mapper.columns
}


def source_of(module: str) -> str:
    return (PROJECT / module).read_text(encoding="utf-8")


MODULES = sorted(path.name for path in PROJECT.glob("*.py"))
TABLES = Tables(
    classes=frozenset(_OWNED),
    names=frozenset(
        {str(mapper.local_table.name) for mapper in _OWNED.values()}  # type: ignore[attr-defined]
        | {"search_utterances", "search_texts"}
    ),
    modules=frozenset(
        name.removesuffix(".py") for name in MODULES if "from models import" in source_of(name)
    ),
)


class May(NamedTuple):
    """What a module asks for by itself, and why that is no business's question."""

    tables: str
    why: str


MAY = {
    "record_store.py": May(
        "Call CallStream Tenant Utterance",
        "writes live calls: a record names its stream and its business, and both must agree",
    ),
    "leads.py": May("Lead", "writes with a call that begins the lead of the call's own business"),
    "usage.py": May("Usage", "adds to the month of the call's own business"),
    "outbox.py": May("Event Webhook", "writes a call's events, for the call's own business"),
    "lost_calls.py": May(
        "Call CallStream Tenant Utterance", "ends the calls of dead workers, whosever they are"
    ),
    "retention.py": May(
        "Call Event Lead Tenant column_descriptions",
        "goes through all businesses, one after the other, by each's days",
    ),
    "webhook_queue.py": May(
        "Event Webhook WebhookSecret", "sends what is due, whosever it is, to its own business"
    ),
    "tenant_directory.py": May("Tenant TenantNumber", "reads all businesses, for the workers"),
    "api_keys.py": May("ApiKey", "finds out by a key whose it is"),
    "call_search.py": May(
        "search_utterances utterances",
        "names the indexes of words, which SQLAlchemy does not know, for a business's utterances",
    ),
}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "business_records.py"])
def test_a_module_asks_only_through_the_business_or_says_why(module: str) -> None:
    """What it asks for by itself is what stands in the list, and nothing else."""
    faults = faults_of(source_of(module), TABLES)
    may = set(MAY[module].tables.split()) if module in MAY else set()
    assert [fault for fault in faults if fault.table not in may] == []
    assert {fault.table for fault in faults} == may, "the list names what is not asked for any more"


def test_the_list_is_of_modules_that_there_are() -> None:
    """Who renames one renames it here."""
    assert set(MAY) <= set(MODULES)


@pytest.mark.parametrize(
    "line",
    [
        "db.session.scalars(select(Call).where(Call.caller == number))",
        "db.session.scalars(sa.select(Utterance.text))",
        "db.session.scalars(select(func.count(Lead.id)))",
        "db.session.get(Lead, 5)",
        "session.get_one(Call, 5)",
        "session.query(Event).all()",
        "session.execute(delete(Call).where(Call.id.in_(ids)))",
        "session.execute(update(Event).values(tries=0))",
        "session.execute(insert_into(session, Usage))",
        "calls_of(tenant_id).join(Lead, Lead.number == Call.caller)",
        "select(func.count()).select_from(Call)",
        "exists().where(Call.id == 5).select_from(Call)",
        "other = aliased(Call)",
        "Call.query.all()",
        "import models as m\nm.Call.query.all()",
        "import models\nselect(models.Call)",
        "from call_search import Call",
        "from models import Call as Ring\nselect(Ring)",
        "from models import *",
        "for table in (Call, Lead):\n  session.execute(delete(table))",
        "kinds = {'calls': Call}\nsession.scalars(select(kinds['calls']))",
        "Rows = Call\nselect(Rows.id)",
        "self.table = Lead\nselect(self.table)",
        "count_all(Call)",
        "select(Call.__table__)",
        "Base.metadata.tables['calls']",
        "session.execute(text('SELECT * FROM calls'))",
        "session.connection().exec_driver_sql(f'DELETE FROM leads WHERE id = {n}')",
        "SQL = 'SELECT text FROM utterances'",
        "select(table('events', column('id')))",
        "select(literal_column('api_keys.hash'))",
    ],
)
def test_what_would_ask_past_the_business_is_found(line: str) -> None:
    """In a module that may not, each of these fails the suite."""
    module = f'"""A module."""\nfrom models import Call, Event, Lead, Usage, Utterance\n{line}\n'
    assert faults_of(module, TABLES)


@pytest.mark.parametrize(
    "line",
    [
        "load_call(tenant_id, call_sid)",
        "db.session.scalars(calls_of(tenant_id).where(Call.caller == number).order_by(Call.id))",
        "calls_of(tenant_id).where(Call.id.in_(hits)).with_only_columns(Call.id)",
        "deletion_of(tenant_id, Call).where(Call.id.in_(ids))",
        "select(func.count()).select_from(calls_of(tenant_id).where(Call.id == 5).subquery())",
        "select(ServiceState.version)",
        "db.session.add(Lead(tenant_id=tenant_id, number=number))",
        "def shown(call: Call) -> str: return call.call_sid",
        "fields.get('calls')",
        "print('calls from leads')",
    ],
)
def test_what_goes_through_the_business_is_let_pass(line: str) -> None:
    """Refining what was handed over, writing an own row, and what is no business's."""
    module = f'"""All FROM calls."""\nfrom models import Call, Lead, ServiceState\n{line}\n'
    assert faults_of(module, TABLES) == []


def test_a_fault_says_where_and_how() -> None:
    """So that whoever made it finds it."""
    [fault] = faults_of("from models import Call\n\nselect(Call.id)\n", TABLES)
    assert fault == Fault("Call", 3, "select()")


FUNCTIONS = {
    node.name: node
    for node in ast.parse(source_of("business_records.py")).body
    if isinstance(node, ast.FunctionDef)
}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"number_owner"}))
def test_every_way_to_records_goes_by_the_business(name: str) -> None:
    """It asks whose they are first, and each table of its statement is compared with that."""
    function = FUNCTIONS[name]
    assert function.args.args[0].arg == "tenant_id"
    asked = {root for node in ast.walk(function) for root in _made_of(node)}
    assert asked, "it makes no statement"
    assert asked == {root for node in ast.walk(function) for root in _scoped(node)}


@pytest.mark.parametrize("name", sorted(name for name in FUNCTIONS if name.startswith("load_")))
def test_what_loads_one_raises_if_it_is_not_the_businesss(name: str) -> None:
    """Nobody gets None, and forgets to ask."""
    raised = [node.exc for node in ast.walk(FUNCTIONS[name]) if isinstance(node, ast.Raise)]
    assert [called(exc) for exc in raised if exc is not None] == ["NotFound"]


def test_no_row_leads_to_another_table() -> None:
    """A relationship would read rows that nobody asked for by their business."""
    for mapper in _MAPPED.values():
        assert not inspect(mapper.class_).relationships
    assert {name for name in vars(models) if name in _MAPPED} == set(_MAPPED)


def _made_of(node: ast.AST) -> set[str]:
    """The tables that a statement is made of."""
    if not isinstance(node, ast.Call) or called(node) not in MAKERS:
        return set()
    names = {_root(argument) for argument in node.args}
    return {name for name in names if name in _OWNED or name == "table"}


def _scoped(node: ast.AST) -> set[str]:
    """The tables whose rows are compared with the business: `Call.tenant_id == tenant_id`."""
    if isinstance(node, ast.Compare):
        [right], [is_equal] = node.comparators, node.ops
        by_tenant = isinstance(right, ast.Name) and right.id == "tenant_id"
        if by_tenant and isinstance(is_equal, ast.Eq) and "tenant_id" in ast.unparse(node.left):
            return {_root(node.left)}
    if isinstance(node, ast.Call) and called(node) == "get":  # by its key, the business's own id
        table, key = node.args
        assert _OWNED[_root(table)].primary_key[0].name == (
            "id" if _root(table) == "Tenant" else "tenant_id"
        )
        return {_root(table)} if ast.unparse(key) == "tenant_id" else set()
    return set()


def _root(node: ast.AST) -> str:
    """`Call` of `Call.tenant_id.concat("")`."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
