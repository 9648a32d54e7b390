"""Clients of a `DiskLog` for producers: they queue messages, and one thread appends what waits, together.

So all producers of a process share one sync of the disk. A client has the interface of a Kafka producer: `send_raw`
queues, and `poll` reports what was appended, in the thread of its caller.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from contracts import codec
from contracts.errors import Unavailable
from streams.disk_log.log_file import DiskLog, NewMessage

MAX_QUEUED = 20_000
"""Messages that wait for the thread; beyond, `send_raw` refuses. Producers bound their own at 256 a topic."""
MAX_TOGETHER = 1_000
"""Messages that one transaction appends."""
_REST_S = 0.5
"""Pause after a refusal: a full log stays full until the warehouse has stored something."""

OnDelivery = Callable[[str | None], None]
_Answer = Callable[[str | None], None]


class LogAppender:
    """Thread that appends the messages of all clients. `wall_ms` gives UTC epoch ms."""

    def __init__(self, log: DiskLog, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._log, self._wall_ms = log, wall_ms
        self._queue: queue.Queue[tuple[NewMessage, _Answer] | None] = queue.Queue(MAX_QUEUED)
        self._thread = threading.Thread(target=self._run, name="log-appender", daemon=True)
        self._closing = threading.Event()
        self._thread.start()

    @contextmanager
    def client(self) -> Iterator[DiskLogClient]:
        """Open a client; what it has queued is appended after its end too."""
        yield DiskLogClient(self)

    def put(self, message: NewMessage, answer: _Answer) -> None:
        """Queue a message; `answer` is called in the thread with None, or with the reason why it was not appended."""
        try:
            self._queue.put_nowait((message, answer))
        except queue.Full:
            raise Unavailable(f"{MAX_QUEUED:,} messages wait for the log", "Is its disk slow?") from None

    def close(self, within_s: float = 5.0) -> None:
        """Append what waits, and end the thread. What remains is in the producers' spools."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch, is_last = self._take()
            if batch:
                self._append(batch)

    def _take(self) -> tuple[list[tuple[NewMessage, _Answer]], bool]:
        """Wait for a message, and return what waits; True where the thread is to end after it."""
        item = self._queue.get()
        batch = []
        while item is not None:
            batch.append(item)
            if len(batch) == MAX_TOGETHER or self._queue.empty():
                return batch, False
            item = self._queue.get()
        return batch, True

    def _append(self, batch: list[tuple[NewMessage, _Answer]]) -> None:
        reason: str | None = None
        try:
            self._log.append([message for message, _ in batch], self._wall_ms())
        except Unavailable as error:
            reason = str(error)
        for _, answer in batch:
            answer(reason)
        if reason is not None:
            self._closing.wait(_REST_S)


class DiskLogClient:
    """Client of one producer: a `producers.runtime.delivery.Broker`."""

    def __init__(self, appender: LogAppender) -> None:
        self._appender = appender
        self._answers: queue.SimpleQueue[tuple[OnDelivery, str | None]] = queue.SimpleQueue()

    def send_raw(
        self, topic: str, key: bytes | None, headers: codec.Headers, value: bytes | None, *, timestamp_ms: int,
        on_delivery: OnDelivery,
    ) -> None:  # fmt: skip
        """Queue a message. Raises Unavailable where too many wait.

        The log has one partition, so it needs no key; the time of an event is in its contents.
        """
        self._appender.put(NewMessage(topic, headers, value), lambda reason: self._answers.put((on_delivery, reason)))

    def poll(self, timeout_s: float = 0.0) -> None:
        """Call `on_delivery` of each message that was answered, after waiting up to `timeout_s` for the first."""
        try:
            answer = self._answers.get(timeout=timeout_s) if timeout_s > 0 else self._answers.get_nowait()
            while True:
                on_delivery, reason = answer
                on_delivery(reason)
                answer = self._answers.get_nowait()
        except queue.Empty:
            return
