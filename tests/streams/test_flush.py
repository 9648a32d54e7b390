"""The order of a flush: facts, ledger, hours, checkpoint, and only then the offsets."""

from __future__ import annotations

import asyncio

import pytest

from contracts import topics
from contracts.errors import LedgerError
from streams import retrying_sink as store_module
from tests.streams.driven_worker import Driven, by_day, by_hour, days, hours, ledger, plain, settings
from tests.streams.sample_log import Sent, interval, request, two_windows
from tests.support.waiting import HANG_S, until
from warehouse.client import Warehouse

FACTS = ["gpu_energy", "token_usage", "request_energy"]


@pytest.fixture(autouse=True)
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_FIRST_S", 0.002)


def test_facts_ledger_hours_and_checkpoint_are_stored_before_offsets_are_committed(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        driven.journal.clear()
        await driven.read()
        await driven.stream_worker.store_once()

    asyncio.run(run())
    steps = [e[1] if e[0] == "write" else e[0] for e in driven.journal]
    first_commit = steps.index("commit")
    assert steps[:7] == [*FACTS, "ledger", "sources", "marks", "hours"]
    assert "commit" not in steps[:7]
    assert set(steps[first_commit:]) == {"commit"}
    assert ledger(warehouse) == sent.oracle()
    assert hours(warehouse) == by_hour(sent.oracle())
    assert days(warehouse) == by_day(sent.oracle())


def test_commits_are_in_offset_order_without_gaps(warehouse: Warehouse) -> None:
    """The message of the later window is first: it holds back later ones until its own window is stored."""
    sent = Sent()
    sent.power(interval(12))
    sent.power(interval(2))
    sent.tokens(request(2))
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        for t_s, expected in ((10, []), (20, [0, 1, 2])):
            sent.complete_to(t_s)
            await driven.read()
            await driven.stream_worker.store_once()
            assert driven.committed[topics.POWER][: len(expected) or None] == expected

    asyncio.run(run())
    assert driven.committed[topics.POWER] == [0, 1, 2, 3]
    assert driven.committed[topics.TOKENS] == [0, 1, 2]


def test_no_message_of_an_open_window_is_committed(warehouse: Warehouse) -> None:
    sent = Sent()
    sent.power(interval(2))
    sent.tokens(request(2))
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        for _ in range(3):
            driven.clock.now_ms += 2_000
            await driven.stream_worker.store_once()

    asyncio.run(run())
    assert driven.committed == {t: [] for t in topics.JOINED}
    assert ledger(warehouse) == {}


@pytest.mark.parametrize("table", [*FACTS, "ledger", "marks"])
def test_a_failed_write_is_repeated_with_the_same_rows(warehouse: Warehouse, table: str) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        driven.sink.fail[table] = 3
        await driven.read()
        await driven.stream_worker.store_once()

    asyncio.run(run())
    refused = [plain(rows) for name, rows in driven.sink.refused]
    repeated = next(plain(e[2]) for e in reversed(driven.journal) if e[:2] == ("write", table))
    assert refused == [repeated] * 3
    assert ledger(warehouse) == sent.oracle()
    assert driven.committed[topics.POWER] == [0, 1, 2, 3, 4]


def test_a_ledger_that_does_not_balance_ends_the_worker_without_a_retry(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    def unbalanced(*_: object) -> None:
        raise LedgerError("attribution lost energy")

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        await driven.stream_worker.store_once()
        sent.power(interval(1, gpu="late"))
        await driven.read()
        monkeypatch.setattr(driven.sink, "facts_many", unbalanced)
        async with asyncio.timeout(HANG_S):
            await driven.stream_worker.store_once()

    with pytest.raises(LedgerError, match="lost energy"):
        asyncio.run(run())


@pytest.mark.slow
def test_reading_waits_at_the_bound_while_the_store_fails_and_continues_afterwards(warehouse: Warehouse) -> None:
    sent = Sent()
    for n in range(120):  # 64 rows and more a window, 4 windows a message: far over the bound of 10,000
        sent.power(interval(40 * n, 40))
        sent.tokens(request(40 * n, 40, name=f"r{n}"))
    sent.complete_to(40 * 120)
    bounded = settings(max_open_rows=10_000)
    driven = Driven(warehouse, sent.log, settings=bounded)
    driven.clock.now_ms += 10**8
    count = 0

    async def feed() -> None:
        nonlocal count
        for pair in zip(*sent.log.messages.values(), strict=True):
            for message in pair:
                await driven.put(message)
                count += 1

    async def run() -> None:
        await driven.stream_worker.assign([0])
        driven.sink.fail["gpu_energy"] = 10**9
        tasks = [
            asyncio.create_task(c)
            for c in (driven.stream_worker.ingest_forever(), driven.stream_worker.store_forever())
        ]
        feeding = asyncio.create_task(feed())
        await until(lambda: bool(driven.sink.refused) and count > 50)
        before = -1
        while before != count:  # Until no more messages are accepted.
            before = count
            await asyncio.sleep(0.1)
        assert not feeding.done()
        assert count <= driven.stream_worker.messages + 4 * bounded.batch_messages + 1
        assert driven.committed == {t: [] for t in topics.JOINED}
        driven.sink.fail.clear()
        await until(lambda: driven.committed[topics.POWER][-1:] == [120])
        assert feeding.done()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()


def test_an_outage_of_the_warehouse_makes_no_waiting_message_late(warehouse: Warehouse) -> None:
    """Reading may have waited, so neither topic was silent: the windows stay open for later messages."""
    sent = two_windows()
    driven = Driven(warehouse, sent.log, settings=settings(idle_timeout_ms=30_000))
    failing = driven.sink.write

    def slowly(name: str, table: object, fence: object) -> None:
        driven.clock.now_ms += 60_000 if driven.sink.fail.get(name) else 0
        failing(name, table, fence)  # type: ignore[arg-type]

    driven.sink.write = slowly  # type: ignore[method-assign]

    async def run() -> None:
        await driven.stream_worker.assign([0])
        sent.power(interval(22))
        await driven.read()
        driven.sink.fail["ledger"] = 5
        await driven.stream_worker.store_once()
        driven.clock.now_ms += 1_000
        await driven.stream_worker.store_once()
        sent.power(interval(23, gpu="g1"))
        sent.tokens(request(22, name="waited"))
        sent.complete_to(40)
        await driven.read()
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()
    assert warehouse.query("SELECT max(revision) AS r FROM ledger FINAL") == [{"r": 0}]


def test_a_worker_is_stalled_while_messages_wait_without_reading_or_storing(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        driven.clock.now_ms += 10**9
        assert driven.stream_worker.stalled_ms() == 0  # No message to read.
        await driven.read()
        await driven.put(sent.log.messages[topics.POWER][-1])
        driven.clock.now_ms += 7_000
        assert driven.stream_worker.stalled_ms() == 7_000
        driven.sink.fail["ledger"] = 1
        await driven.stream_worker.store_once()
        assert driven.stream_worker.stalled_ms() == 0

    asyncio.run(run())
