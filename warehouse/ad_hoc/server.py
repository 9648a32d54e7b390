"""Runs an operator's question on a ClickHouse server, with the gate's checks and the engine's limits."""

from __future__ import annotations

from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from warehouse.ad_hoc.answers import Bounds
from warehouse.ad_hoc.gate import EngineError, judge
from warehouse.client import Warehouse

MEMORY_BYTES = 4 * 2**30


def ask_server(warehouse: Warehouse, sql: str, bounds: Bounds) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return (columns, rows). Raises RefusalError, EngineError, or Unavailable when the server is gone."""
    limits = {"readonly": 1, "max_execution_time": bounds.timeout_s, "max_memory_usage": MEMORY_BYTES}
    of_answer = {"max_result_rows": bounds.rows, "max_result_bytes": bounds.bytes, "result_overflow_mode": "throw"}
    settings = limits | of_answer
    with warehouse.reader() as client:
        question = judge(sql, warehouse.database, lambda statement: engine_lines(client, statement, limits))
        if question.explain:
            return ["explain"], [(line,) for line in engine_lines(client, question.explain + question.text, settings)]
        try:
            result = client.query(question.text, settings=settings)
        except DatabaseError as error:
            raise _engine_error(error) from error
        return list(result.column_names), [tuple(row) for row in result.result_rows]


def engine_lines(client: Client, statement: str, settings: dict[str, Any] | None = None) -> list[str]:
    """Return the one column of a statement. Raises EngineError."""
    try:
        answer = client.raw_query(statement, settings=settings)
    except DatabaseError as error:
        raise _engine_error(error) from error
    return [line.replace("\\'", "'") for line in answer.decode().splitlines()]  # TabSeparated


def _engine_error(error: DatabaseError) -> Exception:
    """Return the engine's error, or the driver's own where the engine did not answer."""
    return EngineError(str(error), error.code) if error.code is not None else error
