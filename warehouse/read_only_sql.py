"""Read-only SQL of an operator (`wattlog sql`).

It guards against mistakes, and against reading the host through SQL. It does not separate tenants: an operator reads
every tenant's rows, and with chdb the engine runs in this process, with its rights. Tenant-safe SQL needs a server with
a user per tenant and row policies.

There are three layers, because each alone has gaps. sqlglot checks that the text is one question, with allowed tables
and clauses. The engine's own parser (`EXPLAIN AST`) names the functions, since two parsers may read the same text
differently: under `readonly = 1`, the scalar `file()` still reads files. The engine's limits are the last layer.
"""

from __future__ import annotations

import re
from typing import Any

import sqlglot
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from contracts.errors import BadQuery
from warehouse.reader import LedgerReader

MAX_SQL = 100_000
"""Characters in a question."""
MAX_MEMORY_BYTES = 4 * 2**30

_OPEN_DATABASES = frozenset({"system", "information_schema"})
_TABLE_FUNCTIONS = frozenset(
    {"generateseries", "generate_series", "null", "numbers", "numbers_mt", "values", "zeros", "zeros_mt"}
)
"""Table functions that read only their arguments."""
_SCALARS = frozenset({"format"})
"""Scalar functions with the name of a table function that read only their arguments."""
_REACH_OUT = frozenset(
    {
        "file", "hascolumnintable", "catboostevaluate", "aiclassify", "aiembed", "aiextract", "aifilter", "aigenerate",
        "airedact", "aisimilarity", "aitranslate",
    }
)  # fmt: skip
"""Scalar functions that read files or call other machines."""

_NAME = r"[A-Za-z_]\w*"
_TABLE = rf"(?:{_NAME}\.)?{_NAME}"
_PLAIN = re.compile(
    rf"(?:SHOW\s+DATABASES|SHOW\s+TABLES(?:\s+(?:FROM|IN)\s+{_NAME})?(?:\s+I?LIKE\s+'[^'\\]*')?"
    rf"|SHOW\s+COLUMNS\s+(?:FROM|IN)\s+{_TABLE}|SHOW\s+CREATE\s+(?:TABLE\s+|VIEW\s+)?{_TABLE}"
    rf"|(?:DESCRIBE|DESC)\s+(?:TABLE\s+)?{_TABLE}|EXISTS\s+(?:TABLE\s+)?{_TABLE})",
    re.IGNORECASE,
)
_EXPLAIN = re.compile(
    r"EXPLAIN\s+(?:(?:AST|SYNTAX|QUERY\s+TREE|PLAN|PIPELINE|ESTIMATE)\s+)?(?:\w+\s*=\s*\d+\s*,?\s*)*(?=SELECT|WITH|\()",
    re.IGNORECASE,
)
_AST_FUNCTION = re.compile(r"^\s*Function (\S+)")
_FIX = "one SELECT, WITH, SHOW, DESCRIBE, EXISTS or EXPLAIN"


