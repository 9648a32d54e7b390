"""Read-only SQL that people write (`wattlog sql`, `POST /v1/sql`).

The gate (`warehouse/ad_hoc/gate.py`) lets one SELECT of allowed functions and tables pass, as the engine itself
understands it. With chdb the question then runs in a child process, over copies of the rows that its caller may read
(`confined.py`): the engine there has no secrets, no network and no files but its own. A server runs it as the user of
the DSN, with `readonly = 1` and limits.
"""

from __future__ import annotations

from typing import Any

from contracts.errors import AccessDenied, BadQuery
from warehouse.ad_hoc.answers import Answer, Bounds, engine_message
from warehouse.ad_hoc.confined import ask_child
from warehouse.ad_hoc.copies import FOR_TENANTS
from warehouse.ad_hoc.gate import EngineError, RefusalError
from warehouse.ad_hoc.server import ask_server
from warehouse.reader import LedgerReader
from warehouse.results import SqlColumn


def read_only(
    reader: LedgerReader, sql: str, *, limit_rows: int = 10_000, timeout_s: int = 30
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a question as `answer_to` does. Returns (column names, rows)."""
    answer = answer_to(reader, sql, Bounds(rows=limit_rows, timeout_s=timeout_s))
    return answer.columns, answer.rows


def answer_to(reader: LedgerReader, sql: str, bounds: Bounds) -> Answer:
    """Run a question over the rows that the reader sees. More rows than the limit are refused, not cut off.

    Raises BadQuery for SQL that is not allowed, not understood, too large or slow; Unavailable when the engine is gone;
    AccessDenied (403) for a tenant on a server, where it asks as a ClickHouse user of its own.
    """
    if reader.embedded:
        return ask_child(reader, sql, bounds)
    if reader.tenants is not None:
        raise AccessDenied(403, "On a ClickHouse server a tenant asks SQL as a ClickHouse user of its own.")
    try:
        return Answer(*ask_server(reader.operator_warehouse(), sql, bounds))
    except RefusalError as refusal:
        raise BadQuery("sql", sql, str(refusal)) from None
    except EngineError as error:
        raise BadQuery("sql", sql, engine_message(str(error))) from error


def readable_columns(reader: LedgerReader) -> list[SqlColumn]:
    """Return the columns that the reader's questions may name."""
    rows = reader.ask("ad_hoc/columns")
    return [SqlColumn(**row) for row in rows if reader.tenants is None or row["table"] in FOR_TENANTS]
