"""What a stream worker asks of whoever reads the log for it: `streams.transport` has two such readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

TopicPartition = tuple[str, int]
"""(topic, partition)."""


class OffsetLookup(NamedTuple):
    """What the log itself holds at an offset."""

    earliest: int
    """The first offset that retention has left."""
    first: int | None
    """The first offset at or after the one asked for that holds a message; None if none does."""


class LogReader(Protocol):
    """Reads partitions in offset order, hands messages to `StreamWorker.put` and commits acknowledged offsets."""

    def acknowledge(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Everything before these offsets is stored: the group may commit them, now or a little later."""

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read this place anew from `offset` on. What was read before may still be delivered first.

        Does nothing where the place is not held any more.
        """

    async def look(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        """Ask the log itself. Raises Unavailable when no broker answers."""