def read_only(
    reader: LedgerReader, sql: str, *, limit_rows: int = 10_000, timeout_s: int = 30
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run an operator's question. Returns (column names, rows); more than `limit_rows` are refused, not cut off.

    Raises AccessDenied for a tenant's reader, BadQuery for SQL that is not allowed, not understood, too large or slow.
    """
    warehouse = reader.operator_warehouse()
    text = check(sql, warehouse.database)
    settings = {
        "readonly": 1, "max_execution_time": timeout_s, "max_result_rows": limit_rows, "result_overflow_mode": "throw",
        "max_memory_usage": MAX_MEMORY_BYTES,
    }  # fmt: skip
    with warehouse.reader() as client:
        try:
            if not _PLAIN.fullmatch(text):
                _check_functions(client, text)
            if _EXPLAIN.match(text):
                # EXPLAIN may run subqueries: the limits apply to it too.
                limits = ", ".join(f"{k} = {v!r}" for k, v in settings.items())
                return ["explain"], [(line,) for line in _lines(client, f"{text}\nSETTINGS {limits}")]
            result = client.query(text, settings=settings)
            columns = list(result.column_names)
            if not columns and not _PLAIN.fullmatch(text):  # chdb sends nothing at all for no rows
                columns = [row[0] for row in client.query(f"DESCRIBE ({text}\n)").result_rows]
        except DatabaseError as error:
            if error.code is None:
                raise
            raise BadQuery("sql", sql, _engine_message(error)) from error
        return columns, [tuple(row) for row in result.result_rows]


def check(sql: str, database: str) -> str:
    """Return the question, trimmed, if it passes sqlglot and the rules above. It may read `database` and the system's.

    Raises BadQuery that names the mistake.
    """
    text = sql.strip().rstrip(";").rstrip()
    if len(text) > MAX_SQL:
        raise BadQuery("sql", text[:40], f"give at most {MAX_SQL} characters")
    if _PLAIN.fullmatch(text):
        return text
    explain = _EXPLAIN.match(text)
    inner = text[explain.end() :] if explain else text
    try:
        tokens = sqlglot.tokenize(inner, read="clickhouse")
        _check_tokens(sql, tokens)
        trees = [tree for tree in sqlglot.parse(inner, read="clickhouse") if tree is not None]
    except SqlglotError as error:
        raise BadQuery("sql", sql, f"cannot be read: {str(error).partition(chr(10))[0]}") from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise BadQuery("sql", sql, f"give {_FIX}, and no more")
    for table in trees[0].find_all(exp.Table):
        _check_table(sql, table, database)
    return text


def _check_tokens(sql: str, tokens: list[Token]) -> None:
    if not tokens or tokens[0].token_type not in (TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN):
        raise BadQuery("sql", sql, f"give {_FIX}")
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER):
            continue
        word = token.text.upper()
        if word in ("OUTFILE", "INFILE", "SETTINGS"):
            raise BadQuery("sql", sql, f"{word} is not for here: the question may neither write nor set anything")
        if word == "FORMAT" and (following is None or following.token_type != TokenType.L_PAREN):
            raise BadQuery("sql", sql, "leave FORMAT to the command's own options")


def _check_table(sql: str, table: exp.Table, database: str) -> None:
    named = table.this
    if isinstance(named, exp.Func):
        name = named.name if isinstance(named, exp.Anonymous) else named.sql_name()
        if name.lower() not in _TABLE_FUNCTIONS:
            raise BadQuery("sql", sql, f"the table function {name} may read outside the warehouse")
        return
    if not re.fullmatch(_NAME, table.name):
        raise BadQuery("sql", sql, f"{table.name!r} is no table's name")
    if table.catalog or (table.db and table.db != database and table.db.lower() not in _OPEN_DATABASES):
        raise BadQuery("sql", sql, f"read {database}, system or information_schema, not {table.db}")


def _check_functions(client: Client, text: str) -> None:
    """Check the functions that the engine finds in the question. Raises BadQuery for one that reads outside."""
    known = client.query("SELECT lower(name) FROM system.table_functions").result_columns
    outside = (set(known[0] if known else ()) | _REACH_OUT) - _TABLE_FUNCTIONS - _SCALARS
    for line in _lines(client, f"EXPLAIN AST {text}"):
        if (match := _AST_FUNCTION.match(line)) and match[1].lower() in outside:
            raise BadQuery("sql", text, f"the function {match[1]} may read outside the warehouse")


def _lines(client: Client, explain: str) -> list[str]:
    """Return the lines of an EXPLAIN in the default format: a FORMAT clause would belong to the explained query."""
    return client.raw_query(explain).decode().replace("\\'", "'").splitlines()


def _engine_message(error: DatabaseError) -> str:
    """Return the engine's own sentence without codes, versions and addresses."""
    text = str(error).partition("DB::Exception: ")[2] or str(error)
    return re.split(r"\(version |\(for url |: In scope |\. In scope |, Stack trace", text)[0].strip()[:400]
