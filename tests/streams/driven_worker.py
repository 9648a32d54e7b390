"""A stream worker without Faust: the test delivers messages and moves the clock; the sink is real, with a journal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contracts import topics
from contracts.errors import Unavailable
from contracts.rows import Table, length
from contracts.settings import Settings
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, RejectedMessage
from streams.log_reader import OffsetLookup, TopicPartition
from streams.stream_worker import StreamWorker
from tests.support.clocks import FakeClock
from tests.support.partition_log import Log
from tests.support.waiting import HANG_S, until
from warehouse.client import Warehouse
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

T0 = 1_700_000_000_000
"""A whole window, minute and hour less 800 s: the event time of every test here."""
WINDOW_MS = 10_000

Entry = tuple[Any, ...]
"""`("write", table, rows)`, `("hours",)`, `("commit", topic, offset)` or `("published", topic, offset)`, in order."""


def worker_clock() -> FakeClock:
    """A clock ten minutes after the first event."""
    return FakeClock(now_ms=T0 + 600_000, epoch_ms=0)


class WatchedSink(Sink):
    """The real sink. `fail` so many writes first, and block writes while `open` is clear."""

    def __init__(self, warehouse: Warehouse, journal: list[Entry]) -> None:
        super().__init__(warehouse)
        self.journal = journal
        self.fail: dict[str, int] = {}
        self.refused: list[tuple[str, Table]] = []
        self.open, self.waiting = threading.Event(), threading.Event()
        self.open.set()

    def write(self, name: str, table: Table, fence: Fence | None = None) -> None:
        if not self.open.is_set():
            self.waiting.set()
            assert self.open.wait(HANG_S), "the test never opened the store again"
        if self.fail.get(name, 0):
            self.fail[name] -= 1
            self.refused.append((name, table))
            raise Unavailable("the warehouse is away", "Wait.")
        super().write(name, table, fence)
        self.journal.append(("write", name, table))

    def refresh_hours(self, *touched: Any) -> None:
        super().refresh_hours(*touched)
        self.journal.append(("hours",))


class JournalReader:
    """A reader over a log in memory: committed offsets go to the journal, message by message."""

    def __init__(self, log: Log, journal: list[Entry]) -> None:
        self._log, self._journal = log, journal
        self._next: dict[TopicPartition, int] = {}
        self.sought: list[tuple[str, int]] = []
        self.earliest = dict.fromkeys(topics.JOINED, 0)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        for (topic, partition), offset in offsets.items():
            for n in range(self._next.get((topic, partition), 0), offset):
                self._journal.append(("commit", topic, n))
            self._next[topic, partition] = offset

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        self.sought.append((topic, offset))

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        there = (m.offset for m in self._log.messages[topic] if m.offset >= offset)
        return OffsetLookup(self.earliest[topic], next(there, None))


@dataclass
class Driven:
    """One stream worker over partition 0 of a log in memory."""

    warehouse: Warehouse
    log: Log = field(default_factory=Log)
    clock: FakeClock = field(default_factory=worker_clock)
    settings: Settings = field(default_factory=lambda: settings())
    policy: Policy = field(default_factory=Policy)
    journal: list[Entry] = field(default_factory=list)
    publish: Callable[[RejectedMessage, int], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        self.sink = WatchedSink(self.warehouse, self.journal)
        self.reader = JournalReader(self.log, self.journal)
        publish = self.publish or self._published
        self.stream_worker = StreamWorker(
            settings=self.settings,
            sink=self.sink,
            policy=self.policy,
            log_id="log",
            publish=publish,
            reader=self.reader,
            clock=self.clock,
        )
        self.read_to = dict.fromkeys(topics.JOINED, 0)

    async def _published(self, rejected: RejectedMessage, partition: int) -> None:
        self.journal.append(("published", rejected.message.topic, rejected.message.offset))

    async def put(self, message: LogMessage) -> None:
        """Deliver one message."""
        await self.stream_worker.put(message.topic, 0, (message,))

    async def read(
        self, messages: Iterable[LogMessage] | None = None, *, begin: int | None = None, all_taken: bool = True
    ) -> None:
        """Deliver messages (default: new ones on the log) and return when the stream worker has accepted them, or has
        at least seen them. With `begin`, in one batch that the reader guarantees to be complete.
        """
        if messages is None:
            messages = [m for t in topics.JOINED for m in self.log.messages[t][self.read_to[t] :]]
        messages = list(messages)
        expected = self.stream_worker.messages + len(messages)
        ingesting = asyncio.create_task(self.stream_worker.ingest_forever())
        try:
            if begin is not None:
                await self.stream_worker.put(messages[0].topic, 0, messages, begin)
            for message in messages if begin is None else ():
                await self.put(message)
            for message in messages:
                self.read_to[message.topic] = message.offset + 1
            if all_taken:
                await until(lambda: self.stream_worker.messages >= expected or ingesting.done())
            else:
                await until(lambda: self.stream_worker.idle or ingesting.done())
        finally:
            ingesting.cancel()
            outcome = await asyncio.gather(ingesting, return_exceptions=True)
        if not isinstance(outcome[0], asyncio.CancelledError):
            raise outcome[0]

    @property
    def committed(self) -> dict[str, list[int]]:
        """Committed offsets, in order, by topic."""
        return {t: [e[2] for e in self.journal if e[0] == "commit" and e[1] == t] for t in topics.JOINED}

    @property
    def written(self) -> list[str]:
        return [e[1] for e in self.journal if e[0] == "write"]


def settings(**changed: Any) -> Settings:
    """Small steps, no lateness, provisional rows in every round."""
    values = {"window_ms": WINDOW_MS, "lateness_ms": 0, "skew_ms": 0, "batch_messages": 8, "batch_wait_ms": 1}
    return Settings(**{**values, **changed})


LEDGER = "active_uj, idle_uj, unallocated_uj, prompt_tokens, cached_tokens, completion_tokens, requests, failures"
_KEY = "toUnixTimestamp64Milli(window_start) AS start_ms, cluster, workload, hardware, tenant, model"


def ledger(warehouse: Warehouse, *, final: int = 1) -> dict[Entry, Entry]:
    """The ledger in the oracle's form (tests.support.oracle)."""
    rows = warehouse.query(f"SELECT {_KEY}, {LEDGER} FROM ledger FINAL WHERE final = {{final:UInt8}}", final=final)
    return {tuple(row.values())[:6]: tuple(row.values())[6:] for row in rows}


