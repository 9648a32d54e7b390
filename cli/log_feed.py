"""Sends recordings and simulated fleets to the event log: paced, with progress, and throttled by the worker's lag."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from contracts import codec, topics
from contracts.errors import Unavailable
from contracts.events import Event
from contracts.units import counted
from producers.recordings.base import BadRow
from producers.runtime.publisher import Publisher
from streams.startup import worker_error
from streams.stream_worker import StreamWorker
from warehouse.client import Warehouse

MAX_UNREAD_BYTES = 1_500_000
"""Limit of unread bytes: the in-process broker drops data beyond 5 MB per partition, and a workload has one."""
MAX_UNREAD_MESSAGES = 20_000
HEADERS_BYTES = 300
"""Approximate size of a message beside its body."""
STALL_S = 90.0
"""Time without progress after which a feed fails."""
BAD_ROW_TYPE = "wattlog.badrow.v1"


@dataclass
class FeedProgress:
    """Events and rows sent to the log so far."""

    events: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """By (topic, source, epoch): number of events, which is the next sequence number."""
    rows: int = 0
    bad_rows: list[BadRow] = field(default_factory=list)
    """Rows that could not be read, which went to the dead-letter topic."""
    newest_ms: int = 0
    """Newest event time."""
    subjects: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of cluster and workload."""


class LogFeed:
    """Sends events to the log, no faster than the `stream_worker` of this process reads them.

    Without a `stream_worker`, workers run elsewhere and nothing throttles the feed. `skew_ms` is how far an event may
    be ahead of the clock. `speed` is event time per wall time; 0 is as fast as possible, 60 is a minute per second.
    """

    def __init__(
        self, publisher: Publisher, stream_worker: StreamWorker | None, skew_ms: int, *, speed: float = 0.0
    ) -> None:
        self.publisher, self._stream_worker, self._skew_ms, self._speed = publisher, stream_worker, skew_ms, speed
        self._unread: deque[int] = deque()
        self._unread_bytes = 0
        self._messages_read = stream_worker.messages if stream_worker else 0
        self.sent = FeedProgress()

    async def run(
        self, events: Iterable[Event | BadRow], progress: Callable[[FeedProgress], None], until_ms: int | None = None
    ) -> None:
        """Send all events, or those up to an event time, and call `progress` after each."""
        begun_s, first_ms = time.monotonic(), 0
        for item in events:
            if isinstance(item, BadRow):
                self._dead_letter(item)
                continue
            event_ms = item.batch.event_ms
            due_ms = item.batch.t_ms or event_ms
            first_ms = first_ms or due_ms
            if self._speed:
                await _sleep_until(begun_s + (due_ms - first_ms) / 1000 / self._speed, self.publisher)
            ahead_ms = event_ms - self._skew_ms - _now_ms()
            if ahead_ms > 0:  # Workers reject events from the future.
                await asyncio.sleep(ahead_ms / 1000)
            await self._send(item)
            progress(self.sent)
            if until_ms is not None and event_ms >= until_ms:
                return
        await asyncio.to_thread(self.publisher.flush)

    async def _send(self, event: Event) -> None:
        size = self.publisher.send(event) + HEADERS_BYTES
        key = (codec.topic_of(event.batch), event.source, event.epoch)
        self.sent.events[key] = max(self.sent.events.get(key, 0), event.seq + 1)
        self.sent.rows += len(event.batch)
        self.sent.subjects.add((event.cluster, event.workload))
        self.sent.newest_ms = max(self.sent.newest_ms, event.batch.event_ms)
        if self._stream_worker:
            self._unread.append(size)
            self._unread_bytes += size
            await self._throttle(self._stream_worker)
        else:
            await asyncio.sleep(0)

    async def wait_until_read(self) -> None:
        """Wait until the worker in this process, if there is one, has read every message sent."""
        if self._stream_worker:
            await self._throttle(self._stream_worker, max_bytes=0, max_messages=0)

    async def _throttle(
        self,
        stream_worker: StreamWorker,
        max_bytes: int = MAX_UNREAD_BYTES,
        max_messages: int = MAX_UNREAD_MESSAGES,
    ) -> None:
        """Wait until at most this much is unread. Raises Unavailable if the worker stops reading."""
        self._count_read(stream_worker)
        stall = StallWatch()
        while self._unread_bytes > max_bytes or len(self._unread) > max_messages:
            self.publisher.poll()
            await asyncio.sleep(0.002)
            self._count_read(stream_worker)
            if stall.is_stalled(self._messages_read):
                raise Unavailable("the worker stopped reading", "See its log above; try `wattlog doctor`.")
        if len(self._unread) % 64 == 0:
            await asyncio.sleep(0)

    def _count_read(self, stream_worker: StreamWorker) -> None:
        """Remove the messages read since the last call from the unread ones."""
        read = stream_worker.messages - self._messages_read
        self._messages_read = stream_worker.messages
        for _ in range(min(read, len(self._unread))):
            self._unread_bytes -= self._unread.popleft()

    def _dead_letter(self, row: BadRow) -> None:
        self.sent.bad_rows.append(row)
        headers = codec.envelope(
            type_=BAD_ROW_TYPE, source=f"replay://{row.file}", id_=f"{row.line}.{len(self.sent.bad_rows)}",
            subject=row.file, t_ms=0, content_type="text/plain; charset=utf-8",
        )  # fmt: skip
        headers += [("wattlog_field", row.column.encode()), ("wattlog_reason", str(row).encode())]
        self.publisher.send_raw(topics.DEADLETTER, None, headers, row.value.encode())


