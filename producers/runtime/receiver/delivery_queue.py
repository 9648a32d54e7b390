"""Queue between HTTP requests and the brokers: a request is answered when all of its messages are acknowledged.

One thread numbers the events of requests, stores them on disk (`producers.runtime.spool`) and sends them
(`producers.runtime.delivery`). Requests that arrive while it is busy are stored in one transaction, so that one sync of
the disk serves all of them.

The number of a stored message never changes. A message that the brokers refuse is sent again unchanged until it is
acknowledged, by the next run if need be, even when its request has timed out. So the numbers of a source have no gaps.
A client that got a 503 sends its request again. The second row has the same identity as the first (an event's source
and id, or a request's id), so it counts once.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from contracts.errors import Unavailable, WattlogError
from producers.runtime.clock import Clock
from producers.runtime.deduplication import MARK, DeduplicationWindow
from producers.runtime.event_sequence import Sequencer
from producers.runtime.outbox import Outbox
from producers.runtime.receiver.problems import RETRY_S, Rejected
from producers.runtime.receiver.sender_memories import SenderMemories, SenderMemory
from producers.runtime.spool import Outgoing, SpoolFull, sizes_of
from producers.runtime.topic_shares import TOPICS, room_for

log = logging.getLogger(__name__)

MAX_SOURCES = 20_000
"""Maximum number of event sources (workloads) of a sender in one run."""
MAX_COUNTED_SENDERS = 1_000
"""Senders whose sources are counted apart; those of further ones are counted together."""
_MAX_REQUESTS = 256
"""Maximum number of requests that one transaction stores."""
_IDLE_S, _SLOWEST_S, _QUICKEST_S = 0.5, 0.1, 0.002
"""Seconds to wait for requests: with nothing to send, with silent brokers, with acknowledgements due."""
AFTER_REFUSAL_MS = 500
"""Pause of a topic after a refusal by the brokers."""


class NumberedOutbox(Outbox, Protocol):
    """Outbox that numbers its messages in ascending order: a view of a `producers.runtime.delivery.Delivery`."""

    @property
    def delivered(self) -> int: ...
    @property
    def oldest(self) -> int | None: ...
    @property
    def newest(self) -> int: ...
    def offer(self, messages: Sequence[Outgoing], checkpoints: Mapping[str, bytes] | None = None) -> range: ...
    def waiting_for(self, topic: str) -> int: ...
    def check_room(self, sizes: Mapping[str, int]) -> None: ...


Changes = Sequence[tuple[Any, Mapping[int, Any]]]
"""Stores (`SeriesTotals`, `EstimatedCalls`) with the old and the new value of each key."""


class PendingRequest:
    """Request that waits for the acknowledgement of its messages.

    `answer` is called with None when the brokers have acknowledged all of them, else with the error. `identities` are
    new to the sender's memory; `changes` are a trial's. With `has_repeats`, some items arrived before: then the
    request also waits for all messages that were stored before it.
    """

    def __init__(
        self, messages: Sequence[Outgoing], answer: Callable[[WattlogError | None], None],
        identities: Sequence[str] = (), has_repeats: bool = False, changes: Changes = (), sender: str = "",
        memory: SenderMemory | None = None,
    ) -> None:  # fmt: skip
        self.sender, self.memory = sender, memory
        self.messages, self.answer, self.identities, self.has_repeats = messages, answer, identities, has_repeats
        self.changes = [(store, values) for store, values in changes if values]
        self.left = len(messages) + (1 if has_repeats else 0)

    @property
    def has_contents(self) -> bool:
        """False for a request that only wakes the thread."""
        return bool(self.messages or self.identities or self.has_repeats or self.changes)


class DeliveryQueue:
    """Bounded queue of requests, and the thread that sends their messages through an outbox.

    At most `max_waiting` events wait for acknowledgement; beyond, requests are refused (503). Each topic has its share
    of them, and of the spool: requests for one that the brokers refuse do not keep those for others out.
    `on_resent` is called with the number of messages that the brokers have refused; these are sent again. The outbox
    given to `start` must call `acknowledge` with each acknowledged number.
    """

    def __init__(
        self, clock: Clock, *, max_waiting: int, max_sources: int = MAX_SOURCES,
        on_resent: Callable[[int], None] = lambda _: None, memories: SenderMemories | None = None,
    ) -> None:  # fmt: skip
        self._memories = SenderMemories() if memories is None else memories
        self._clock, self._max_waiting, self._max_sources = clock, max_waiting, max_sources
        self._on_resent = on_resent
        self._numbers = Sequencer(clock.wall_ms())
        self._sources: dict[str, set[str]] = {}
        """By sender."""
        self._inbox: queue.SimpleQueue[PendingRequest] = queue.SimpleQueue()
        self._due: dict[int, PendingRequest] = {}
        self._followers: list[tuple[int, PendingRequest]] = []
        """Requests that wait for all messages up to a number."""
        self._newest = 0
        self._outbox: NumberedOutbox | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._wait_s = _QUICKEST_S
        self.waiting = 0
        """Number of events that the brokers have not acknowledged, as of the thread's last step."""
        self.failed: WattlogError | None = None
        """Error after which this process can send no more and must be restarted; None while it works."""

    # Called from any thread

    def check_room(self, more: int = 1) -> None:
        """Raise Rejected where `more` events have no room: 503, or 413 where they exceed the bound by themselves."""
        if more > self._max_waiting:
            raise Rejected(413, "too-large", f"This makes {more:,} messages, {self._max_waiting:,} may wait.")
        waiting = self.waiting
        if waiting + more > self._max_waiting:
            raise Rejected(
                503, "queue-full", f"{waiting:,} events wait for the brokers and {self._max_waiting:,} may; "
                "send this again later.", retry_s=RETRY_S,
            )  # fmt: skip

    async def send(
        self,
        messages: Sequence[Outgoing],
        timeout_s: float,
        identities: Sequence[str] = (),
        *,
        has_repeats: bool = False,
        changes: Changes = (),
        sender: str = "",
        memory: SenderMemory | None = None,
    ) -> None:
        """Return when the brokers have acknowledged these messages; with `has_repeats`, all earlier messages too.

        Raises Rejected (503) where they have not within `timeout_s` or the queue is full, Unavailable where they could
        not be stored or sent. In each case the client may send them again: they count once.
        """
        if not messages and not identities and not has_repeats and not any(values for _, values in changes):
            return
        if self.failed:
            raise self.failed
        self.check_room(len(messages))
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def answer(error: WattlogError | None) -> None:
            with suppress(RuntimeError):  # The event loop has ended, and with it the request.
                loop.call_soon_threadsafe(_resolve, answered, error)

        request = PendingRequest(
            messages, answer, identities, has_repeats=has_repeats, changes=changes, sender=sender, memory=memory
        )
        self._inbox.put(request)
        try:
            async with asyncio.timeout(timeout_s):
                await answered
        except TimeoutError:
            raise Rejected(
                503, "not-acknowledged", f"The brokers have not acknowledged this within {timeout_s:g} s; send it "
                "again under the same ids, it counts once.", retry_s=RETRY_S,
            ) from None  # fmt: skip

    def fail(self, error: WattlogError) -> None:
        """Note that this process can send no more; open and later requests get this error."""
        log.error("%s", error)
        self.failed = error

    # Called from the thread that made the queue

    def start(self, outbox: NumberedOutbox, *, threaded: bool = True) -> None:
        """Send through `outbox` until `close`: in a separate thread, or where not `threaded`, in calls of `step`."""
        self._outbox, self.waiting, self._newest = outbox, outbox.waiting, outbox.newest
        if threaded:
            self._thread = threading.Thread(target=self._run, name="delivery-queue", daemon=True)
            self._thread.start()

    def close(self, within_s: float = 30.0) -> None:
        """Send what the brokers take within `within_s` seconds. What remains waits on disk for the next run."""
        self._closing.set()
        self._inbox.put(PendingRequest((), lambda _: None))  # Wakes the thread.
        if self._thread:
            self._thread.join()
        deadline_ms = self._clock.monotonic_ms() + within_s * 1000
        while not self.failed and self._busy() and self._clock.monotonic_ms() < deadline_ms:
            self.step()
        if self.waiting:
            log.warning("%d events wait on disk; the next run sends them", self.waiting)

    # Called from the queue's own thread

    def acknowledge(self, number: int) -> None:
        """Note that the brokers have acknowledged the message with this number."""
        request = self._due.pop(number, None)
        if request is not None:
            _count_down(request)

    def step(self, wait_s: float | None = None) -> None:
        """Store the messages of new requests, send waiting messages, and serve acknowledgements.

        It first waits for requests, up to `wait_s` seconds. By default the wait adapts to the load.
        """
        outbox = self._outbox
        assert outbox is not None
        if wait_s is None:
            wait_s = self._wait_s if outbox.waiting else _IDLE_S
        requests = self._receive(wait_s)
        if requests:
            self._store(outbox, requests)
            self.waiting = outbox.waiting
        before = (outbox.failures, outbox.delivered)
        outbox.pump()
        if outbox.failures > before[0]:
            self._on_resent(outbox.failures - before[0])
        self.waiting = outbox.waiting
        self._answer_followers(outbox)
        progress = requests or outbox.delivered > before[1]
        self._wait_s = _QUICKEST_S if progress else min(self._wait_s * 1.5, _SLOWEST_S)

    def _run(self) -> None:
        try:
            while not self._closing.is_set() and not self.failed:
                self.step()
        except Exception as error:  # Of any class: a listener that can send nothing must not report itself healthy.
            log.exception("the delivery ended")
            self.fail(Unavailable(f"The delivery ended: {error!r}", "Restart this producer; its log says more."))
        finally:
            if self.failed:
                for request in {*self._due.values(), *(request for _, request in self._followers), *self._receive(0)}:
                    request.answer(self.failed)

    def _answer_followers(self, outbox: NumberedOutbox) -> None:
        """Answer the followers whose last message is now acknowledged."""
        if not self._followers:
            return
        oldest = outbox.oldest
        ready = [request for number, request in self._followers if oldest is None or number < oldest]
        self._followers = [
            (number, request) for number, request in self._followers if oldest is not None and number >= oldest
        ]
        for request in ready:
            _count_down(request)

    def _busy(self) -> bool:
        return self.waiting > 0 or not self._inbox.empty()

    def _receive(self, wait_s: float) -> list[PendingRequest]:
        requests: list[PendingRequest] = []
        with suppress(queue.Empty):
            requests.append(self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait())
            while len(requests) < _MAX_REQUESTS:
                requests.append(self._inbox.get_nowait())
        return [request for request in requests if request.has_contents]

    def _store(self, outbox: NumberedOutbox, requests: Sequence[PendingRequest]) -> None:
        """Number and store the messages of requests in one transaction; answer refused requests with the reason."""
        accepted: list[PendingRequest] = []
        messages: list[Outgoing] = []
        event_numbers: list[tuple[str, int]] = []
        outbox.heed_claims(self._numbers, self._clock.wall_ms())
        counts, sizes = Counter[str](), Counter[str]()
        """Events and bytes of the accepted requests by topic."""
        for request in requests:
            try:
                self._check_room_on_disk(outbox, request, counts, sizes)
                self._add_sources(request.sender, {message.source for message in request.messages})
                window = self._window_of(request)
            except (Rejected, SpoolFull) as error:
                request.answer(error)
                continue
            accepted.append(request)
            counts.update(message.topic for message in request.messages)
            sizes.update(sizes_of(request.messages))
            window.add(request.identities)
            for store, values in request.changes:
                store.apply(values)
            for message in request.messages:
                event_numbers.append((message.source, self._numbers.next(message.source, message.topic)))
                epoch = self._numbers.epoch_of(message.source)
                messages.append(message.renumber(epoch, event_numbers[-1][1]))
        try:
            self._memories.make_room()
            checkpoints = self._memories.changed_parts()
            spool_numbers = outbox.offer(messages, checkpoints) if messages or checkpoints else range(0)
            self._memories.mark_stored()
        except WattlogError as error:
            for source, seq in reversed(event_numbers):
                self._numbers.take_back(source, seq)
            for request in reversed(accepted):
                self._memories.of(request.sender).window.forget(request.identities)
                for store, values in request.changes:
                    store.undo(values)
                request.answer(error)
            return
        spool_number = iter(spool_numbers)
        self._newest = spool_numbers[-1] if spool_numbers else self._newest
        for request in accepted:
            for _ in request.messages:
                self._due[next(spool_number)] = request
            if request.has_repeats:
                self._followers.append((self._newest, request))
            if not request.left:
                request.answer(None)

    def _check_room_on_disk(
        self, outbox: NumberedOutbox, request: PendingRequest, counts: Counter[str], sizes: Counter[str]
    ) -> None:
        """Raise Rejected (503, 413) or SpoolFull where a request finds no room in its topics' shares.

        `counts` and `sizes` are of the requests that are stored with it.
        """
        for topic, more in Counter(message.topic for message in request.messages).items():
            held = {name: outbox.waiting_for(name) + counts[name] for name in TOPICS}
            if more <= room_for(topic, held, self._max_waiting):
                continue
            if more > (limit := room_for(topic, {}, self._max_waiting)):
                raise Rejected(413, "too-large", f"This makes {more:,} messages, {limit:,} may wait.")
            raise Rejected(
                503, "queue-full", f"{held[topic]:,} events of this kind wait for the brokers, and no more may; send "
                "this again later.", retry_s=RETRY_S,
                log_text=f"{held[topic]:,} events wait for {topic}: may this producer write it?",
            )  # fmt: skip
        outbox.check_room(sizes + sizes_of(request.messages))

    def _window_of(self, request: PendingRequest) -> DeduplicationWindow:
        """Return the window of a request's sender. Raises Rejected (503) for what another of its requests added or
        changed while this one was parsed: when the client sends the request again, that item is skipped.
        """
        memory = self._memories.of(request.sender) if request.memory is None else request.memory
        items = (identity for identity in request.identities if not identity.startswith(MARK))
        fits = not any(map(memory.window.has, items)) and all(store.fits(values) for store, values in request.changes)
        if fits and (request.identities or request.changes):
            fits = self._memories.keep(request.sender, memory)
        if not fits:
            raise Rejected(
                503, "under-way", "Another request has just brought some of this; send it again, it counts once.",
                retry_s=1,
            )  # fmt: skip
        return memory.window

    def _add_sources(self, sender: str, sources: set[str]) -> None:
        """Note a sender's sources. Raises Rejected (503) for too many of its own; other senders are not concerned."""
        if sender not in self._sources and len(self._sources) >= MAX_COUNTED_SENDERS:
            sender = ""
        own = self._sources.setdefault(sender, set())
        if len(own | sources) > self._max_sources:
            raise Rejected(
                503, "too-many-workloads", f"This run has seen {self._max_sources:,} workloads of this sender, and "
                "takes no more; are ids used as names of workloads?",
                log_text=f"{self._max_sources:,} workloads of {sender!r}: are ids used as names of workloads?",
            )  # fmt: skip
        own |= sources


def _count_down(request: PendingRequest) -> None:
    request.left -= 1
    if not request.left:
        request.answer(None)


def _resolve(answered: asyncio.Future[None], error: WattlogError | None) -> None:
    if answered.done():
        return
    if error is None:
        answered.set_result(None)
    else:
        answered.set_exception(error)
