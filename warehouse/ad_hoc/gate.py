"""The gate of ad-hoc SQL: one SELECT, of allowed functions and tables, as the engine itself understands it.

Two parsers may read one text differently, so only the engine's own judges. It formats the text (one statement, without
comments), lists the nodes of its syntax tree, and resolves names (`EXPLAIN QUERY TREE`): `* APPLY(f)` and
`arrayMap(f, ...)` call functions that the text does not show as calls. Whatever neither list knows is refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from warehouse.ad_hoc.functions import is_allowed_function, is_allowed_table_function

MAX_SQL = 100_000
"""Characters in a question."""
FIX = "one SELECT, WITH, SHOW, DESCRIBE, EXISTS or EXPLAIN"

Lines = Callable[[str], list[str]]
"""Runs a statement in the engine, and returns its one column of text. Raises `EngineError`."""

_NAME = r"[A-Za-z_]\w*"
_TABLE = rf"(?:{_NAME}\.)?{_NAME}"
_QUALIFIED = re.compile(rf"({_NAME})\.{_NAME}$")
_PLAIN = re.compile(
    rf"(?:SHOW\s+DATABASES|SHOW\s+TABLES(?:\s+I?LIKE\s+'[^'\\]*')?"
    rf"|SHOW\s+COLUMNS\s+(?:FROM|IN)\s+{_TABLE}|SHOW\s+CREATE\s+(?:TABLE\s+|VIEW\s+)?{_TABLE}"
    rf"|(?:DESCRIBE|DESC)\s+(?:TABLE\s+)?{_TABLE}|EXISTS\s+(?:TABLE\s+)?{_TABLE})",
    re.IGNORECASE,
)
_EXPLAIN = re.compile(
    r"EXPLAIN\s+(?:(?:AST|SYNTAX|QUERY\s+TREE|PLAN|PIPELINE)\s+)?(?:\w+\s*=\s*\d+\s*,?\s*)*(?=SELECT|WITH|\()",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"\(*\s*(?:SELECT|WITH)\b", re.IGNORECASE)
_NODES = frozenset(
    {
        "ArrayJoin", "Asterisk", "ColumnsListMatcher", "ColumnsRegexpMatcher", "ExpressionList", "Function",
        "Identifier", "InterpolateElement", "Literal", "OrderByElement", "QualifiedAsterisk",
        "QualifiedColumnsListMatcher", "QualifiedColumnsRegexpMatcher", "SampleRatio", "SelectIntersectExceptQuery",
        "SelectQuery", "SelectWithUnionQuery", "Subquery", "TableExpression", "TableIdentifier", "TableJoin",
        "TablesInSelectQuery", "TablesInSelectQueryElement", "WindowDefinition", "WindowListElement", "WithElement",
    }
)  # fmt: skip
"""Kinds of nodes of a syntax tree. Not among them: `Set` (SETTINGS), and each `...Transformer`."""
_NODE = re.compile(r"\s*(\S+)(?: (\S+))?")
_RESOLVED = re.compile(r"\s*(FUNCTION|TABLE_FUNCTION|TABLE) id: \d+")
_FUNCTION = re.compile(r"\s*FUNCTION id: \d+, function_name: (\w+), function_type: \w+(?:, |$)")
_TABLE_FUNCTION = re.compile(r"\s*TABLE_FUNCTION id: \d+, (?:alias: \w+, )?table_function_name: (\w+)(?:, |$)")
_TABLE_NODE = re.compile(rf"\s*TABLE id: \d+, (?:alias: \w+, )?(?:temporary_)?table_name: ({_NAME})\.({_NAME})(?:, |$)")
_SYSTEM_TABLES = frozenset({"one", "numbers", "numbers_mt", "tables", "columns", "databases"})
_TABLES_OF_DATABASES = {"system": _SYSTEM_TABLES, "information_schema": frozenset({"tables", "columns"})}


class EngineError(Exception):
    """An error of the engine, in its own words. `code` is ClickHouse's."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class RefusalError(Exception):
    """A question that may not run; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that may run: as the engine writes it. An `explain` is the text that goes before it."""

    text: str
    explain: str = ""
    plain: bool = False
    """SHOW, DESCRIBE or EXISTS: metadata of tables that the caller may read."""


