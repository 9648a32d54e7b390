"""Regressions: every bug that the simulator showed, with the seeds or the few steps that show it."""

from __future__ import annotations

import pytest

from contracts import topics
from streams.core.decoding import PartitionConfig
from tests.simulation.run import simulate
from tests.streams.core.case_table import T0
from tests.support.oracle import Interval, Oracle
from tests.support.partition_log import Log, Worker, close, policy, power

BUGS: list[tuple[str, tuple[int, ...]]] = [
    ("sources were stored after the mark: who died between left a gap in the audit that was none", (11, 52, 81, 119)),
    ("refused as from the future, read again later: half believed, half taken for counted", (491, 493)),
    ("a takeover refused after its revocation was noted against the next assignment", (1121, 2006, 2676, 3804)),
]
"""Seeds as of that day: as plans change they become others, and the steps below remain."""

NOW = T0 + 11_000
"""Time of the first owner's read: an event that ends 15 s after T0 is in the future then."""
_CONFIG = PartitionConfig(lateness_ms=0, skew_ms=1_000, idle_timeout_ms=1_000)
_NOW = Interval(
    cluster="c", workload="w", node="n", gpu="g0", hardware="H100", t0=T0 + 8_000, t1=T0 + 12_000, energy_uj=60_000_000
)
_SOON = Interval(
    cluster="c", workload="w", node="n", gpu="g1", hardware="H100", t0=T0 + 5_000, t1=T0 + 15_000, energy_uj=100_000_000
)
_BOTH_WINDOWS = 1_500
"""After this silence the first window is final, and the second, which holds all offsets back, is open."""


@pytest.mark.parametrize(("was", "seeds"), BUGS, ids=[was for was, _ in BUGS])
def test_seeds_of_fixed_bugs_pass(was: str, seeds: tuple[int, ...]) -> None:
    assert [broken for seed in seeds if (broken := simulate(seed).broken)] == [], was


def _owner_dies_after_it_closed_the_first_window(read_ms: int) -> Worker:
    """One event in time and one in the future, both of two windows, read at `read_ms`. Then the first window is
    closed, and the owner dies with nothing committed.
    """
    log = Log()
    log.append(power([_NOW]), source="a")
    log.append(power([_SOON]), source="b")
    worker = Worker(log, policy=policy(), config=_CONFIG)
    worker.read(topics.POWER, 10, read_ms)
    assert worker.flush(read_ms + _BOTH_WINDOWS)
    assert worker.committed[topics.POWER] == 0
    worker.start()
    return worker


def test_an_event_refused_as_future_is_refused_by_every_later_owner() -> None:
    worker = _owner_dies_after_it_closed_the_first_window(NOW)
    close(worker.log, T0 + 60_000)
    assert worker.run().ledger() == Oracle().ledger([_NOW], [])
    assert [r.message.offset for r in worker.rejected] == [1, 1]


def test_an_accepted_event_is_accepted_by_an_owner_whose_clock_is_behind() -> None:
    worker = _owner_dies_after_it_closed_the_first_window(NOW + 5_000)
    worker.read(topics.POWER, 10, NOW)
    close(worker.log, T0 + 60_000)
    assert worker.run().ledger() == Oracle().ledger([_NOW, _SOON], [])
    assert worker.rejected == []


def test_a_refused_event_may_be_sent_again_and_then_counts() -> None:
    """Its number never counted as seen."""
    worker = _owner_dies_after_it_closed_the_first_window(NOW)
    worker.log.repeat(worker.log.messages[topics.POWER][1])
    close(worker.log, T0 + 60_000)
    assert worker.run().ledger() == Oracle().ledger([_NOW, _SOON], [])
