"""State of one GPU's meter (`producers.gpu.meter`), as agents store it, and its steps from one state to the next. Pure.

Names of its fields on disk must not change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.units import UJ_PER_MJ
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


def former_base(state: MeterState) -> CounterBase | None:
    """Return the former base, with all that was sent since."""
    former = state.former
    return former and msgspec.structs.replace(former, sent_uj=former.sent_uj + state.sent_uj)


def shown_uj(base: CounterBase, counter_mj: int) -> int:
    """Return the energy that a counter shows since a base."""
    return (counter_mj - base.counter_mj) * UJ_PER_MJ


def unsent_uj(base: CounterBase, counter_mj: int) -> int:
    """Return what a counter shows since a base and was not sent."""
    return shown_uj(base, counter_mj) - base.sent_uj


def former_after(state: MeterState, base: CounterBase, counter_mj: int) -> CounterBase | None:
    """Return the former base after a counter was settled against `base`.

    All that the counter shows counts as sent for it, also what paid the debt: else the former base would pay it again.
    """
    former = state.former
    has_passed = former is not None and base.counter_mj < former.counter_mj <= counter_mj
    if former is None or former.is_brief or has_passed or base != state.base:
        return None
    return msgspec.structs.replace(former, sent_uj=former.sent_uj + shown_uj(base, counter_mj))


def restart(state: MeterState, anchor: ClockPoint, *, half_uj: int, counter_mj: int | None) -> MeterState:
    """Return the state after an interval that ended at `anchor`, where the counter is the new base.

    The run of watts continues from there, with the carried half microjoule, where watts were read at that moment.
    Otherwise the next watts begin a new run, so that nothing is counted twice.
    """
    continues = state.run_to is not None and state.run_to.monotonic_ms == anchor.monotonic_ms
    run = state.run_to if continues else None
    return replace_state(
        state, anchor=anchor, counter_mj=counter_mj, run_from=run, run_to=run, run_half_uj=half_uj, busy=0.0,
        base_at=None, sent_uj=0, debt_uj=0, stands_to=None, suspect=None, former=None, has_gap=False,
    )  # fmt: skip


def extend_run(state: MeterState, now: ClockPoint, mw: int | None, max_gap_ms: int) -> tuple[MeterState, bool]:
    """Add the trapezoid up to a reading of watts. After a gap, start a new run and return True."""
    if mw is None:
        return state, False
    if state.run_from is None or state.run_to is None:
        return replace_state(state, run_from=now, run_to=now, run_mw=mw), False
    elapsed_ms = now.monotonic_ms - state.run_to.monotonic_ms
    if elapsed_ms > max_gap_ms:
        half_uj = state.run_half_uj % 2
        return replace_state(state, run_from=now, run_to=now, run_mw=mw, run_half_uj=half_uj), True
    area = (state.run_mw + mw) * elapsed_ms  # mW x ms = uJ; the trapezoid's half is taken when the interval ends
    return replace_state(state, run_to=now, run_mw=mw, run_half_uj=state.run_half_uj + area), False


def add_busy(busy: float | None, utilisation: float | None, elapsed_ms: int) -> float | None:
    """Return utilisation x ms with that of one more stretch, None if either is unknown."""
    if busy is None or utilisation is None or not 0 <= utilisation <= 1:
        return None
    return busy + utilisation * elapsed_ms


def replace_state(state: MeterState, **changes: Any) -> MeterState:
    """Return the state with other values in some fields."""
    return msgspec.structs.replace(state, **changes)
