"""Zombies: a worker that stops in the middle of a flush, loses its partition, and continues unaware.

The danger is a key that the successor does not write: power without the later tokens is an idle row, and would remain
beside the tenants' rows. Two real stream workers on one store; the oracle and an undisturbed run are the reference.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from contracts import topics
from contracts.errors import Fenced, Unavailable
from contracts.rows import Table
from streams import metrics
from streams import retrying_sink as store_module
from streams.core.decoding import LogMessage
from tests.streams.driven_worker import (
    T0,
    Driven,
    Entry,
    WatchedSink,
    by_day,
    by_hour,
    days,
    hours,
    ledger,
    settings,
)
from tests.streams.sample_log import Sent, interval, request, two_windows
from tests.support.waiting import HANG_S, until
from warehouse.client import Warehouse
from warehouse.ledger.fingerprint import fingerprint
from warehouse.periods import Period
from warehouse.sink.fence import Fence

CALLS = {"final": 7, "late": 5}
"""Calls of the sink that a zombie's flush makes: four tables, hours, mark, sources; the late fact, the restated
ledger, hours, mark, sources.
"""


class StoppingSink(WatchedSink):
    """Stop at one call of a flush, before it or after it, until released."""

    def __init__(self, warehouse: Warehouse, journal: list[Entry]) -> None:
        super().__init__(warehouse, journal)
        self.stop_at = -1
        self.calls = 0
        self.after = False
        self.stopped, self.go_on = threading.Event(), threading.Event()

    def _stop(self, after: bool) -> None:
        if self.calls == self.stop_at and after == self.after:
            self.stopped.set()
            assert self.go_on.wait(HANG_S), "the test never let the zombie go on"

    def write(self, name: str, table: Table, fence: Fence | None = None) -> None:
        self._stop(after=False)
        super().write(name, table, fence)
        self._stop(after=True)
        self.calls += 1

    def refresh_hours(self, *touched: Any) -> None:
        self._stop(after=False)
        super().refresh_hours(*touched)
        self._stop(after=True)
        self.calls += 1

    def arm(self, stop_at: int, *, after: bool) -> None:
        self.calls, self.stop_at, self.after = 0, stop_at, after


def two(warehouse: Warehouse, sent: Sent) -> tuple[Driven, Driven, StoppingSink]:
    zombie, heir = Driven(warehouse, sent.log), Driven(warehouse, sent.log)
    sink = StoppingSink(warehouse, zombie.journal)
    zombie.stream_worker._assignment._sink = zombie.stream_worker._sink._sink = zombie.sink = sink
    return zombie, heir, sink


def final_windows() -> tuple[Sent, list[LogMessage], list[LogMessage]]:
    """The zombie has read the power of two windows, not their tokens, when both of its topics fall silent."""
    sent = two_windows()
    return sent, [], sent.log.messages[topics.POWER][:-1]


def late_facts() -> tuple[Sent, list[LogMessage], list[LogMessage]]:
    """An empty window gets late power and late tokens; the zombie has read the power only."""
    sent = Sent()
    sent.power(interval(0), interval(52))
    sent.tokens(request(0), request(52, name="r1"))
    sent.complete_to(70)
    first = [m for t in topics.JOINED for m in sent.log.messages[t]]
    sent.power(interval(32))
    sent.tokens(request(33, name="late"))
    return sent, first, [sent.log.messages[topics.POWER][-1]]


def books(warehouse: Warehouse) -> tuple[object, ...]:
    facts = warehouse.query(
        "SELECT (SELECT sum(energy_uj) FROM gpu_energy FINAL) AS uj, "
        "(SELECT (sum(prompt_tokens), sum(requests)) FROM token_usage FINAL) AS tokens, "
        "(SELECT (sum(active_uj + idle_uj), uniqExact(request_id)) FROM request_energy FINAL) AS requests, "
        "(SELECT count() FROM ledger FINAL) AS rows"
    )
    return fingerprint(warehouse, Period(T0 - 1, T0 + 10**8), ["c"]), facts


_undisturbed: dict[str, tuple[object, ...]] = {}


async def undisturbed(warehouse: Warehouse, kind: str, sent: Sent) -> tuple[object, ...]:
    """The ledger of the same log by one undisturbed worker, in tables emptied for it. Computed once per kind."""
    if kind in _undisturbed:
        return _undisturbed[kind]
    for table in ("gpu_energy", "token_usage", "request_energy", "ledger", "ledger_hour", "marks", "sources"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    driven = Driven(warehouse, sent.log)
    await driven.stream_worker.assign([0])
    await driven.read()
    driven.clock.now_ms += 10_000_000
    for _ in range(2):
        await driven.stream_worker.store_once()
    return _undisturbed.setdefault(kind, books(warehouse))


@pytest.mark.parametrize(
    "after", [pytest.param(False, id="before"), pytest.param(True, id="after", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("kind", "call"), [(kind, n) for kind, calls in CALLS.items() for n in range(calls)])
def test_a_zombie_that_continues_at_any_call_of_its_flush_changes_nothing(
    warehouse: Warehouse, kind: str, call: int, after: bool
) -> None:
    sent, first, then = final_windows() if kind == "final" else late_facts()
    zombie, heir, sink = two(warehouse, sent)

    async def run() -> None:
        await zombie.stream_worker.assign([0])
        await zombie.read(first)
        await zombie.stream_worker.store_once()
        await zombie.read(then)
        zombie.clock.now_ms += 10_000_000
        sink.arm(call, after=after)
        storing = asyncio.create_task(zombie.stream_worker.store_once())
        assert await asyncio.to_thread(sink.stopped.wait, HANG_S), f"the flush has no call {call}"
        heir.clock.now_ms = zombie.clock.now_ms
        await heir.stream_worker.assign([0])
        await heir.read()
        heir.clock.now_ms += 10_000_000
        await heir.stream_worker.store_once()
        sink.go_on.set()
        await storing
        for driven in (zombie, heir):
            driven.clock.now_ms += 10_000
            await driven.stream_worker.store_once()
        assert ledger(warehouse) == sent.oracle()
        assert hours(warehouse) == by_hour(sent.oracle())
        assert days(warehouse) == by_day(sent.oracle())
        actual = books(warehouse)
        assert actual == await undisturbed(warehouse, kind, sent)

    asyncio.run(run())


@pytest.mark.parametrize("kind", CALLS)
def test_a_zombies_flush_has_the_tested_number_of_calls(warehouse: Warehouse, kind: str) -> None:
    sent, first, then = final_windows() if kind == "final" else late_facts()
    zombie, _, sink = two(warehouse, sent)

    async def run() -> None:
        await zombie.stream_worker.assign([0])
        await zombie.read(first)
        await zombie.stream_worker.store_once()
        await zombie.read(then)
        zombie.clock.now_ms += 10_000_000
        sink.arm(-1, after=False)
        await zombie.stream_worker.store_once()

    asyncio.run(run())
    assert sink.calls == CALLS[kind]


def test_a_fenced_worker_drops_only_that_partition_and_commits_nothing_of_it(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    sent = two_windows()
    zombie, heir = Driven(warehouse, sent.log), Driven(warehouse, sent.log)
    before = metrics.FENCED._value.get()

    async def run() -> None:
        await zombie.stream_worker.assign([0, 1])
        await zombie.read()
        await heir.stream_worker.assign([0])
        await zombie.stream_worker.store_once()
        assert zombie.stream_worker.partitions == [1]
        await zombie.stream_worker.store_once()
        assert zombie.stream_worker.partitions == [1]

    asyncio.run(run())
    assert zombie.committed == {t: [] for t in topics.JOINED}
    assert metrics.FENCED._value.get() == before + 1
    assert "Another worker has claimed partition 0 of log" in caplog.text
    assert ledger(warehouse) == {}


def test_a_fenced_worker_continues_a_partition_that_the_group_assigns_again(warehouse: Warehouse) -> None:
    sent = two_windows()
    zombie, heir = Driven(warehouse, sent.log), Driven(warehouse, sent.log)

    async def run() -> None:
        await zombie.stream_worker.assign([0])
        await zombie.read()
        await heir.stream_worker.assign([0])
        await zombie.stream_worker.store_once()
        await zombie.stream_worker.revoke()
        await zombie.stream_worker.assign([0])
        zombie.read_to = dict.fromkeys(topics.JOINED, 0)
        await zombie.read()
        zombie.clock.now_ms += 10 * zombie.settings.session_timeout_ms
        await zombie.stream_worker.store_once()
        with pytest.raises(Fenced):
            heir.sink.write("marks", _some_mark(heir), Fence("log", (0,), 2))

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()


def _some_mark(driven: Driven) -> Table:
    return next(e[2] for e in driven.journal if e[:2] == ("write", "marks"))


def test_a_fenced_worker_that_still_has_the_partition_ends_to_rejoin(warehouse: Warehouse) -> None:
    """Otherwise no worker might store it: the group believes that this worker does."""
    zombie, heir = Driven(warehouse), Driven(warehouse)

    async def run() -> None:
        await zombie.stream_worker.assign([0])
        await heir.stream_worker.assign([0])
        await zombie.stream_worker.store_once()
        zombie.stream_worker._assignment.drop(0, Fenced("log", (0,), 1))
        zombie.clock.now_ms += 3 * zombie.settings.session_timeout_ms
        await zombie.stream_worker.store_once()
        zombie.clock.now_ms += 1
        await zombie.stream_worker.store_once()

    with pytest.raises(Fenced, match="Another worker has claimed"):
        asyncio.run(run())


def test_two_workers_that_take_a_partition_over_at_once_do_not_both_write_it(warehouse: Warehouse) -> None:
    sent = two_windows()
    workers = [Driven(warehouse, sent.log) for _ in range(3)]

    async def run() -> None:
        await asyncio.gather(*(w.stream_worker.assign([0]) for w in workers))
        for worker in workers:
            if worker.stream_worker.partitions:
                await worker.read()
        await asyncio.gather(*(w.stream_worker.store_once() for w in workers))

    asyncio.run(run())
    assert sum(len(w.stream_worker.partitions) for w in workers) == 1
    assert sum(bool(w.committed[topics.POWER]) for w in workers) == 1
    assert ledger(warehouse) == sent.oracle()


def test_a_checkpoint_cannot_move_after_the_claim_of_a_takeover(
    warehouse: Warehouse,
) -> None:
    """The old owner stores its checkpoint right after the new one has claimed, before that reads the checkpoint."""
    sent = two_windows()
    old, new = Driven(warehouse, sent.log), Driven(warehouse, sent.log)
    claim = new.sink.claim

    async def run() -> None:
        await old.stream_worker.assign([0])
        await old.read()
        loop = asyncio.get_running_loop()

        def then_the_old_one_stores(*args: Any) -> int:
            epoch = claim(*args)
            asyncio.run_coroutine_threadsafe(old.stream_worker.store_once(), loop).result(HANG_S)
            return epoch

        new.sink.claim = then_the_old_one_stores  # type: ignore[method-assign]
        await new.stream_worker.assign([0])
        assert ledger(warehouse) == {}
        await new.read()
        await new.stream_worker.store_once()

    asyncio.run(run())
    assert old.committed == {t: [] for t in topics.JOINED}
    assert ledger(warehouse) == sent.oracle()


def test_a_write_of_a_partition_that_was_given_up_is_not_retried(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warehouse is away when the group revokes the partition: the flush is the next owner's."""
    monkeypatch.setattr(store_module, "RETRY_FIRST_S", 0.002)
    monkeypatch.setattr("streams.stream_worker.REVOKE_WAIT_S", 0.01)
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        driven.sink.fail["ledger"] = 10**9
        storing = asyncio.create_task(driven.stream_worker.store_once())
        await until(lambda: bool(driven.sink.refused))
        await driven.stream_worker.revoke()
        await asyncio.wait_for(storing, HANG_S)

    asyncio.run(run())
    assert driven.committed == {t: [] for t in topics.JOINED}
    assert ledger(warehouse) == {}


def test_a_takeover_waits_for_an_absent_warehouse(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_FIRST_S", 0.002)
    sent = two_windows()
    driven = Driven(warehouse, sent.log, settings=settings())
    claim, left = driven.sink.claim, [Unavailable("the warehouse is away", "Wait.")] * 3

    def failing(*args: Any) -> int:
        if left:
            raise left.pop()
        return claim(*args)

    driven.sink.claim = failing  # type: ignore[method-assign]

    async def run() -> None:
        driven.sink.fail["marks"] = 2
        await driven.stream_worker.assign([0])
        await driven.read()
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()