async def run_unless_crashed(
    coroutine: Coroutine[Any, Any, None], crashed: asyncio.Future[BaseException] | None
) -> None:
    """Run a coroutine to its end. If the worker ends first, cancel it and raise the worker's error."""
    task = asyncio.create_task(coroutine)
    awaited: set[asyncio.Future[Any]] = {task, crashed} if crashed else {task}
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    assert crashed is not None
    raise worker_error(crashed.result())


def raise_if_crashed(crashed: asyncio.Future[BaseException] | None) -> None:
    """Raise the error of a worker that has ended."""
    if crashed is not None and crashed.done():
        raise worker_error(crashed.result())


class StallWatch:
    """Tells when something that is looked at again and again has not changed for STALL_S."""

    def __init__(self) -> None:
        self._state: object = None
        self._changed_s = time.monotonic()

    def is_stalled(self, state: object) -> bool:
        """Return True if the state has been the same for too long."""
        if state != self._state:
            self._state, self._changed_s = state, time.monotonic()
        return time.monotonic() - self._changed_s > STALL_S


async def wait_until_stored(
    warehouse: Warehouse, log_id: str, sent: FeedProgress, crashed: asyncio.Future[BaseException] | None
) -> None:
    """Wait until every event sent is stored and final.

    Raises Unavailable after STALL_S without progress, and the worker's error if it ends first.
    """
    expected = {key: count for key, count in sent.events.items() if count}
    stall = StallWatch()
    while True:
        raise_if_crashed(crashed)
        rows = await asyncio.to_thread(
            warehouse.ask,
            "sink/received_events",
            log_id=log_id,
            epochs=sorted({epoch for _, _, epoch in expected}),
        )
        received = {(r["topic"], r["source"], r["epoch"]): r["received"] for r in rows}
        missing = sum(max(count - received.get(key, 0), 0) for key, count in expected.items())
        if not missing:
            return
        if stall.is_stalled(missing):
            raise Unavailable(
                f"{counted(missing, 'event', 'is', 'are')} not final after {STALL_S:g} s",
                "Is a worker running (`wattlog stream`)? Try `wattlog doctor`.",
            )
        await asyncio.sleep(0.1)


async def _sleep_until(due_s: float, publisher: Publisher) -> None:
    while (left_s := due_s - time.monotonic()) > 0:
        publisher.poll()
        await asyncio.sleep(min(left_s, 0.5))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
