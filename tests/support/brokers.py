"""A producer's client and its broker, simulated: no thread, no network, answers in the order of sending."""

from __future__ import annotations

import threading
from collections.abc import Callable

from contracts import codec
from contracts.errors import Unavailable
from contracts.events import Event
from producers.runtime.publisher import OnDelivery
from tests.support.clocks import FakeClock


class FakeBroker:
    """Store each message at the next `poll`, and then report it as delivered.

    `full`: it takes no message. `silent`: it answers none, nor while `away_at(clock.now_ms)`. `refuses`: the reason for
    refusing every message, "" for none; `refuse_next` of them in any case. `missing`: absent topics. With a clock,
    `poll` waits by it.
    """

    def __init__(
        self,
        clock: FakeClock | None = None,
        *,
        away_at: Callable[[int], bool] = lambda now_ms: False,
        refuse_next: int = 0,
        silent: bool = False,
    ) -> None:
        self.clock, self.away_at = clock or FakeClock(), away_at
        self.silent, self.full, self.refuses, self.refuse_next = silent, False, "", refuse_next
        self.missing: set[str] = set()
        self.stored: list[Event] = []
        self.tries = 0
        self._in_flight: list[tuple[codec.Headers, bytes | None, OnDelivery]] = []
        self._lock = threading.Lock()

    def send_raw(
        self,
        topic: str,
        key: bytes | None,
        headers: codec.Headers,
        value: bytes | None,
        *,
        timestamp_ms: int,
        on_delivery: OnDelivery,
    ) -> None:
        if self.full:
            raise Unavailable("the queue to Kafka has been full", "wait")
        if topic in self.missing:
            raise Unavailable("Kafka does not take the message: Local: Unknown topic", "Try `wattlog doctor`.")
        with self._lock:
            self.tries += 1
            self._in_flight.append((headers, value, on_delivery))

    def poll(self, timeout_s: float = 0.0) -> None:
        self.clock.now_ms += round(timeout_s * 1000)
        if not (self.silent or self.away_at(self.clock.now_ms)):
            self.answer()

    def answer(self, good: Callable[[str], bool] = lambda ce_id: True) -> None:
        """Answer everything in flight; store a message if `good` accepts its `ce_id`."""
        with self._lock:
            messages, self._in_flight = self._in_flight, []
        for headers, value, on_delivery in messages:
            reason = self._refusal(good(_ce_id(headers)))
            if reason is None:
                self.stored.append(codec.decode(headers, value))
            on_delivery(reason)

    def forget(self) -> None:
        """Lose everything in flight and its answers, as when the client is killed."""
        self._in_flight = []

    @property
    def in_flight(self) -> list[str]:
        """`ce_id` of each message in flight, in the order of sending."""
        return [_ce_id(headers) for headers, _, _ in self._in_flight]

    @property
    def stored_ids(self) -> list[str]:
        """`ce_id` of each stored message, in order."""
        return [f"{event.epoch}.{event.seq}" for event in self.stored]

    def numbers(self) -> dict[tuple[str, int], list[int]]:
        """Sequence numbers stored, in order, by source and epoch."""
        numbers: dict[tuple[str, int], list[int]] = {}
        for event in self.stored:
            numbers.setdefault((event.source, event.epoch), []).append(event.seq)
        return numbers

    def _refusal(self, good: bool) -> str | None:
        if self.refuse_next > 0:
            self.refuse_next -= 1
            return "the broker said no"
        return self.refuses or (None if good else "Broker: not enough replicas")


def _ce_id(headers: codec.Headers) -> str:
    return dict(headers)["ce_id"].decode()
