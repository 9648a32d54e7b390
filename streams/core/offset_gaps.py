"""Gaps in delivered offsets: lost messages, offsets that never held one, or messages that were not delivered.

The gap alone does not say which. The consumer may have dropped what it fetched (around a rebalance). The log may never
have held messages there (a transaction's marker, compaction). Or retention deleted messages before they were read. Only
the last is loss, and only the log itself can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from contracts.errors import LedgerError
from streams.core.decoding import LogMessage


class OffsetGap(NamedTuple):
    """Missing offsets `[expected, got)` of a partition: the message at `got` followed the one before `expected`."""

    topic: str
    partition: int
    expected: int
    got: int


class GapKind(Enum):
    """Cause of an offset gap."""

    LOST = auto()
    """Retention deleted messages at the gap's beginning."""
    EMPTY = auto()
    """The log never held a message there."""
    SKIPPED = auto()
    """The messages are on the log, but were not delivered."""


def classify_gap(gap: OffsetGap, earliest: int, first: int | None) -> GapKind:
    """Return the cause of a gap.

    `earliest` is the first offset left on the log, `first` the first message at or after the gap's beginning, if any.
    """
    if earliest > gap.expected:
        return GapKind.LOST
    return GapKind.EMPTY if first is None or first >= gap.got else GapKind.SKIPPED


def loss_error(gap: OffsetGap, earliest: int) -> LedgerError:
    """Return the error that ends a worker whose log lost messages."""
    return LedgerError(
        f"{gap.topic} partition {gap.partition} lost messages {gap.expected} to {earliest - 1}: they were trimmed "
        "before they were read. Lengthen the topic's retention; `wattlog stream --accept-loss` goes on without them"
    )


def before_gap(expected: int, messages: Sequence[LogMessage]) -> tuple[int, int]:
    """Return (number of messages before the first gap, the offset that is expected after them).

    An offset below the expected one is a message that was delivered again. `expected` -1: any offset may be the first.
    """
    for n, message in enumerate(messages):
        offset = message.offset
        if offset == expected or expected < 0:
            expected = offset + 1
        elif offset > expected:
            return n, expected
    return len(messages), expected