def hours(warehouse: Warehouse) -> dict[Entry, Entry]:
    """`ledger_hour` in the same form."""
    rows = warehouse.query(f"SELECT {_KEY.replace('window_start', 'hour')}, {LEDGER} FROM ledger_hour FINAL")
    return {tuple(row.values())[:6]: tuple(row.values())[6:] for row in rows}


def days(warehouse: Warehouse) -> dict[Entry, Entry]:
    """`ledger_day` in the same form."""
    rows = warehouse.query(f"SELECT {_KEY.replace('window_start', 'day')}, {LEDGER} FROM ledger_day FINAL")
    return {tuple(row.values())[:6]: tuple(row.values())[6:] for row in rows}


def by_hour(ledger: dict[Entry, Entry], step_ms: int = 3_600_000) -> dict[Entry, Entry]:
    """Windows added up to hours."""
    out: dict[Entry, Entry] = {}
    for (start_ms, *tail), amounts in ledger.items():
        key = (start_ms // step_ms * step_ms, *tail)
        out[key] = tuple(a + b for a, b in zip(out.get(key, (0,) * 8), amounts, strict=True))
    return out


def by_day(ledger: dict[Entry, Entry]) -> dict[Entry, Entry]:
    """Windows added up to days."""
    return by_hour(ledger, 86_400_000)


def plain(table: Table) -> list[tuple[Any, ...]]:
    """A table's rows, for comparison."""
    columns = [c.tolist() if isinstance(c, np.ndarray) else list(c) for c in table.values()]
    return [tuple(c[i] for c in columns) for i in range(length(table))]