def judge(sql: str, database: str, lines: Lines) -> Question:
    """Return the question, if it may run. Raises RefusalError, or EngineError for what the engine does not understand.

    Nothing of the question is evaluated before its text is known to call allowed functions only.
    """
    text = sql.strip().rstrip(";").rstrip()
    if len(text) > MAX_SQL:
        raise RefusalError(f"give at most {MAX_SQL} characters")
    if _PLAIN.fullmatch(text):
        other = _QUALIFIED.search(text)
        if other and other[1] != database:
            raise RefusalError(f"read the tables of {database}, not of {other[1]}")
        return Question(text, plain=True)
    text = _formatted(text, lines)
    explain = _EXPLAIN.match(text)
    prefix, inner = (text[: explain.end()], text[explain.end() :]) if explain else ("", text)
    if not _QUESTION.match(inner):
        raise RefusalError(f"give {FIX}, and no more")
    _check_syntax(inner, lines)
    for line in lines(f"EXPLAIN QUERY TREE {inner}"):
        _check_resolved(line, database)
    return Question(inner, explain=prefix)


def _formatted(text: str, lines: Lines) -> str:
    """Return the one statement of the text as the engine writes it. The text travels as hexadecimal digits."""
    try:
        hexadecimal = text.encode().hex()
    except UnicodeEncodeError:
        raise RefusalError("give text in UTF-8") from None
    return base64.b64decode(lines(f"SELECT base64Encode(formatQuerySingleLine(unhex('{hexadecimal}')))")[0]).decode()


def _check_syntax(inner: str, lines: Lines) -> None:
    try:
        # As a subquery, because there a FORMAT or INTO OUTFILE is an error of syntax.
        nodes = lines(f"EXPLAIN AST SELECT * FROM ({inner})")  # noqa: S608
    except EngineError as error:
        if error.code == 62:  # SYNTAX_ERROR, though the statement alone has none
            raise RefusalError(f"give {FIX}, without FORMAT or INTO OUTFILE") from None
        raise
    for line in nodes:
        node = _NODE.match(line)
        if node is None or node[1] not in _NODES:
            kind = node[1] if node else line
            if kind == "Set":
                raise RefusalError("SETTINGS is not for here: the question may set nothing")
            if "Transformer" in kind:
                raise RefusalError("APPLY, EXCEPT and REPLACE of columns are not for here: name the columns")
            raise RefusalError(f"{kind} is not for here")
        if node[1] == "Function" and not (is_allowed_function(node[2]) or is_allowed_table_function(node[2])):
            raise RefusalError(_function_refused(node[2]))


def _check_resolved(line: str, database: str) -> None:
    kind = _RESOLVED.match(line)
    if kind is None:
        return
    if kind[1] == "FUNCTION":
        if not (function := _FUNCTION.match(line)) or not is_allowed_function(function[1]):
            raise RefusalError(_function_refused(function[1] if function else line.strip()))
    elif kind[1] == "TABLE_FUNCTION":
        if not (function := _TABLE_FUNCTION.match(line)) or not is_allowed_table_function(function[1]):
            raise RefusalError(_function_refused(function[1] if function else line.strip()))
    elif not (table := _TABLE_NODE.match(line)) or not (
        table[1] == database or table[2].lower() in _TABLES_OF_DATABASES.get(table[1].lower(), ())
    ):
        name = f"{table[1]}.{table[2]}" if table else line.strip()
        raise RefusalError(f"read the tables of {database} (SHOW TABLES), not {name[:100]}")


def _function_refused(name: str) -> str:
    return (
        f"the function {name[:100]} is not on the list of those that only compute from their arguments "
        "(warehouse/ad_hoc/functions.py)"
    )
