"""State of one GPU's meter (`producers.gpu.meter`), as agents store it. Names of its fields on disk must not change."""

from __future__ import annotations

import msgspec

from producers.gpu.event_time import ClockPoint


class CounterBase(msgspec.Struct, frozen=True):
    """A counter that was believed: its value, when it was read, and what has been sent for the time since then.

    `is_brief`: as a former base it is kept until the counter moves again.
    """

    counter_mj: int
    at: ClockPoint
    sent_uj: int = 0
    is_brief: bool = False


class SuspectCounter(msgspec.Struct, frozen=True):
    """An implausible counter, and when it was read first.

    `run_half_uj` is the run of watts up to there, and `watts_uj` the energy by watts since the base; None where no
    watts were read with it.
    """

    counter_mj: int
    at: ClockPoint
    run_half_uj: int | None = None
    watts_uj: int | None = None


class Comparison(msgspec.Struct, frozen=True):
    """Energy of one device by its counter and by its watts over the same time, since it was last judged."""

    counter_uj: int = 0
    watts_uj: int = 0
    elapsed_ms: int = 0
    differs: bool = False
    """What was judged last differed: one of the two is wrong."""


class MeterState(msgspec.Struct, frozen=True, omit_defaults=True):
    """State of one GPU's meter between two readings. Stored with the agent's checkpoint.

    `anchor` is where the last interval ended, or where counting began; `counter_mj` is the counter of the base, None
    without one. `run_*` is an unbroken run of watts since the anchor: its ends, the milliwatts at its end, and its
    energy in half microjoules. `busy` is the utilisation x ms since the anchor, None if unknown.
    """

    last: ClockPoint
    anchor: ClockPoint = msgspec.field(name="mark")  # the name in stored checkpoints
    counter_mj: int | None
    run_from: ClockPoint | None
    run_to: ClockPoint | None
    run_mw: int
    run_half_uj: int
    busy: float | None = 0.0
    base_at: ClockPoint | None = None
    """When the base was read; None for the anchor."""
    sent_uj: int = 0
    """Energy that was sent for the time since the base was read."""
    debt_uj: int = 0
    """Energy that was sent beyond the counter's, and is taken from the next intervals."""
    stands_to: ClockPoint | None = None
    """The last reading at which the counter was unchanged; None if it was not read so since the base."""
    suspect: SuspectCounter | None = None
    """The last implausible counter."""
    former: CounterBase | None = None
    """The base before the last reset, to which a counter that dipped comes back; or, briefly, the base before a long
    stretch, after which the page may have shown an old sample first."""
    reset_at: ClockPoint | None = None
    """When the counter last started anew."""
    peak_mw: int = 0
    watts_at: ClockPoint | None = None
    """When the watts last changed."""
    comparison: Comparison = Comparison()
    has_gap: bool = False
    """The stretch since the anchor has been counted as a gap."""

    @property
    def base(self) -> CounterBase | None:
        if self.counter_mj is None:
            return None
        return CounterBase(self.counter_mj, self.base_at or self.anchor, self.sent_uj)
