"""Interface between a stream worker and whatever reads the log for it: `streams.transport` has two implementations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

TopicPartition = tuple[str, int]
"""(topic, partition)."""


class OffsetLookup(NamedTuple):
    """Contents of the log at an offset, read from the log itself."""

    earliest: int
    """The first offset that retention has left."""
    first: int | None
    """The first offset at or after the requested one that has a message; None if there is none."""


class LogReader(Protocol):
    """Reads partitions in offset order, hands messages to `StreamWorker.put` and commits offsets."""

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Let the group commit these offsets, now or a little later: everything before them is stored."""

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read this partition again from `offset` on. Messages read before may still be delivered first.

        Does nothing if the partition is not owned any more.
        """

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        """Read the log at an offset, outside the consumer. Raises Unavailable when no broker answers."""
