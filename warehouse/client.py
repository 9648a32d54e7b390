"""`Warehouse`: chdb in this process, or a ClickHouse server over HTTP.

clickhouse-connect is the client of both, so that a statement that runs in a test runs on a fleet. A client has one lock
and one HTTP session. So the warehouse has one writing client and a small pool of readers; no thread shares one.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, StreamFailureError

from contracts.errors import BadQuery, Fenced, Unavailable
from contracts.rows import SCHEMAS, Table, length
from warehouse.dsn import Opener, opener
from warehouse.error_codes import (
    CHANGED,
    CHANGED_MEANWHILE,
    MISMATCH,
    NOT_ALLOWED,
    NOT_MIGRATED,
    TOO_MUCH,
    UNKNOWN,
    refusal,
)
from warehouse.sink.arrow import arrow_table, write_arrow
from warehouse.sink.fence import BOUND, FENCED_CODE, Fence, insert_sql, structure
from warehouse.sql_files import Access, sql_file, with_clusters

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_URL = re.compile(r" with url: \S+")
INSERT_ROWS = 100_000
"""Rows in one insert. ClickHouse advises 10,000 to 100,000: fewer make many parts, more take memory."""
READER_WAIT_S = 60.0
"""Wait for a free reader at most."""


def connect(
    dsn: str, *, database: str = "wattlog", password: str | None = None, readers: int = 4,
    question_s: int = 0, question_mb: int = 0,
) -> Warehouse:  # fmt: skip
    """Open the warehouse at `dsn`: `chdb:///abs/path`, or `http(s)://user@host:port/database`.

    A database in the DSN's path overrides `database`. It need not exist yet: `migrate` creates it. `readers` bounds how
    many questions run at once (about twice the cores), `question_s` and `question_mb` the time and memory of each
    (0: no bound, as workers need it).

    Raises BadSetting for an invalid DSN, Unavailable when nothing answers there or another process has it open.
    """
    bounds = {"max_execution_time": question_s, "max_memory_usage": question_mb * 10**6}
    return Warehouse(opener(dsn, database=database, password=password), readers=readers, bounds=bounds)


class Warehouse:
    """One writing client, and readers opened on demand. Threads may share it; processes may not share a path."""

    def __init__(self, opener: Opener, *, readers: int, bounds: Mapping[str, int]) -> None:
        self.where = opener.address
        """The address without user and password, for logs."""
        self.database = opener.database
        self.embedded = opener.embedded
        self._opener, self._bounds = opener, bounds
        self._readers: LifoQueue[Client | None] = LifoQueue(readers)
        for _ in range(readers):
            self._readers.put(None)
        self._reader_count = readers
        self._write_lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._closed = False
        self._writer: Client | None = opener.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every client after the questions in flight. Safe to call again. chdb then releases its path."""
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        for _ in range(self._reader_count):
            client = self._readers.get()
            if client is not None:
                client.close()
        for _ in range(self._reader_count):
            self._readers.put(None)  # wakes threads that still wait for one: they raise
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()

    def beside(self, database: str) -> Warehouse:
        """Open another database of the same warehouse."""
        return Warehouse(replace(self._opener, database=database), readers=self._reader_count, bounds=self._bounds)

    # ---- writing ----

    def insert(self, name: str, table: Table, fence: Fence | None = None) -> int:
        """Store rows of `contracts.rows.SCHEMAS[name]`, in batches of `INSERT_ROWS`. Returns how many.

        With a fence, each batch is stored only while that claim is the greatest of its partition
        (warehouse/sink/fence.py). Raises KeyError for a table or column that the schema does not have, Fenced when
        another worker has claimed the partition, Unavailable (`reason`, `lasting`: warehouse/error_codes.py) when the
        warehouse refuses it.
        """
        if not length(table):
            return 0
        if fence is not None:
            return self._insert_fenced(name, arrow_table(name, table), fence)
        return self.insert_arrow(name, arrow_table(name, table))

    def _insert_fenced(self, name: str, table: pa.Table, fence: Fence) -> int:
        for start in range(0, table.num_rows, INSERT_ROWS):
            with self.writer() as client:
                try:
                    self._insert_through(client, name, table.slice(start, INSERT_ROWS), fence)
                except DatabaseError as error:
                    if error.code != FENCED_CODE:
                        raise
                    raise Fenced(fence.log_id, fence.log_partitions, fence.epoch) from error
        return int(table.num_rows)

    def _insert_through(self, client: Client, name: str, table: pa.Table, fence: Fence) -> None:
        """Insert by `INSERT ... SELECT`, because only a SELECT can have the fence's condition.

        Over HTTP, rows come from the request's body; chdb reads no body, so there they come from a file.
        """
        columns, parameters = list(SCHEMAS[name]), fence.parameters
        if self.embedded:
            with tempfile.NamedTemporaryFile(suffix=".arrow") as file:
                write_arrow(file, table)
                file.flush()
                source = f"file({{fence_file:String}}, 'Arrow', {structure(name)})"
                sql = insert_sql(name, columns, source, fence)
                client.raw_query(sql, parameters={**parameters, "fence_file": file.name})
        else:
            body = pa.BufferOutputStream()
            write_arrow(body, table, compression="lz4")
            sql = insert_sql(name, columns, f"input({structure(name)})", fence)
            client.command(BOUND, parameters=parameters, data=_body(f"{sql} FORMAT Arrow", body.getvalue()))

    def insert_arrow(self, name: str, table: pa.Table) -> int:
        """Store an Arrow table that has the target's columns, by name. Returns how many rows."""
        with self.writer() as client:
            for start in range(0, table.num_rows, INSERT_ROWS):
                client.insert_arrow(name, table.slice(start, INSERT_ROWS))
        return int(table.num_rows)

    def insert_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store a few rows of a table that people edit (such as prices): dicts with equal keys. Returns how many."""
        if not rows:
            return 0
        columns = list(rows[0])
        with self.writer() as client:
            client.insert(name, [[row[c] for c in columns] for row in rows], column_names=columns)
        return len(rows)

    def command(self, sql: str, **params: Any) -> None:
        """Run a statement on the writer (DDL, INSERT SELECT) with bound parameters, and wait for its end."""
        with self.writer() as client:
            # raw_query, because it moves long parameters out of the URL, where proxies refuse them.
            client.raw_query(sql, parameters=params or None)

    @contextmanager
    def writer(self) -> Iterator[Client]:
        """Yield the writing client, to one thread at a time."""
        with self._write_lock:
            if self._closed:
                raise self._closed_error()
            try:
                with self._translated_errors(writing=True):
                    self._writer = self._writer or self._opener.open()
                    yield self._writer
            except BaseException:
                self._writer = self._after_error(self._writer)
                raise

    # ---- reading ----

    def query(self, sql: str, *, settings: Mapping[str, Any] | None = None, **params: Any) -> list[dict[str, Any]]:
        """Run SQL and return its rows as dicts. The server binds `{x:Type}` to `params`. Times are aware, in UTC.

        Raises BadQuery when it takes too long or returns too much, Unavailable when the warehouse is gone.
        """
        with self.reader() as client:
            result = client.query(sql, parameters=params or None, settings=dict(settings or {}))
            names = result.column_names
            return [dict(zip(names, row, strict=True)) for row in result.result_rows]

    def query_blocks(self, sql: str, **params: Any) -> Generator[list[dict[str, Any]]]:
        """Run SQL and yield its rows as `query` returns them, some thousands at a time, as the engine sends them.

        It holds a reader until the last block, or until it is closed: do not wait for anybody between two.
        """
        with self.reader() as client, client.query_row_block_stream(sql, parameters=params or None) as blocks:
            names = blocks.source.column_names
            for block in blocks:
                yield [dict(zip(names, row, strict=True)) for row in block]

    def arrow(self, sql: str, **params: Any) -> pa.Table:
        """Run SQL and return an Arrow table. ClickHouse's DateTime is uint32 seconds there: select DateTime64."""
        with self.reader() as client:
            # not query_arrow, which sets and resets settings around every question; they are the client's (dsn.py)
            return pa.ipc.open_file(client.raw_query(sql, parameters=params or None, fmt="Arrow")).read_all()

    def ask(self, name: str, *, fragments: Mapping[str, str] | None = None, **params: Any) -> list[dict[str, Any]]:
        """Run the question `SUBJECT/NAME` (`sql_files`) and return its rows. `fragments` fill its `$name`s.

        Raises KeyError when there is no such question, ValueError for one that returns tenants' rows: those are
        a `LedgerReader`'s.
        """
        return self.query(_unscoped(name, fragments), **params)

    def ask_arrow(self, name: str, *, fragments: Mapping[str, str] | None = None, **params: Any) -> pa.Table:
        """Run a question as `ask` does, and return an Arrow table."""
        return self.arrow(_unscoped(name, fragments), **params)

    def execute(self, name: str, *, fragments: Mapping[str, str] | None = None, **params: Any) -> None:
        """Run the statement `SUBJECT/NAME` on the writer, as `command` does. `fragments` fill its `$name`s."""
        self.command(_unscoped(name, fragments), **params)

    @contextmanager
    def reader(self) -> Iterator[Client]:
        """Yield a reading client from the pool, for this thread alone. Close streams before the block ends."""
        if self._closed:
            raise self._closed_error()
        try:
            client = self._readers.get(timeout=READER_WAIT_S)
        except Empty:
            raise Unavailable(
                f"All {self._reader_count} readers of the warehouse are busy",
                "Ask again, or open it with more readers.",
            ) from None
        try:
            if self._closed:
                raise self._closed_error()
            with self._translated_errors():
                client = client or self._opener.open(**self._bounds)
                yield client
        except BaseException:
            client = self._after_error(client)
            raise
        finally:
            self._readers.put(client)

    # ---- errors ----

    def _after_error(self, client: Client | None) -> Client | None:
        """Return the client to use after an error in a block: with chdb another one, or None to open one later.

        A chdb handle that raised keeps the rows that it had written so far, and gives them to the next question.
        """
        if client is None or not self.embedded:
            return client
        fresh = None
        with suppress(Unavailable):
            fresh = self._opener.open(
                **self._bounds
            )  # before the other is closed: the engine ends with its last handle
        client.close()
        return fresh

    def _closed_error(self) -> Unavailable:
        return Unavailable(f"The warehouse at {self.where} is closed", "Open it again with connect().")

    @contextmanager
    def _translated_errors(self, *, writing: bool = False) -> Iterator[None]:
        """Translate the driver's errors to BadQuery and Unavailable with a hint.

        A mistake in a question's own SQL stays the driver's DatabaseError. A refused write is always Unavailable.
        """
        try:
            yield
        except DatabaseError as error:
            code, text = error.code, _first_line(error)
            unanswered = code is None and type(error) in (DatabaseError, OperationalError, StreamFailureError)
            kind = refusal(code, text)
            if code in NOT_MIGRATED:
                message = f"The warehouse at {self.where} lacks a table: {text}"
            elif code in NOT_ALLOWED:
                message = f"The warehouse at {self.where} refuses this user: {text}"
            elif code in TOO_MUCH and not writing:
                raise BadQuery(
                    "query", f"(code {code})", "too slow or too large: narrow the period or group more coarsely"
                ) from error
            elif code == CHANGED and not writing:
                kind = CHANGED_MEANWHILE
                message = f"The warehouse at {self.where} was changed while it was asked: {text}"
            elif unanswered:
                message = f"The warehouse at {self.where} does not answer: {text}"
            elif writing:
                message = f"The warehouse at {self.where} does not take a write: {text}"
            elif kind not in (MISMATCH, UNKNOWN):
                message = f"The warehouse at {self.where} cannot answer now: {text}"
            else:
                raise
            raise Unavailable(message, kind.hint, reason=kind.reason, lasting=kind.lasting) from error


def _unscoped(name: str, fragments: Mapping[str, str] | None) -> str:
    """Return the SQL of a question that returns no tenant's rows to a caller."""
    file = sql_file(name)
    if file.access in (Access.TENANT, Access.OPERATOR):
        raise ValueError(f"{name} returns tenants' rows: run it through a LedgerReader")
    return with_clusters(file.render(fragments), renamed=False)


class _Body(bytes):
    """The body of an insert: its statement and its rows.

    The driver decodes a command's data, to see whether it only reads: a tenth of a worker's CPU. This does not decode.
    """

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "INSERT"


def _body(sql: str, rows: pa.Buffer) -> _Body:
    """Return the statement and the rows as one body, which the server reads from the one to the other.

    In the address, the driver would encode the statement twice, character by character. `BOUND`, which binds its
    parameters, stays there.
    """
    return _Body(b"\n".join((sql.encode(), rows)))


def _first_line(error: Exception) -> str:
    """Return the first line without the request's address, which holds all parameters of the statement."""
    return _URL.sub("", str(error).partition("\n")[0])[:400]
