"""Delivery from the spool to the broker: in order by topic, bounded, and until each message is acknowledged.

`offer` stores messages on disk. `pump`, which one thread calls repeatedly, sends stored messages and deletes those that
the broker has acknowledged. A message that the broker refused is sent again under its number, so it is neither lost nor
counted twice. Topics do not wait for each other: where one is missing or not authorized, the others go on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contracts import codec, topics
from contracts.errors import Unavailable
from contracts.events import Event
from producers.runtime.claim_watch import ClaimWatch
from producers.runtime.clock import Clock
from producers.runtime.event_sequence import Sequencer
from producers.runtime.publisher import OnDelivery
from producers.runtime.rare_log import RareLog
from producers.runtime.spool import Outgoing, Spool, SpoolFull

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256
MAX_IN_FLIGHT_BYTES = 16 * 2**20
"""Maximum number and bytes of a topic's messages at the Kafka client; further ones wait on disk.

The client's queue has room for those of each topic (`publisher.DEFAULTS`): a topic that is refused leaves the others
theirs.
"""


class Broker(Protocol):
    """View of a `producers.runtime.publisher.Publisher` that a delivery uses."""

    def send_raw(
        self, topic: str, key: bytes | None, headers: codec.Headers, value: bytes | None, *, timestamp_ms: int,
        on_delivery: OnDelivery,
    ) -> None: ...  # fmt: skip
    def poll(self, timeout_s: float = 0.0) -> None: ...


def encode_message(event: Event) -> Outgoing:
    """Encode an event as a message. Raises BadEvent when the event breaks its contract."""
    headers, value = codec.encode(event)
    key = topics.key(event.cluster, event.workload).encode()
    return Outgoing(codec.topic_of(event.batch), key, headers, value, event.batch.event_ms)


@dataclass(slots=True)
class _TopicProgress:
    """Progress of one topic: what has been sent, and what the broker refused."""

    sent_up_to: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)
    """Bytes by number."""
    in_flight_bytes: int = 0
    refused: deque[tuple[int, Outgoing]] = field(default_factory=deque)
    not_before_ms: float = 0
    """When the topic is tried again after a refusal, by the monotonic clock."""
    error: str | None = None
    """Why the topic takes no message now, as logged last; None while it takes them."""
    log: RareLog = field(default_factory=lambda: RareLog(log))

    def has_room(self, message: Outgoing) -> bool:
        """Return whether a message may be sent now; the first one always may."""
        return not self.in_flight or self.in_flight_bytes + message.size <= MAX_IN_FLIGHT_BYTES

    def begin(self, number: int, message: Outgoing) -> None:
        self.in_flight[number] = message.size
        self.in_flight_bytes += message.size

    def end(self, number: int) -> None:
        self.in_flight_bytes -= self.in_flight.pop(number, 0)


class Delivery:
    """Sender of a spool's messages. `pump` calls `on_acknowledged` with the number of each acknowledged message.

    A topic that was refused is tried again after `pause_ms`, by `clock`; the others do not pause.
    """

    def __init__(
        self, spool: Spool, broker: Broker, *, max_in_flight: int = MAX_IN_FLIGHT,
        on_acknowledged: Callable[[int], None] = lambda _: None, clock: Clock | None = None, pause_ms: int = 0,
        claims: ClaimWatch | None = None,
    ) -> None:  # fmt: skip
        self._spool, self._broker, self._max_in_flight = spool, broker, max_in_flight
        self._clock, self._pause_ms, self._claims = clock, pause_ms, claims
        self._on_acknowledged = on_acknowledged
        self._topics = {topic: _TopicProgress() for topic in spool.topics()}
        self._acknowledged: list[int] = []
        self._full = RareLog(log)
        self.delivered = 0
        """Number of messages that the broker has acknowledged."""
        self.failures = 0
        """Number of refusals, by the broker or its client; each refused message is sent again."""

    @property
    def waiting(self) -> int:
        """Number of events that the broker has not acknowledged."""
        return self._spool.events - len(self._acknowledged)

    def waiting_for(self, topic: str) -> int:
        """Return the number of events of a topic on disk."""
        return self._spool.events_for(topic)

    def check_room(self, sizes: Mapping[str, int]) -> None:
        """Raise SpoolFull where a topic has no room for so many bytes."""
        self._spool.check_room(sizes)

    @property
    def oldest(self) -> int | None:
        """Least number of the messages on disk; None where there are none."""
        return self._spool.ends()[0]

    @property
    def newest(self) -> int:
        """Greatest number of the messages on disk; 0 where there are none."""
        return self._spool.ends()[1] or 0

    def offer(self, messages: Sequence[Outgoing], checkpoints: Mapping[str, bytes] | None = None) -> range:
        """Store messages, and the checkpoints of their source, in one transaction. Return the messages' numbers.

        The next `pump` starts to send them. Raises SpoolFull when there is no room; then nothing is stored.
        """
        numbers = self._spool.put(messages, checkpoints)
        for message in messages:
            self._topics.setdefault(message.topic, _TopicProgress())
        return numbers

    def heed_claims(self, numbers: Sequencer, now_ms: int) -> None:
        """Begin new epochs for the sources whose numbers another sender took; call it before numbering events.

        Messages on disk keep their numbers: the broker may have them already.
        """
        if self._claims is not None:
            self._claims.heed(numbers, now_ms)

    def pump(self, timeout_s: float = 0.0) -> None:
        """Serve acknowledgements for up to `timeout_s` seconds, then send messages up to the bound in flight."""
        self._broker.poll(timeout_s)
        self._discard_acknowledged()
        now_ms = self._now_ms()
        for topic, progress in list(self._topics.items()):
            if now_ms < progress.not_before_ms:
                continue
            try:
                self._send_topic(topic, progress)
            except Unavailable as error:
                self._note_refusal(progress)
                _log_once(progress, f"messages for {topic} are not sent now, kept on disk: {error}")

    def _send_topic(self, topic: str, progress: _TopicProgress) -> None:
        while progress.refused and len(progress.in_flight) < self._max_in_flight:
            if not progress.has_room(progress.refused[0][1]):
                return
            self._send(progress, *progress.refused[0])
            progress.refused.popleft()
        while room := self._max_in_flight - len(progress.in_flight):
            messages = self._spool.after(progress.sent_up_to, room, topic)
            for number, message in messages:
                if not progress.has_room(message):
                    return
                self._send(progress, number, message)
                progress.sent_up_to = number
            if not messages:
                return

    def _send(self, progress: _TopicProgress, number: int, message: Outgoing) -> None:
        def answered(reason: str | None) -> None:
            progress.end(number)
            if reason is None:
                self._acknowledged.append(number)
                self.delivered += 1
                progress.error = None
                self._on_acknowledged(number)
                return
            self._note_refusal(progress)
            progress.refused.append((number, message))
            _log_once(progress, f"messages for {message.topic} were not stored and are sent again: {reason}")

        progress.begin(number, message)
        try:
            self._broker.send_raw(
                message.topic, message.key, message.headers, message.value, timestamp_ms=message.t_ms,
                on_delivery=answered,
            )  # fmt: skip
        except BaseException:
            progress.end(number)
            raise

    def _note_refusal(self, progress: _TopicProgress) -> None:
        self.failures += 1
        progress.not_before_ms = self._now_ms() + self._pause_ms

    def _now_ms(self) -> float:
        return self._clock.monotonic_ms() if self._clock else 0

    def _discard_acknowledged(self) -> None:
        if not self._acknowledged:
            return
        try:
            self._spool.discard(self._acknowledged)
        except SpoolFull as error:
            # This run remembers them as acknowledged. Another run would send them again, under the same identities.
            self._full.write(logging.ERROR, str(error))
            return
        self._acknowledged.clear()


def _log_once(progress: _TopicProgress, error: str) -> None:
    """Log a reason that was not the last one logged."""
    if error != progress.error and progress.log.write(logging.ERROR, error):
        progress.error = error
