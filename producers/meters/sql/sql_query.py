"""Meters by SQL: the result of a query for each window, from PostgreSQL or ClickHouse.

A query has the window's bounds as parameters, `{start}` and `{end}` (timestamps in UTC), and a column `quantity`. The
driver binds the parameters; nothing is pasted into the text. The session is read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

from contracts.errors import BadInput, BadSetting, Unavailable
from producers.common.time_limit import OverTimeError, TimeLimit
from producers.meters.window_query import MAX_QUERY_ROWS, QueryRow, RowTemplate, query_row
from producers.meters.windows import MeterWindow
from producers.runtime.batching import decimal_text
from producers.runtime.refusals import read_each

QUANTITY = "quantity"
CONNECT_S = 5
TIMEOUT_S = 60
"""Seconds after which the database itself ends a query."""
TOTAL_S = CONNECT_S + TIMEOUT_S + 10
"""Seconds for a whole query. A database that is frozen, or behind a broken network, ends none itself."""
Rows = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Names of the columns, and the rows."""
Fetch = Callable[[str, MeterWindow], Rows]
"""Runs a query for a window. Raises Unavailable, or BadInput if the database refuses the query."""


def ask(
    fetch: Fetch, query: str, template: RowTemplate, window: MeterWindow, refused: list[str]
) -> Iterator[QueryRow]:  # fmt: skip
    """Yield the rows of a window. NULL is no value. A row whose quantity is NULL or no number is refused alone.

    Raises what `fetch` raises, and BadInput if there is no column `quantity`.
    """
    names, rows = fetch(query, window)
    if QUANTITY not in names:
        raise BadInput("query", ", ".join(names), "name one column `quantity`: the amount to meter")

    def read(row: Sequence[Any]) -> QueryRow:
        values, quantity = _texts(names, row, template.meter)
        return query_row(values, quantity, window, template)

    placed = ((f"{template.meter}, row {n}", row) for n, row in enumerate(rows))
    yield from read_each(placed, read, refused, show=True)


def _texts(names: Sequence[str], row: Sequence[Any], meter: str) -> tuple[dict[str, str], str]:
    """Return the columns of a row as texts, and its quantity. Raises BadInput if one cannot be one."""
    if len(row) != len(names):
        raise BadInput("row", f"{len(row)} values", f"the query has {len(names)} columns")
    values = dict(zip(names, row, strict=True))
    quantity = values.pop(QUANTITY)
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | Decimal):
        raise BadInput(meter, quantity, "the column `quantity` must be a number")
    text = decimal_text(meter, quantity)
    return {name: str(value) for name, value in values.items() if value is not None}, text


def opener(dsn: str, password: str, *, total_s: float = TOTAL_S) -> Fetch:
    """Return a function that queries the database at `postgresql://user@host/db` or `http(s)://user@host:8123/db`
    (ClickHouse), within `total_s` seconds.

    Raises BadSetting for another address.
    """
    scheme, limit = urlsplit(dsn).scheme, TimeLimit(total_s)
    if scheme in ("postgresql", "postgres"):
        run = _postgres
    elif scheme in ("http", "https"):
        run = _clickhouse
    else:
        hint = "use postgresql://user@host/database or http(s)://user@host:8123/database"
        raise BadSetting("produce.sql.dsn", dsn, hint)

    def fetch(query: str, window: MeterWindow) -> Rows:
        try:
            return limit.run(query, lambda: run(dsn, password, query, window))
        except OverTimeError as error:
            raise Unavailable(f"The database does not answer: {error}", "Is it overloaded?", reason="timeout") from None

    return fetch


def _bounds(window: MeterWindow) -> Mapping[str, datetime]:
    start, end = (datetime.fromtimestamp(t_ms / 1000, UTC) for t_ms in window)
    return {"start": start, "end": end}


def _postgres(dsn: str, password: str, query: str, window: MeterWindow) -> Rows:
    import psycopg

    text = query.replace("%", "%%").replace("{start}", "%(start)s").replace("{end}", "%(end)s")
    options = f"-c default_transaction_read_only=on -c statement_timeout={TIMEOUT_S}s -c timezone=UTC"
    try:
        connection = psycopg.connect(dsn, connect_timeout=CONNECT_S, options=options, password=password or None)
        with closing(connection), connection.cursor("wattlog") as cursor:  # The server keeps what is not fetched.
            cursor.execute(text, _bounds(window))
            if cursor.description is None:
                raise BadInput("query", query[:60], "answers no rows: give a SELECT")
            return [column.name for column in cursor.description], cursor.fetchmany(MAX_QUERY_ROWS + 1)
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"PostgreSQL does not answer: {_line(error)}", "Is it running, and is the user right?"
        ) from None
    except psycopg.Error as error:
        raise BadInput("query", query[:60], f"PostgreSQL says: {_line(error)}") from None


def _clickhouse(dsn: str, password: str, query: str, window: MeterWindow) -> Rows:
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

    text = query.replace("{start}", "{start:DateTime64(3, 'UTC')}").replace("{end}", "{end:DateTime64(3, 'UTC')}")
    settings = {
        "readonly": 2, "max_execution_time": TIMEOUT_S, "max_result_rows": MAX_QUERY_ROWS + 1,
        "result_overflow_mode": "throw",
    }  # fmt: skip
    try:
        client = clickhouse_connect.get_client(
            **_address(dsn), password=password, connect_timeout=CONNECT_S, send_receive_timeout=TIMEOUT_S + CONNECT_S
        )
        with closing(client):
            bounds = {name: t.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] for name, t in _bounds(window).items()}
            result = client.query(text, parameters=bounds, settings=settings)
            return result.column_names, result.result_rows
    except OperationalError as error:
        raise Unavailable(
            f"ClickHouse does not answer: {_line(error)}", "Is it running, and is the user right?"
        ) from None
    except DatabaseError as error:
        raise BadInput("query", query[:60], f"ClickHouse says: {_line(error)}") from None


def _address(dsn: str) -> Mapping[str, Any]:
    parts = urlsplit(dsn)
    port = parts.port or (8443 if parts.scheme == "https" else 8123)
    return {
        "interface": parts.scheme, "host": parts.hostname, "port": port, "database": parts.path.strip("/") or "default",
        "username": unquote(parts.username or "default"), "autogenerate_session_id": False,
    }  # fmt: skip


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
