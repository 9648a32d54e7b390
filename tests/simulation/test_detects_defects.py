"""The simulator detects defects: each of these, put into the real code or the store, is noticed within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from unittest.mock import patch

import pytest

from streams import flush
from streams.core import row_versions
from streams.core.checkpoint import Checkpoint
from streams.core.late_facts import LateFacts
from streams.core.progress import Progress
from streams.core.sequence import SequenceRun
from streams.core.stored_keys import StoredKeys
from streams.flush import Flusher
from streams.retrying_sink import Ownership, OwnershipLost, RetryingSink
from tests.simulation.run import simulate
from tests.simulation.sink import SimulatedSink
from tests.simulation.tables import Tables
from tests.simulation.worker import Worker
from warehouse.sink import claims

WITHIN = 1_000
"""Number of seeds within which a defect must be noticed; most are within ten."""
RARE = {"a takeover does not wait for writes under way": 3_900, "nobody is fenced off": 0}
"""First seed to try for a defect that few seeds notice."""

Defect = Callable[[], AbstractContextManager[object]]


def _read_is_committable(progress: Progress, real=Progress.checkpoint_offsets) -> dict[str, int]:  # type: ignore[no-untyped-def]
    return {t: progress.next_offset(t) for t in real(progress)}


@contextmanager
def _checkpoints_first(tables=flush._window_tables, store=Flusher._store_checkpoints) -> Iterator[None]:  # type: ignore[no-untyped-def]
    async def facts_last(flusher: Flusher, parts, ownership: Ownership) -> None:  # type: ignore[no-untyped-def]
        await store(flusher, parts, ownership)
        await flusher._sink.write(tables(parts).items(), ownership)

    with patch.object(flush, "_window_tables", lambda _: {}), patch.object(Flusher, "_store_checkpoints", facts_last):
        yield


async def _tried_once(sink: RetryingSink, tables, ownership, real=RetryingSink.write) -> None:  # type: ignore[no-untyped-def]
    with suppress(OwnershipLost):
        await real(sink, tables, Ownership(ownership.fence, lambda: False))


def _always_new(run: SequenceRun, seq: int, event_ms: int, partition_ms: int = 0, real=SequenceRun.add) -> bool:  # type: ignore[no-untyped-def]
    real(run, seq, event_ms, partition_ms)
    return True


async def _no_letter(*_: object) -> None:
    """Drop the dead letter."""


async def _no_refresh(flusher: Flusher, *_: object) -> None:
    flusher.clear_hours()


def _unfenced(sink: SimulatedSink, name, table, fence=None, real=SimulatedSink.write) -> None:  # type: ignore[no-untyped-def]
    real(sink, name, table)


def _nothing_removed(stored: StoredKeys, name, table, numbers, **_):  # type: ignore[no-untyped-def]
    return table


def _drop(late: LateFacts, *_: object) -> None:
    """Read late facts, and drop them."""


DEFECTS: dict[str, Defect] = {
    "offsets are committed before what they touch is stored": lambda: patch.object(
        Progress, "checkpoint_offsets", _read_is_committable
    ),
    "the mark is stored before the facts": _checkpoints_first,
    "a write that fails is given up": lambda: patch.object(RetryingSink, "write", _tried_once),
    "all owners have the same epoch": lambda: patch.object(
        row_versions, "final", lambda epoch, revision, real=row_versions.final: real(1, revision)
    ),
    "nobody is fenced off": lambda: patch.object(SimulatedSink, "write", _unfenced),
    "a takeover does not wait for writes under way": lambda: patch.object(claims, "_drain", lambda *_: None),
    "what a window has no more is not taken away": lambda: patch.object(StoredKeys, "replace", _nothing_removed),
    "events that came again count again": lambda: patch.object(SequenceRun, "add", _always_new),
    "what came before a window was closed is taken for late": lambda: patch.object(
        Checkpoint, "includes", lambda *_: False
    ),
    "what came after a window was closed is taken for counted": lambda: patch.object(
        Checkpoint, "includes", lambda *_: True
    ),
    "late facts are dropped": lambda: patch.object(LateFacts, "add", _drop),
    "dead letters go nowhere": lambda: patch.object(Worker, "_publish", _no_letter),
    "hours are not refreshed": lambda: patch.object(Flusher, "_refresh_hours", _no_refresh),
}


def _noticed(tables: Callable[[], Tables] = Tables, first: int = 0) -> str | None:
    """The first broken invariant."""
    for seed in range(first, first + WITHIN):
        if broken := simulate(seed, tables=tables()).broken:
            return broken
    return None


@pytest.mark.parametrize("defect", [pytest.param(d, marks=[pytest.mark.slow] if d in RARE else []) for d in DEFECTS])
def test_the_simulator_notices_a_defect_of_the_worker(defect: str) -> None:
    with DEFECTS[defect]():
        assert _noticed(first=RARE.get(defect, 0)), f"nobody noticed within {WITHIN} seeds that {defect}"


def test_the_simulator_notices_a_store_that_ignores_versions() -> None:
    assert _noticed(lambda: Tables(ordered=False))
