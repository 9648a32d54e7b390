"""Assignments: the state that is dropped, the writes that are awaited, and the start of the next owner."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from contracts import topics
from streams.core.decoding import LogMessage
from tests.streams.driven_worker import Driven, by_day, by_hour, days, hours, ledger
from tests.streams.sample_log import Sent, busy_minutes, interval, request, two_windows
from tests.support.waiting import HANG_S, until
from warehouse.client import Warehouse


def test_giving_partitions_up_waits_for_the_write_in_flight(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        driven.sink.open.clear()
        storing = asyncio.create_task(driven.stream_worker.store_once())
        assert await asyncio.to_thread(driven.sink.waiting.wait, HANG_S)
        leaving = asyncio.create_task(driven.stream_worker.revoke())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not leaving.done()
        driven.sink.open.set()
        await asyncio.gather(storing, leaving)
        assert driven.stream_worker.partitions == []

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()
    assert driven.committed[topics.POWER] == [0, 1, 2, 3, 4]


def test_state_is_dropped_without_a_commit_when_partitions_are_given_up(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        await driven.stream_worker.revoke()
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert driven.committed == {t: [] for t in topics.JOINED}
    assert ledger(warehouse) == {}


def test_a_message_that_waited_while_partitions_were_given_up_is_not_passed_to_their_next_owner(
    warehouse: Warehouse,
) -> None:
    """Its offset would be an offset gap for the new state, which begins at the committed offset."""
    sent = Sent()
    for n in range(60):
        sent.power(interval(n, 1))
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        puts = [asyncio.create_task(driven.put(m)) for m in sent.log.messages[topics.POWER]]
        await until(lambda: sum(t.done() for t in puts) >= 4 * driven.settings.batch_messages)
        assert not puts[-1].done()
        await driven.stream_worker.revoke()
        await driven.stream_worker.assign([0])
        await asyncio.gather(*puts)
        driven.stream_worker.messages = 0
        sent.tokens(request(0))
        sent.complete_to(60)
        await driven.read(m for t in topics.JOINED for m in sent.log.messages[t])
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()


def test_messages_during_a_takeover_wait_for_it(warehouse: Warehouse) -> None:
    """Faust resumes the flow beside the callback that takes over: a message dropped here would be an offset gap."""
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        driven.sink.open.clear()
        taking = asyncio.create_task(driven.stream_worker.assign([0]))
        reading = asyncio.create_task(driven.read())
        assert await asyncio.to_thread(driven.sink.waiting.wait, HANG_S)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert driven.stream_worker.messages == 0
        driven.sink.open.set()
        await asyncio.gather(taking, reading)
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()


def test_each_owner_of_a_partition_takes_a_greater_epoch(warehouse: Warehouse) -> None:
    async def run() -> list[int]:
        driven = Driven(warehouse)
        epochs = []
        for _ in range(3):
            await driven.stream_worker.assign([0])
            mark = driven.sink.load_checkpoint("log", 0)
            assert mark is not None
            epochs.append(mark["epoch"])
            await driven.stream_worker.revoke()
        return epochs

    assert asyncio.run(run()) == [1, 2, 3]


def test_a_claim_of_a_past_assignment_does_not_affect_the_current_one(
    warehouse: Warehouse,
) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)
    claim, claimed, returns = driven.sink.claim, threading.Event(), threading.Event()

    def slow(*args: Any) -> int:
        epoch = claim(*args)
        claimed.set()
        assert returns.wait(HANG_S)
        return epoch

    async def run() -> None:
        driven.sink.claim = slow  # type: ignore[method-assign]
        past = asyncio.create_task(driven.stream_worker.assign([0]))
        assert await asyncio.to_thread(claimed.wait, HANG_S)
        await driven.stream_worker.revoke()
        driven.sink.claim = claim  # type: ignore[method-assign]
        await driven.stream_worker.assign([0])
        returns.set()
        await past
        await driven.read()
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert driven.stream_worker.partitions == [0]
    assert ledger(warehouse) == sent.oracle()


def test_writes_of_a_worker_that_lost_its_partition_are_refused(warehouse: Warehouse) -> None:
    """A zombie read only half of a window's messages and stores it after its successor has stored all of it."""
    sent = two_windows()
    sent.complete_to(30)
    zombie, heir = Driven(warehouse, sent.log), Driven(warehouse, sent.log)

    async def run() -> None:
        await zombie.stream_worker.assign([0])
        half = [m for t in topics.JOINED for m in (*sent.log.messages[t][:1], *sent.log.messages[t][1:2])]
        await zombie.read(half)
        await heir.stream_worker.assign([0])
        await heir.read()
        await heir.stream_worker.store_once()
        zombie.clock.now_ms += 10_000_000  # Both of its topics are silent: it closes its windows.
        await zombie.stream_worker.store_once()

    asyncio.run(run())
    assert zombie.written == ["marks"]  # at its takeover
    assert (zombie.stream_worker.partitions, heir.stream_worker.partitions) == ([], [0])
    assert ledger(warehouse) == sent.oracle()
    assert hours(warehouse) == by_hour(sent.oracle())
    assert days(warehouse) == by_day(sent.oracle())


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 6))])
def test_a_worker_that_dies_anywhere_and_returns_makes_the_same_ledger(warehouse: Warehouse, seed: int) -> None:
    """Late facts, duplicates, spans over windows; killed between any two writes, read again from the commit."""
    rng, sent = random.Random(100 + seed), busy_minutes(seed)
    lives = [_Life(warehouse, sent) for _ in range(4)]

    async def run() -> None:
        for life in lives[:-1]:
            await life.run(rng, committed=_committed(lives), die_after=rng.randrange(1, 60))
        await lives[-1].run(rng, committed=_committed(lives), die_after=10**9)

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()
    assert hours(warehouse) == by_hour(sent.oracle())
    assert days(warehouse) == by_day(sent.oracle())
    assert _committed(lives) == {t: len(messages) for t, messages in sent.log.messages.items()}


class _Life:
    """One worker from its assignment to its end: after a number of writes, or when all is stored."""

    def __init__(self, warehouse: Warehouse, sent: Sent) -> None:
        self.driven = Driven(warehouse, sent.log)
        self._left = 0
        sink = self.driven.sink
        sink.write = self._counted(sink.write)  # type: ignore[method-assign]
        sink.refresh_days = self._counted(sink.refresh_days)  # type: ignore[method-assign]

    def _counted(self, write: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: object) -> None:
            self._left -= 1
            if self._left < 0:
                raise RuntimeError("killed")
            write(*args)

        return counted

    async def run(self, rng: random.Random, *, committed: dict[str, int], die_after: int) -> None:
        driven, self._left = self.driven, die_after
        waiting = {t: driven.log.messages[t][committed[t] :] for t in topics.JOINED}
        try:
            await driven.stream_worker.assign([0])
            while any(waiting.values()):
                some: list[LogMessage] = []
                for messages in waiting.values():
                    count = rng.randrange(12)
                    some += messages[:count]
                    del messages[:count]
                await driven.read(some)
                driven.clock.now_ms += 1_500
                await driven.stream_worker.store_once()
            driven.clock.now_ms += 10_000_000
            for _ in range(3):
                await driven.stream_worker.store_once()
        except RuntimeError:
            assert self._left < 0


def _committed(lives: list[_Life]) -> dict[str, int]:
    return {t: max((o + 1 for life in lives for o in life.driven.committed[t]), default=0) for t in topics.JOINED}
