"""Reads a module's source for statements about what belongs to businesses.

A statement is made by a function of SQLAlchemy's that is handed a table (`select(Call)`,
`session.get(Lead, …)`, `.join(Call, …)`), or by text of SQL's own. What only refines a statement
that was handed over (`calls_of(tenant_id).where(Call.id == …)`) makes none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

# What makes a statement of the tables that it is handed, or adds one to a statement
MAKERS = frozenset(
    (
        "select",
        "delete",
        "update",
        "insert",
        "insert_into",
        "exists",
        "aliased",
        "get",
        "get_one",
        "query",
        "join",
        "outerjoin",
        "join_from",
        "outerjoin_from",
        "select_from",
        "from_statement",
        "with_entities",
        "with_parent",
        "merge",
        "bulk_insert_mappings",
        "bulk_update_mappings",
        "bulk_save_objects",
    )
)
# What is handed SQL as text
TEXT = frozenset(("text", "table", "literal_column", "exec_driver_sql"))
# What refines a statement that is there: looked at by itself, not as a part of what it stands in
REFINERS = frozenset(
    (
        "where",
        "filter",
        "filter_by",
        "with_only_columns",
        "add_columns",
        "order_by",
        "group_by",
        "having",
        "limit",
        "offset",
        "distinct",
        "subquery",
        "cte",
        "correlate",
        "scalar_subquery",
        "prefix_with",
        "execution_options",
    )
)
# Who may be handed a table: a function that asks whose rows, and Python's own
MAY_BE_HANDED = frozenset(("deletion_of", "correlate", "isinstance"))
# Ways to a table, or to its rows, past its name
_BACK_DOORS = frozenset(
    ("__table__", "__mapper__", "__subclasses__", "mappers", "tables", "column_descriptions")
)


class Fault(NamedTuple):
    """A table that is asked for, in which line and how."""

    table: str
    line: int
    how: str


class Tables(NamedTuple):
    """What belongs to businesses: its classes' names in `models`, and the names in SQL.

    `modules` are those that import from `models`, and could hand a class on.
    """

    classes: frozenset[str]
    names: frozenset[str]
    modules: frozenset[str]


def faults_of(source: str, tables: Tables) -> list[Fault]:
    """Every statement of `source` about one of `tables`."""
    return sorted(set(_Reading(ast.parse(source), tables).faults()), key=lambda fault: fault.line)


def called(node: ast.expr) -> str:
    """The last name of what is called: `get` of `db.session.get(…)`; "" if it has none."""
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute):
            return function.attr
        if isinstance(function, ast.Name):
            return function.id
    return ""


class _Reading:
    """One module."""

    def __init__(self, tree: ast.Module, tables: Tables) -> None:
        self._tree = tree
        self._tables = tables
        # the names here, and which table each stands for
        self._known: dict[str, str] = {}
        self._homes: set[str] = set()  # `models`, by whatever name
        self._scoped: set[str] = set()  # what is imported of `business_records`
        self._docstrings = set(_docstrings(tree))
        sql = "|".join(sorted(tables.names))
        self._sql = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE)\s+\"?({sql})\b")
        self._sql_name = re.compile(rf"\b({sql})\b")

    def faults(self) -> Iterator[Fault]:
        yield from self._imports()
        self._imported = frozenset(self._known)
        self._follow_names()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Attribute):
                yield from self._attribute(node)
            elif isinstance(node, ast.Constant) and node not in self._docstrings:
                for name in self._sql.findall(str(node.value)):
                    yield Fault(name, node.lineno, "SQL as text")

    def _imports(self) -> Iterator[Fault]:
        """Note by which names the tables are known; they come from `models` alone."""
        homes = self._tables.modules | {"models"}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                self._homes |= {
                    one.asname or "models" for one in node.names if one.name == "models"
                }
            if isinstance(node, ast.ImportFrom) and node.module == "business_records":
                self._scoped |= {one.asname or one.name for one in node.names}
            if not isinstance(node, ast.ImportFrom) or node.module not in homes:
                continue
            for name in node.names:
                if name.name == "*":
                    yield Fault("*", node.lineno, f"all of {node.module}")
                elif name.name in self._tables.classes:
                    self._known[name.asname or name.name] = name.name
                    if node.module != "models":
                        yield Fault(name.name, node.lineno, f"imported from {node.module}")

    def _follow_names(self) -> None:
        """Whatever a table is assigned to stands for it, too: `for table in (Call, Lead)`."""
        before = -1
        while before != len(self._known):
            before = len(self._known)
            for node in ast.walk(self._tree):
                if isinstance(node, ast.Assign):
                    self._follow(node.targets, node.value)
                elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                    self._follow([node.target], node.value)
                elif isinstance(node, ast.For | ast.comprehension):
                    self._follow([node.target], node.iter)

    def _follow(self, targets: list[ast.expr], value: ast.expr) -> None:
        for table in self._mentioned(value):
            for target in targets:
                for name in _names(target):
                    self._known.setdefault(name, table)

    def _mentioned(self, node: ast.AST) -> Iterator[str]:
        """The tables that an expression names, but for those in statements that it refines."""
        if isinstance(node, ast.Call) and called(node) in (
            REFINERS | MAKERS | MAY_BE_HANDED | self._scoped
        ):
            return
        if isinstance(node, ast.Call) and self._is_table(node.func):
            return  # a new row
        if isinstance(node, ast.Name) and node.id in self._known:
            yield self._known[node.id]
        elif isinstance(node, ast.Attribute) and f".{node.attr}" in self._known:
            yield self._known[f".{node.attr}"]
        elif of_models := self._of_models(node):
            yield of_models
        for child in ast.iter_child_nodes(node):
            yield from self._mentioned(child)

    def _call(self, node: ast.Call) -> Iterator[Fault]:
        name = called(node)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        for argument in arguments:
            if name in MAKERS:
                for table in self._mentioned(argument):
                    yield Fault(table, node.lineno, f"{name}()")
            elif name not in MAY_BE_HANDED and (handed := self._is_table(argument)):
                yield Fault(handed, node.lineno, f"handed to {name}()")
            if name in TEXT:
                for part in ast.walk(argument):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        for found in self._sql_name.findall(part.value):
                            yield Fault(found, node.lineno, f"{name}(text)")

    def _is_table(self, node: ast.expr) -> str | None:
        """The table that an argument is, itself."""
        if isinstance(node, ast.Name) and node.id in self._imported:
            return self._known[node.id]
        return self._of_models(node)

    def _of_models(self, node: ast.AST) -> str | None:
        """`Call` of `models.Call`."""
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in self._homes
            and node.attr in self._tables.classes
        ):
            return node.attr
        return None

    def _attribute(self, node: ast.Attribute) -> Iterator[Fault]:
        if node.attr in _BACK_DOORS:
            yield Fault(node.attr, node.lineno, "a way to all tables")
        elif node.attr == "query":
            for table in self._mentioned(node.value):
                yield Fault(table, node.lineno, ".query")


def _names(target: ast.expr) -> Iterator[str]:
    """What is assigned to: `name`, `.attribute`, each of several."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute):
        yield f".{target.attr}"
    elif isinstance(target, ast.Subscript | ast.Starred):
        yield from _names(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _names(element)


def _docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
