"""Queue between requests and the log: a request is answered when the brokers have acknowledged all of its messages.

One thread numbers what requests bring, keeps it on disk (`producers.runtime.spool`) and sends it
(`producers.runtime.delivery`). What came while it was busy it keeps in one transaction: a sync of the disk serves all
of it.

A number that was taken stays taken: a message that the brokers refuse, or that nobody waits for any more, is sent again
as it was until it is acknowledged, by the next run too. So a source's numbers have no holes, whatever its clients are
told; and a client that was told 503 and sends again makes a row that agrees with the first in what identifies it (an
event's source and id, a request's id), which counts once.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from contracts import codec, topics
from contracts.errors import BadInput, Unavailable, WattlogError
from contracts.events import Batch, Event
from producers.api import WorkloadBatch
from producers.runtime.clock import Clock
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.event_sequence import Sequencer, event_of, source_of
from producers.runtime.receiver.problems import RETRY_S, Rejected

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 900_000
"""Kafka's clients take 1,000,000 bytes, headers and all; a message above that could never be sent."""
MAX_SOURCES = 20_000
"""Workloads that one run numbers events of."""
_TOGETHER = 256
"""Requests kept in one transaction."""
_IDLE_S, _SLOWEST_S, _QUICKEST_S = 0.5, 0.1, 0.002
"""How long to wait for requests: with nothing to send, with brokers that are silent, with acknowledgements due."""
_AFTER_REFUSAL_MS = 500
_NAMES = {topics.TOKENS: "tokens", topics.POWER: "power", topics.USAGE: "usage"}


class Ready(NamedTuple):
    """A checked batch, its packed body, and the source that numbers it."""

    source: str
    cluster: str
    workload: str
    batch: Batch
    body: bytes


def ready(kind: str, node: str, made: Sequence[WorkloadBatch]) -> list[Ready]:
    """Batches that can be sent. Pure. Raises BadInput for what the log does not take, Rejected (413) where a batch is
    too large for one message."""
    found = []
    for cluster, workload, batch, _ in made:
        topics.check_name("cluster", cluster)
        topics.check_name("workload", workload)
        source = source_of(f"{kind}-{_NAMES[codec.topic_of(batch)]}", cluster, node, workload)
        if len(source) > codec.MAX_SOURCE:
            raise BadInput(
                "workload", workload, f"makes a source of more than {codec.MAX_SOURCE} characters; shorten it"
            )
        body = codec.encode_batch(batch)
        headers = codec.headers_of(Event(source, 10**18, 10**14, cluster, workload, batch))  # The longest number.
        size = len(body) + sum(len(name) + len(text) for name, text in headers)
        if size > MAX_MESSAGE_BYTES:
            raise Rejected(413, "too-large", f"{size:,} bytes of {workload!r} fit into no message; send fewer at once.")
        found.append(Ready(source, cluster, workload, batch, body))
    return found


