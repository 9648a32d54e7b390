"""Read-only SQL that people write (`wattlog sql`).

The gate (`warehouse/ad_hoc/gate.py`) lets one SELECT of allowed functions and tables pass, as the engine itself
understands it. With chdb the question then runs in a child process, over copies of the rows that its caller may read
(`confined.py`): the engine there has no secrets, no network and no files but its own. A server runs it as the user of
the DSN, with `readonly = 1` and limits.
"""

from __future__ import annotations

from typing import Any

from contracts.errors import BadQuery
from warehouse.ad_hoc.answers import Bounds, engine_message
from warehouse.ad_hoc.confined import ask_child
from warehouse.ad_hoc.gate import EngineError, RefusalError
from warehouse.ad_hoc.server import ask_server
from warehouse.reader import LedgerReader


def read_only(
    reader: LedgerReader, sql: str, *, limit_rows: int = 10_000, timeout_s: int = 30
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a question over the rows that the reader sees. Returns (column names, rows); more than `limit_rows` are
    refused, not cut off.

    Raises BadQuery for SQL that is not allowed, not understood, too large or slow; Unavailable when the engine is gone.
    """
    bounds = Bounds(rows=limit_rows, timeout_s=timeout_s)
    if reader.embedded:
        answer = ask_child(reader, sql, bounds)
        return answer.columns, answer.rows
    try:
        return ask_server(reader.operator_warehouse(), sql, bounds)
    except RefusalError as refusal:
        raise BadQuery("sql", sql, str(refusal)) from None
    except EngineError as error:
        raise BadQuery("sql", sql, engine_message(str(error))) from error
