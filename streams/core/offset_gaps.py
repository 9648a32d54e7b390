"""Holes in the offsets that were delivered: which are loss, which are nothing, and which were only skipped.

A hole by itself says little. The consumer may have dropped what it fetched (around a rebalance); the log may never
have had messages there (a transaction's marker, compaction); or retention deleted what nobody had read. Only the
last is loss, and only the log itself can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from contracts.errors import LedgerError
from streams.core.decoding import LogMessage


class OffsetGap(NamedTuple):
    """After the message at `expected - 1` of this place came the one at `got`."""

    topic: str
    partition: int
    expected: int
    got: int


class GapKind(Enum):
    """What a hole is."""

    LOST = auto()
    """The log no longer reaches back to where it begins."""
    EMPTY = auto()
    """No message was ever there."""
    SKIPPED = auto()
    """The messages are there; they were not delivered."""


def classify_gap(hole: OffsetGap, earliest: int, first: int | None) -> GapKind:
    """`earliest` is the first offset left on the log, `first` the first with a message at or after the hole's begin."""
    if earliest > hole.expected:
        return GapKind.LOST
    return GapKind.EMPTY if first is None or first >= hole.got else GapKind.SKIPPED


def loss_error(hole: OffsetGap, earliest: int) -> LedgerError:
    """The error that ends a worker whose log lost messages."""
    return LedgerError(
        f"{hole.topic} partition {hole.partition} lost messages {hole.expected} to {earliest - 1}: they were trimmed "
        "before they were read. Lengthen the topic's retention; `wattlog stream --accept-loss` goes on without them"
    )


def before_gap(expected: int, messages: Sequence[LogMessage]) -> tuple[int, int]:
    """(how many messages come before the first hole, the offset that is expected after them).

    An offset below the expected one is a message that came again. `expected` -1: any offset may be the first.
    """
    for n, message in enumerate(messages):
        offset = message.offset
        if offset == expected or expected < 0:
            expected = offset + 1
        elif offset > expected:
            return n, expected
    return len(messages), expected
