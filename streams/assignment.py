"""Partitions come and go: claimed and taken over, given up all together, or lost to another worker's claim.

Whoever awaits something asks `as_now` before, and afterwards whether what is held still is.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from contracts import topics
from contracts.errors import Fenced
from contracts.settings import Settings
from streams import metrics
from streams.core.attribution.policy import Policy
from streams.core.checkpoint import Checkpoint
from streams.core.decoding import PartitionConfig
from streams.core.partition import Partition
from streams.log_reader import TopicPartition
from streams.retrying_sink import OwnershipLost, RetryingSink
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

FENCED_SESSIONS = 3
"""Sessions of the group that a worker waits, when another has claimed a partition of its, for the group to take it away
or give it anew. After that it ends, to join anew: else nobody might store what the group thinks that it stores."""


def new_takeover_name() -> str:
    """A name for a takeover, that no other has."""
    return uuid.uuid4().hex


@dataclass
class AssignedPartition:
    """A partition that this worker holds."""

    state: Partition
    acknowledged: dict[str, int] = field(default_factory=dict)
    """By topic, the offset before which everything is stored and acknowledged."""
    settled_ms: int = 0


class Assignment:
    """See the module. `clock` gives epoch milliseconds. With `accept_loss`, partitions go on from where the consumer
    reads, whatever their marks say."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        store: RetryingSink,
        policy: Policy,
        log_id: str,
        clock: Callable[[], int],
        *,
        accept_loss: bool,
        name_takeover: Callable[[], str],
    ) -> None:
        self._sink, self._store, self._policy, self._log_id, self._clock = sink, store, policy, log_id, clock
        self._accept_loss, self._name_takeover = accept_loss, name_takeover
        self._config = PartitionConfig(
            settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms,
            settings.requests == "all",
        )  # fmt: skip
        self._fenced_most_ms = FENCED_SESSIONS * settings.session_timeout_ms
        self._fenced: tuple[int, Fenced] | None = None
        self._generation = 0
        self.owned: dict[int, AssignedPartition] = {}
        self.epoch = 0
        """Of the claim under which all of them were taken over."""

    def states(self) -> list[Partition]:
        return [owned.state for owned in self.owned.values()]

    def as_now(self) -> Callable[[], bool]:
        """Says, when it is called later, whether nothing was given up since."""
        generation = self._generation
        return lambda: self._generation == generation

    async def take_over(self, partitions: Iterable[int], begin: Mapping[TopicPartition, int]) -> bool:
        """Claim partitions, so that no earlier owner can write any more, and then read their checkpoints.

        False if they were given up again meanwhile.
        """
        held, numbers = self.as_now(), sorted(partitions)
        with contextlib.suppress(OwnershipLost):
            claim = partial(self._sink.claim, self._log_id, numbers, self._name_takeover())
            epoch = await self._store.until_taken(claim, held) if numbers else 0
            for number in numbers:
                offsets = {t: begin.get((t, number), -1) for t in topics.JOINED}
                try:
                    owned = await self._store.until_taken(partial(self._take_over, number, epoch, offsets), held)
                except Fenced as error:
                    if not held():
                        return False  # Of an assignment that is past: it says nothing about the one of now.
                    self.lose(number, error)
                    continue
                if not held():
                    return False
                self.owned[number], self.epoch = owned, epoch
            metrics.PARTITIONS.set(len(self.owned))
            log.info("holding partitions %s", sorted(self.owned))
            return True
        return False

    def _take_over(self, number: int, epoch: int, begin: dict[str, int]) -> AssignedPartition:
        """What a claimed partition was left with: since the claim, nobody else can change it."""
        row = self._sink.load_mark(self._log_id, number)
        mark = Checkpoint.load(row) if row else Checkpoint()
        for topic, offset in begin.items():
            if mark.offsets[topic] < 0 or self._accept_loss:  # What was stored before is recognised as duplicate.
                mark.offsets[topic] = offset
        stored = self._sink.stored_keys(self._log_id, number, mark.final_end_ms)
        state = Partition(
            self._log_id, number, self._config, self._policy, epoch=epoch, mark=mark,
            stored_keys=stored, now_ms=self._clock(),
        )  # fmt: skip
        self._sink.refresh_hours_of(self._log_id, number, sorted(mark.hours))
        state.hours_refreshed()
        self._sink.write("marks", state.mark_row(), Fence(self._log_id, (number,), epoch))
        return AssignedPartition(state)

    def lose(self, number: int, error: Fenced) -> None:
        """Drop a partition that another worker has claimed. Nothing of it is acknowledged: the other stores it."""
        self.owned.pop(number, None)
        self._fenced = self._fenced or (self._clock(), error)
        metrics.FENCED.inc()
        metrics.WATERMARK_LAG.clear()
        metrics.PARTITIONS.set(len(self.owned))
        log.error("%s; dropped what was read of it here, and nothing of it is committed", error)

    def check_lost(self, now_ms: int) -> None:
        """Raises Fenced when the group has left this worker with a lost partition for FENCED_SESSIONS."""
        if self._fenced is not None and now_ms - self._fenced[0] > self._fenced_most_ms:
            raise self._fenced[1]

    def give_up(self) -> None:
        """All of them, at once."""
        if self.owned:
            metrics.REBALANCES.inc()
        self._generation += 1
        self._fenced = None
        self.owned.clear()
        metrics.WATERMARK_LAG.clear()
        metrics.PARTITIONS.set(0)
