"""Resolution of offset gaps: ask the log what is missing, then continue behind the gap, read again, or end the worker.

    LOST      retention deleted messages that were not read: LedgerError ends the worker
    EMPTY     the log never held a message there: continue behind the gap
    SKIPPED   the messages are on the log but were not delivered: seek back to the gap's beginning

After a seek, batches that were under way before it still arrive. They are dropped until the re-read begins, which is
recognised by an offset that is not greater than the one before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from contracts.errors import LedgerError
from streams import metrics
from streams.core.decoding import LogMessage
from streams.core.offset_gaps import GapKind, OffsetGap, classify_gap, loss_error
from streams.inbox import DeliveredBatch
from streams.log_reader import LogReader, TopicPartition

log = logging.getLogger("wattlog.stream")

REREADS = 5
"""How often the same gap is read again before the worker ends: its messages are on the log, but are not delivered."""
REREAD_WAIT_MS = 5_000
"""A re-read that has not begun after this time was dropped by the consumer: it is requested again."""


class OffsetGapResolver:
    """Gaps that are being read again, by topic and partition. `clock` gives epoch milliseconds."""

    def __init__(self, reader: LogReader, clock: Callable[[], int]) -> None:
        self._reader, self._clock = reader, clock
        self._generation = 0
        self._last_stale: dict[TopicPartition, int] = {}
        """While a re-read is awaited: the last offset that arrived. Offsets ascend until the re-read begins."""
        self._awaited: dict[TopicPartition, tuple[OffsetGap, int]] = {}
        """The gap that is being read again, and since when (epoch ms)."""
        self._attempts: dict[TopicPartition, tuple[int, int]] = {}
        """The offset that was last read again, and how often."""

    def clear(self) -> None:
        """Forget all gaps: a rebalance took the partitions away, and their next owner seeks to committed offsets."""
        self._generation += 1
        self._last_stale.clear()
        self._awaited.clear()
        self._attempts.clear()

    def drop_stale(self, batch: DeliveredBatch) -> Sequence[LogMessage]:
        """Return the batch's messages without those that were under way before an awaited re-read."""
        place = batch.topic, batch.partition
        last = self._last_stale.get(place)
        if last is None:
            return batch.messages
        for n, message in enumerate(batch.messages):
            if message.offset <= last:  # The re-read begins here.
                del self._last_stale[place], self._awaited[place]
                return batch.messages[n:]
            last = message.offset
        self._last_stale[place] = last
        return ()

    async def retry_overdue(self) -> None:
        """Request again the re-reads that have not begun within REREAD_WAIT_MS. Raises LedgerError after REREADS."""
        for place, (gap, since_ms) in list(self._awaited.items()):
            if self._clock() - since_ms > REREAD_WAIT_MS and self._awaited.get(place) == (gap, since_ms):
                await self._read_again(gap, self._last_stale[place])

    async def resolve(self, gap: OffsetGap, batch: DeliveredBatch) -> bool:
        """Return True if nothing is missing: continue behind the gap.

        Return False if it is being read again, or if the partitions were taken away: drop what follows the gap.
        Raises LedgerError if the log lost messages.
        """
        if batch.begin is not None and batch.begin <= gap.expected:
            return self._pass_empty(gap)
        generation = self._generation
        log_at = await self._reader.look_up(gap.topic, gap.partition, gap.expected)
        if self._generation != generation:
            return False
        kind = classify_gap(gap, *log_at)
        if kind is GapKind.LOST:
            raise loss_error(gap, log_at.earliest)
        if kind is GapKind.EMPTY:
            return self._pass_empty(gap)
        await self._read_again(gap, batch.messages[-1].offset)
        return False

    def _pass_empty(self, gap: OffsetGap) -> bool:
        metrics.EMPTY_OFFSETS.inc(gap.got - gap.expected)
        return True

    async def _read_again(self, gap: OffsetGap, last: int) -> None:
        place = gap.topic, gap.partition
        expected, attempts = self._attempts.get(place, (gap.expected, 0))
        attempts = attempts + 1 if expected == gap.expected else 1
        if attempts > REREADS:
            raise LedgerError(
                f"{gap.topic} partition {gap.partition}: messages {gap.expected} to {gap.got - 1} are on the log, "
                f"but were not delivered in {REREADS} re-reads. Start the worker again; it goes on where it stored last"
            )
        self._attempts[place] = gap.expected, attempts
        self._last_stale[place] = last
        self._awaited[place] = gap, self._clock()
        metrics.REREADS.inc()
        log.warning("%s partition %d: offset %d arrived, %d was due; reading again", *place, gap.got, gap.expected)
        await self._reader.seek(*place, gap.expected)
