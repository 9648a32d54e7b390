"""Delivery from the spool to the broker: in order, bounded, and until it is acknowledged.

`offer` keeps events on disk; `pump`, called again and again by one thread, sends what waits and forgets what the broker
has. What the broker refused is sent again as it was, with its own number, so it can neither be lost nor counted twice.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from contracts import codec, topics
from contracts.errors import Unavailable
from contracts.events import Event
from producers.runtime.publisher import OnDelivery
from producers.runtime.spool import Full, Outgoing, Spool

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256
"""Messages at the client; the rest waits on disk."""


class Broker(Protocol):
    """`producers.runtime.publisher.Publisher`."""

    def send_raw(
        self, topic: str, key: bytes | None, headers: codec.Headers, value: bytes | None, *, timestamp_ms: int,
        on_delivery: OnDelivery,
    ) -> None: ...  # fmt: skip
    def poll(self, timeout_s: float = 0.0) -> None: ...


class Outbox(Protocol):
    """View of a `Delivery` that producers use."""

    @property
    def waiting(self) -> int: ...
    @property
    def failures(self) -> int: ...
    def offer(self, events: Sequence[Event], marks: Mapping[str, bytes] | None = None) -> object: ...
    def pump(self, timeout_s: float = 0.0) -> None: ...


def outgoing(event: Event) -> Outgoing:
    """An event as the message that it becomes. Raises BadEvent when it breaks its contract."""
    headers, value = codec.encode(event)
    key = topics.key(event.cluster, event.workload).encode()
    return Outgoing(codec.topic_of(event.batch), key, headers, value, event.batch.event_ms)


class Delivery:
    """Sender of a spool's messages. `pump` calls `on_done` with the number of each message that the broker has."""

    def __init__(
        self, spool: Spool, broker: Broker, *, max_in_flight: int = MAX_IN_FLIGHT,
        on_done: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._spool, self._broker, self._max_in_flight, self._on_done = spool, broker, max_in_flight, on_done
        self._sent_up_to = 0
        self._in_flight: set[int] = set()
        self._refused: deque[tuple[int, Outgoing]] = deque()
        self._acknowledged: list[int] = []
        self.delivered = 0
        """Messages that the broker has acknowledged."""
        self.failures = 0
        """Refusals by the broker; each message is sent again."""

    @property
    def waiting(self) -> int:
        """Events that the broker is not known to have."""
        return int(self._spool.events) - len(self._acknowledged)

    @property
    def oldest(self) -> int | None:
        """The least number of what waits on disk; None where nothing does."""
        return self._spool.ends()[0]

    @property
    def newest(self) -> int:
        """The greatest number of what waits on disk; 0 where nothing does."""
        return self._spool.ends()[1] or 0

    def offer(self, events: Sequence[Event], marks: Mapping[str, bytes] | None = None) -> range:
        """Keep events, with the marks that they were made up to, and send them from the next `pump` on.

        Raises BadEvent when one breaks its contract, Full when there is no room: then nothing is kept.
        """
        return self._spool.put([outgoing(event) for event in events], marks)

    def pump(self, timeout_s: float = 0.0) -> None:
        """Send what there is room for, after `timeout_s` seconds of waiting for answers."""
        self._broker.poll(timeout_s)
        self._forget()
        try:
            while self._refused and self._has_room():
                self._send(*self._refused[0])
                self._refused.popleft()
            while self._has_room():
                found = self._spool.after(self._sent_up_to, self._max_in_flight - len(self._in_flight))
                for number, message in found:
                    self._send(number, message)
                    self._sent_up_to = number
                if not found:
                    return
        except Unavailable as error:
            log.error("not sent now, kept on disk: %s", error)

    def _has_room(self) -> bool:
        return len(self._in_flight) < self._max_in_flight

    def _send(self, number: int, message: Outgoing) -> None:
        def answered(reason: str | None) -> None:
            self._in_flight.discard(number)
            if reason is None:
                self._acknowledged.append(number)
                self.delivered += 1
                self._on_done(number)
                return
            self.failures += 1
            self._refused.append((number, message))
            log.error("a message for %s was not stored and is sent again: %s", message.topic, reason)

        self._in_flight.add(number)
        try:
            self._broker.send_raw(
                message.topic, message.key, message.headers, message.value, timestamp_ms=message.t_ms,
                on_delivery=answered,
            )  # fmt: skip
        except BaseException:
            self._in_flight.discard(number)
            raise

    def _forget(self) -> None:
        if not self._acknowledged:
            return
        try:
            self._spool.done(self._acknowledged)
        except (
            Full
        ) as error:  # They stay known as done here; another run would send them again, and they be recognised.
            log.error("%s", error)
            return
        self._acknowledged.clear()
