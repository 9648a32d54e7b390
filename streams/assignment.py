"""Assignment: the partitions that this worker owns, and the offsets that it may commit.

A partition is owned from `take_over` until one of two things happens:

* A rebalance takes all partitions away at once: `drop_all`.
* Another worker claims one partition, so the warehouse refuses what this worker stores of it: `drop`.

What was read of a partition and is not committed then is dropped: its next owner reads it again.

**The rule of commits.** `Progress.advance_checkpoint` decides how far. `StreamWorker.store_once` commits that offset if

* a flush has stored the checkpoint, and has ended without error,
* the partition is still owned: no rebalance and no other worker took it during the flush,
* `ledger_hour` lacks no stored row (`Flusher.hours_due` is False).

`take_committable` returns these offsets, and `LogReader.commit` commits them. Two others commit: at its start a worker
sets the offsets of a group that has none (`kafka_admin.commit_initial_offsets`, with `--accept-loss` past lost messages
too), and the topic of usage has a rule of its own (`streams/usage/job.py`).

A rebalance may end ownership during any `await`. So code that awaits keeps the function that `ownership_check` returned
before, and calls it afterwards: False means that the partitions belong to others.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
from streams.placement import partition_of
from streams.retrying_sink import OwnershipLost, RetryingSink, StillOwned
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

FENCED_SESSIONS = 3
"""How many session timeouts to wait for a rebalance after losing a claim; then the worker exits and rejoins. Without
this, the group would rely on a worker that may not store, and no other would take its place."""


def new_takeover_name() -> str:
    """Return a name for a takeover that no other takeover has."""
    return uuid.uuid4().hex


@dataclass
class AssignedPartition:
    """A partition that this worker owns."""

    partition: Partition
    committed_up_to: dict[str, int] = field(default_factory=dict)
    """By topic, the offset that was last handed to the log reader to commit."""
    checkpointed_ms: int = 0
    """When its checkpoint was last stored, in epoch milliseconds."""


class Assignment:
    """Owned partitions by number. `clock` gives epoch milliseconds.

    With `accept_loss`, partitions continue from the group's committed offsets, whatever their checkpoints say.
    """

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        retrying_sink: RetryingSink,
        policy: Policy,
        log_id: str,
        clock: Callable[[], int],
        *,
        accept_loss: bool,
        name_takeover: Callable[[], str],
    ) -> None:
        self._sink, self._retrying_sink, self._policy = sink, retrying_sink, policy
        self._log_id, self._clock = log_id, clock
        self._accept_loss, self._name_takeover = accept_loss, name_takeover
        self._config = PartitionConfig(
            settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms,
            settings.requests == "all", settings.ledger_dimensions,
        )  # fmt: skip
        self._fenced_max_ms = FENCED_SESSIONS * settings.session_timeout_ms
        self._fenced: tuple[int, Fenced] | None = None
        """When a partition was first dropped in this assignment, and why."""
        self._partitions_before = settings.kafka_partitions_before
        self._generation = self._partitions = 0
        self.owned: dict[int, AssignedPartition] = {}
        self.epoch = 0
        """The epoch of the claim under which all of them were taken over."""

    def partitions(self) -> list[Partition]:
        return [assigned.partition for assigned in self.owned.values()]

    def ownership_check(self) -> StillOwned:
        """Return a function that returns True until the next rebalance."""
        generation = self._generation
        return lambda: self._generation == generation

    async def take_over(
        self, numbers: Iterable[int], begin: Mapping[TopicPartition, int], partitions: int = 0
    ) -> bool:  # fmt: skip
        """Claim partitions, then load their checkpoints: after the claim, no earlier owner can change them any more.

        `begin` is the group's committed offset of each topic and partition, `partitions` the number that each topic
        has: events on another partition than their workload's are dead letters; 0 for any. An unreachable warehouse is
        waited for.
        Returns False if a rebalance takes the partitions away meanwhile.
        """
        still_owned, numbers = self.ownership_check(), sorted(numbers)
        self._partitions = partitions
        with contextlib.suppress(OwnershipLost):
            claim = partial(self._sink.claim, self._log_id, numbers, self._name_takeover())
            epoch = await self._retrying_sink.until_accepted(claim, still_owned) if numbers else 0
            for number in numbers:
                offsets = {t: begin.get((t, number), -1) for t in topics.JOINED}
                load = partial(self._load, number, epoch, offsets)
                try:
                    assigned = await self._retrying_sink.until_accepted(load, still_owned)
                except Fenced as error:
                    if not still_owned():
                        return False  # The error is about a past assignment.
                    self.drop(number, error)
                    continue
                if not still_owned():
                    return False
                self.owned[number], self.epoch = assigned, epoch
            metrics.PARTITIONS.set(len(self.owned))
            log.info("holding partitions %s", sorted(self.owned))
            return True
        return False

    def _load(self, number: int, epoch: int, begin: dict[str, int]) -> AssignedPartition:
        """Load a claimed partition, in a thread: its checkpoint, and the keys of rows stored beyond it."""
        row = self._sink.load_checkpoint(self._log_id, number)
        checkpoint = Checkpoint.load(row) if row else Checkpoint()
        for topic, offset in begin.items():
            if checkpoint.offsets[topic] < 0 or self._accept_loss:  # Events stored before are recognised as duplicates.
                checkpoint.offsets[topic] = offset
        config = self._config
        if self._partitions:
            counts = (*checkpoint.partition_counts(self._partitions, self._clock()), *self._partitions_before)
            config = replace(config, partition_of=partition_of, partition_counts=counts)
        stored = self._sink.stored_keys(self._log_id, number, checkpoint.final_end_ms)
        loaded = Partition(
            self._log_id, number, config, self._policy, epoch=epoch, checkpoint=checkpoint,
            stored_keys=stored, now_ms=self._clock(),
        )  # fmt: skip
        self._sink.refresh_hours_of(self._log_id, number, sorted(checkpoint.hours))
        checkpoint.hours.clear()
        self._sink.write("marks", loaded.progress.checkpoint_row(), Fence(self._log_id, (number,), epoch))
        return AssignedPartition(loaded)

    def take_committable(self) -> dict[TopicPartition, int]:
        """Return the offsets to commit now, where they are greater than those returned before.

        They are the checkpoints' offsets (`Progress.advance_checkpoint`) of the partitions that are still `owned`. Call
        it only where the rule of commits (see above) holds: after a flush without error, while no hour is due.
        """
        offsets: dict[TopicPartition, int] = {}
        for number, assigned in self.owned.items():
            for topic, offset in assigned.partition.progress.checkpoint_offsets().items():
                if offset > assigned.committed_up_to.get(topic, -1):
                    assigned.committed_up_to[topic] = offsets[topic, number] = offset
        return offsets

    def drop(self, number: int, error: Fenced) -> None:
        """Drop a partition that another worker has claimed, and what was read of it: the other worker stores it."""
        self.owned.pop(number, None)
        self._fenced = self._fenced or (self._clock(), error)
        metrics.FENCED.inc()
        metrics.WATERMARK_LAG.clear()
        metrics.PARTITIONS.set(len(self.owned))
        log.error("%s; dropped what was read of it here, and nothing of it is committed", error)

    def check_fenced(self, now_ms: int) -> None:
        """Raise Fenced if no rebalance has taken a dropped partition away within FENCED_SESSIONS session timeouts."""
        if self._fenced is not None and now_ms - self._fenced[0] > self._fenced_max_ms:
            raise self._fenced[1]

    def drop_all(self) -> None:
        """Drop all partitions, and what was read of them: a rebalance took them away."""
        if self.owned:
            metrics.REBALANCES.inc()
        self._generation += 1
        self._fenced = None
        self.owned.clear()
        metrics.WATERMARK_LAG.clear()
        metrics.PARTITIONS.set(0)