class Keeper(Protocol):
    """`producers.runtime.delivery.Delivery`."""

    @property
    def waiting(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def oldest(self) -> int | None: ...
    @property
    def newest(self) -> int: ...
    def offer(self, events: Sequence[Event], marks: Mapping[str, bytes] | None = None) -> range: ...
    def pump(self, timeout_s: float = 0.0) -> None: ...


class PendingRequest:
    """Messages of one request. `answer` is called with None when the brokers have all of them, else with the error.
    `again`: some of it came before; then that is waited for too, with whatever else was kept by now."""

    def __init__(
        self, items: Sequence[Ready], answer: Callable[[WattlogError | None], None], names: Sequence[str] = (),
        again: bool = False,
    ) -> None:  # fmt: skip
        self.items, self.answer, self.names, self.again = items, answer, names, again
        self.left = len(items) + again


class DeliveryQueue:
    """The way to the brokers. `start` gives it what it sends by, which tells `done` what was acknowledged.

    Bounded: at most `max_waiting` events that are not acknowledged; beyond, requests are refused (503). `on_resent` is
    told how many messages the brokers have refused; each is sent again.
    """

    def __init__(
        self, clock: Clock, *, max_waiting: int, max_sources: int = MAX_SOURCES,
        on_resent: Callable[[int], None] = lambda _: None, recent: DeduplicationWindow | None = None,
    ) -> None:  # fmt: skip
        self._recent = DeduplicationWindow() if recent is None else recent
        self._clock, self._max_waiting, self._max_sources = clock, max_waiting, max_sources
        self._on_resent = on_resent
        self._numbers = Sequencer(clock.wall_ms())
        self._sources: set[str] = set()
        self._inbox: queue.SimpleQueue[PendingRequest] = queue.SimpleQueue()
        self._due: dict[int, PendingRequest] = {}
        self._behind: list[tuple[int, PendingRequest]] = []
        """Orders that wait for every message up to a number."""
        self._newest = 0
        self._keeper: Keeper | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._not_before_ms = 0
        self._wait_s = _QUICKEST_S
        self.waiting = 0
        """Events that the brokers are not known to have, as of the thread's last step."""
        self.failed: WattlogError | None = None
        """Why it can send no more, in this process: it has to be started anew."""

    # Any thread

    def check_room(self, more: int = 1) -> None:
        """Raises Rejected where so many more events cannot wait: 503, or 413 where they never could."""
        if more > self._max_waiting:
            raise Rejected(413, "too-large", f"This makes {more:,} messages, {self._max_waiting:,} may wait.")
        if self.waiting + more > self._max_waiting:
            raise Rejected(
                503, "queue-full", f"{self.waiting:,} events wait for the brokers and {self._max_waiting:,} may; "
                "send this again later.", retry_s=RETRY_S,
            )  # fmt: skip

    async def send(
        self, items: Sequence[Ready], timeout_s: float, names: Sequence[str] = (), *, again: bool = False
    ) -> None:
        """Returns when the brokers have acknowledged all of it (`again`: and of what was kept before). Raises Rejected
        or Unavailable where they have not, or where it was not kept; then it may be sent again: what was kept is the
        same row."""
        if not items and not names and not again:
            return
        if self.failed:
            raise self.failed
        self.check_room(len(items))
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def answer(error: WattlogError | None) -> None:
            with suppress(RuntimeError):  # The loop has ended, and nobody waits.
                loop.call_soon_threadsafe(_settle, answered, error)

        self._inbox.put(PendingRequest(items, answer, names, again))
        try:
            async with asyncio.timeout(timeout_s):
                await answered
        except TimeoutError:
            raise Rejected(
                503, "not-acknowledged", f"The brokers have not acknowledged this within {timeout_s:g} s; send it "
                "again under the same ids, it counts once.", retry_s=RETRY_S,
            ) from None  # fmt: skip

    def fail(self, error: WattlogError) -> None:
        """It can send no more in this process."""
        log.error("%s", error)
        self.failed = error

    # The delivery's thread

    def start(self, keeper: Keeper, *, threaded: bool = True) -> None:
        """Sends by `keeper` from now on, in a thread of its own, until `close`."""
        self._keeper, self.waiting, self._newest = keeper, keeper.waiting, keeper.newest
        if threaded:
            self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
            self._thread.start()

    def close(self, within_s: float = 30.0) -> None:
        """Sends what it can within so many seconds. The rest waits on disk, for the next run."""
        self._closing.set()
        self._inbox.put(PendingRequest((), lambda _: None))  # Wakes the thread.
        if self._thread:
            self._thread.join()
        deadline_ms = self._clock.monotonic_ms() + within_s * 1000
        while not self.failed and self._busy() and self._clock.monotonic_ms() < deadline_ms:
            self.step()
        if self.waiting:
            log.warning("%d events wait on disk; the next run sends them", self.waiting)

    def done(self, number: int) -> None:
        """The brokers have this message."""
        order = self._due.pop(number, None)
        if order is not None:
            _one_less(order)

    def step(self, wait_s: float | None = None) -> None:
        """Takes what requests have brought, keeps it, sends what waits, hears what was acknowledged. Waits for requests
        first, `wait_s` seconds at most: as long as it sees fit, unless told."""
        keeper = self._keeper
        assert keeper is not None
        fit_s = self._wait_s if keeper.waiting else _IDLE_S
        orders = self._take(fit_s if wait_s is None else wait_s)
        if orders:
            self._keep(keeper, orders)
            self.waiting = keeper.waiting
        before = (keeper.failures, keeper.delivered)
        if self._clock.monotonic_ms() >= self._not_before_ms:
            keeper.pump()
        if keeper.failures > before[0]:
            self._on_resent(keeper.failures - before[0])
            self._not_before_ms = self._clock.monotonic_ms() + _AFTER_REFUSAL_MS
        self.waiting = keeper.waiting
        self._let_follow(keeper)
        moved = orders or keeper.delivered > before[1]
        self._wait_s = _QUICKEST_S if moved else min(self._wait_s * 1.5, _SLOWEST_S)

    def _run(self) -> None:
        try:
            while not self._closing.is_set() and not self.failed:
                self.step()
        except Exception as error:  # Whatever it is, a listener that can send nothing must not look well.
            log.exception("the delivery ended")
            self.fail(Unavailable(f"The delivery ended: {error!r}", "Restart this producer; its log says more."))
        finally:
            if self.failed:
                for order in {*self._due.values(), *(order for _, order in self._behind), *self._take(0)}:
                    order.answer(self.failed)

    def _let_follow(self, keeper: Keeper) -> None:
        """Answer those for whom the last message that they waited for was acknowledged."""
        if not self._behind:
            return
        oldest = keeper.oldest
        ready = [order for number, order in self._behind if oldest is None or number < oldest]
        self._behind = [(number, order) for number, order in self._behind if oldest is not None and number >= oldest]
        for order in ready:
            _one_less(order)

    def _busy(self) -> bool:
        return self.waiting > 0 or not self._inbox.empty()

    def _take(self, wait_s: float) -> list[PendingRequest]:
        orders: list[PendingRequest] = []
        with suppress(queue.Empty):
            orders.append(self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait())
            while len(orders) < _TOGETHER:
                orders.append(self._inbox.get_nowait())
        return [order for order in orders if order.items or order.names or order.again]

    def _keep(self, keeper: Keeper, orders: Sequence[PendingRequest]) -> None:
        """Number and keep what orders bring, all in one transaction; or answer why not."""
        kept: list[PendingRequest] = []
        events: list[Event] = []
        for order in orders:
            try:
                self.check_room(len(events) + len(order.items))
                self._know({item.source for item in order.items})
                self._check_names(order)
            except Rejected as error:
                order.answer(error)
                continue
            kept.append(order)
            self._recent.add(order.names)
            events += [event_of(self._numbers, *item) for item in order.items]
        try:
            marks = self._recent.marks()
            numbered = keeper.offer(events, marks) if events or marks else range(0)
            self._recent.saved()
        except WattlogError as error:
            for event in reversed(events):
                self._numbers.take_back(event)
            for order in kept:
                self._recent.forget(order.names)
                order.answer(error)
            return
        numbers = iter(numbered)
        self._newest = numbered[-1] if numbered else self._newest
        for order in kept:
            for _ in order.items:
                self._due[next(numbers)] = order
            if order.again:
                self._behind.append((self._newest, order))
            if not order.left:
                order.answer(None)

    def _check_names(self, order: PendingRequest) -> None:
        """Raises Rejected (503) for what another request brought while this one was read; next time it is left out."""
        if any(self._recent.has(name) for name in order.names):
            raise Rejected(
                503, "under-way", "Another request has just brought some of this; send it again, it counts once.",
                retry_s=1,
            )  # fmt: skip

    def _know(self, sources: set[str]) -> None:
        if len(self._sources | sources) > self._max_sources:
            raise Rejected(
                503, "too-many-workloads", f"This run has seen {self._max_sources:,} workloads, and takes no more; "
                "are ids used as names of workloads?",
            )  # fmt: skip
        self._sources |= sources


def _one_less(order: PendingRequest) -> None:
    order.left -= 1
    if not order.left:
        order.answer(None)


def _settle(answered: asyncio.Future[None], error: WattlogError | None) -> None:
    if answered.done():
        return
    if error is None:
        answered.set_result(None)
    else:
        answered.set_exception(error)
