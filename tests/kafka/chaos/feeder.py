"""A steady producer in a thread of its own: it continues through failures of workers and brokers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from contracts.events import Event
from producers.runtime.publisher import Publisher
from producers.simulation.faults import Faults, disturb
from tests.kafka.chaos.poison import Poison
from tests.kafka.chaos.world import World

DISTURBED = Faults(late=0.004, late_ms=6_000, duplicate=0.02, out_of_order=0.004)
"""Some events arrive after their windows are final, some twice."""
CLOSING_MS = 30_000
POISON_EVERY = 1_000
_PATIENT = {"message.timeout.ms": 600_000, "message.max.bytes": 16 * 2**20, "log_level": 0}
"""A broker that is away for minutes must not make the producer give up, nor a large message: neither is under test
here.
"""


class Feeder:
    """Send a world's events, `speed` seconds of event time per second, from `start` to `finish`.

    After every POISON_EVERY events it sends one message of `poison`, while any are left. `finish` raises an error for
    messages that the client could not deliver.
    """

    def __init__(
        self, world: World, kafka: dict[str, Any], *, seed: int, speed: float = 1.0, poison: Iterable[Poison] = ()
    ) -> None:
        self.world = world
        self._events = disturb(self._paced(speed), DISTURBED, seed)
        self._publisher = Publisher({**kafka, **_PATIENT})
        self._poison = iter(poison)
        self.poisoned: list[Poison] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._error: BaseException | None = None
        self.messages = 0

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Stop, send the delayed events, and send heartbeats that complete every source."""
        self._stopped.set()
        self._thread.join(120)
        if self._error is not None:
            raise self._error
        for event in self.world.closing(CLOSING_MS):
            self._send(event)
        self._publisher.flush(120)

    def abandon(self) -> None:
        """Stop if still running, and drop what is not delivered."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    def _run(self) -> None:
        try:
            for event in self._events:
                self._send(event)
        except BaseException as error:
            self._error = error

    def _send(self, event: Event) -> None:
        self._publisher.send(event)
        self.messages += 1
        if self.messages % POISON_EVERY == 0 and (poison := next(self._poison, None)) is not None:
            self._publisher.send_raw(poison.topic, poison.key, poison.headers, poison.value)
            self.poisoned.append(poison)

    def _paced(self, speed: float) -> Iterator[Event]:
        """Whole ticks, so that every row of the world is sent."""
        begun_s = time.monotonic()
        while not self._stopped.is_set():
            yield from self.world.tick()
            self._publisher.poll()
            due_s = begun_s + (self.world.end_ms - self.world.start_ms) / 1000 / speed
            self._stopped.wait(max(0.0, due_s - time.monotonic()))
