"""Late events, unreadable messages and provisional windows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from contracts import topics
from producers.runtime.batching import RequestRow, token_batch
from streams import metrics
from streams.core.decoding import RejectedMessage
from tests.streams.driven_worker import T0, Driven, by_day, by_hour, days, hours, ledger, settings
from tests.streams.sample_log import Sent, interval, request, two_windows
from tests.support.partition_log import power
from tests.support.waiting import until
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse
from warehouse.ledger import ledger_queries
from warehouse.periods import Period
from warehouse.reader import operator_reader


def _one_window_ended(warehouse: Warehouse) -> tuple[Sent, Driven]:
    """A log whose first window has ended and is not final for a minute, and a stream worker over it."""
    sent = Sent()
    sent.power(interval(1))
    sent.tokens(request(1))
    sent.complete_to(15)
    return sent, Driven(warehouse, sent.log, settings=settings(lateness_ms=60_000))


def _run(driven: Driven, *steps: object) -> None:
    """Read new messages on the log and store, after each step."""

    async def run() -> None:
        await driven.stream_worker.assign([0])
        for step in (lambda: None, *steps):
            step()  # type: ignore[operator]
            await driven.read()
            await driven.stream_worker.store_once()

    asyncio.run(run())


@pytest.mark.parametrize(("max_age_ms", "old"), [(300_000, 2), (3_600_000, 0)])
def test_windows_restated_long_after_their_time_are_counted_and_logged(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture, max_age_ms: int, old: int
) -> None:
    """The worker's clock is ten minutes after the first event."""
    sent = two_windows()
    driven = Driven(warehouse, sent.log, settings=settings(max_age_ms=max_age_ms))
    before = metrics.OLD_RESTATED._value.get()
    _run(driven, lambda: (sent.tokens(request(3, name="late")), sent.tokens(request(13, name="late too"))))
    assert metrics.OLD_RESTATED._value.get() - before == old
    assert ("max_age_ms" in caplog.text) is (old > 0)


def test_a_late_message_restates_the_ledger_and_its_hour(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    def late() -> None:
        assert ledger(warehouse) == sent.oracle()
        sent.tokens(request(3, tenant="late-tenant", name="late"))
        sent.power(interval(2, gpu="late-gpu"))

    _run(driven, late)
    assert ledger(warehouse) == sent.oracle()
    assert hours(warehouse) == by_hour(sent.oracle())
    assert days(warehouse) == by_day(sent.oracle())
    revisions = warehouse.query("SELECT DISTINCT window_start, revision FROM ledger FINAL ORDER BY window_start")
    assert [r["revision"] for r in revisions] == [2, 0]
    assert audit(operator_reader(warehouse)).ok


def test_a_report_that_replaces_an_estimate_in_a_final_window_leaves_one_request_with_its_tokens(
    warehouse: Warehouse,
) -> None:
    sent = Sent()
    sent.power(interval(1))
    estimate = RequestRow(
        tenant="acme", model="m", request_id="r1", t_start_ms=T0 + 1_000, t_first_ms=0, t_end_ms=T0 + 9_000,
        prompt_tokens=300, cached_tokens=0, completion_tokens=40, estimated_prompt_tokens=300, session_id="s1",
    )  # fmt: skip
    report = estimate._replace(prompt_tokens=90, completion_tokens=30, estimated_prompt_tokens=0)
    sent.log.append(token_batch([estimate], 0))
    sent.complete_to(20)
    driven = Driven(warehouse, sent.log)

    def replaced() -> None:
        sent.log.append(replace(token_batch([estimate, report], 0), requests=np.array([-1, 1])), source="report")

    _run(driven, replaced)
    reader = operator_reader(warehouse)
    [one] = ledger_queries.requests(reader, Period(T0, T0 + 60_000)).rows
    assert (one.prompt_tokens, one.completion_tokens, one.estimated_prompt_tokens) == (90, 30, 0)
    [row] = warehouse.query(
        "SELECT sum(requests) AS n, sum(active_uj + idle_uj) AS uj FROM ledger FINAL WHERE tenant != '__idle__'"
    )
    assert (row["n"], row["uj"]) == (1, one.active_uj + one.idle_uj)
    assert audit(reader).ok


def test_a_late_message_is_committed_only_after_its_restatement(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)
    _run(driven, lambda: (driven.journal.clear(), sent.power(interval(2, gpu="late-gpu"))))
    steps = [e[1] if e[0] == "write" else e[0] for e in driven.journal]
    assert steps.index("gpu_energy") < steps.index("ledger") < steps.index("marks") < steps.index("hours")
    assert steps.index("marks") < steps.index("commit")
    assert driven.committed[topics.POWER] == [5]


def test_a_late_duplicate_changes_nothing(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    def again() -> None:
        for messages in sent.log.messages.values():
            sent.log.repeat(messages[0])
        driven.clock.now_ms += 2_000

    _run(driven, again)
    assert ledger(warehouse) == sent.oracle()
    assert audit(operator_reader(warehouse)).duplicates == 2


def test_an_unreadable_message_is_published_as_a_dead_letter_before_its_offset_is_committed(
    warehouse: Warehouse,
) -> None:
    sent = Sent()
    sent.power(interval(1))
    sent.log.raw(topics.POWER, [("ce_type", b"wattlog.power.v9")], b"\x00garbage")
    sent.power(interval(3))
    sent.tokens(request(1))
    sent.log.raw(topics.TOKENS, None, None)
    sent.complete_to(20)
    driven = Driven(warehouse, sent.log)
    _run(driven)
    order = [e for e in driven.journal if e[0] in ("published", "commit")]
    for dead in ((topics.POWER, 1), (topics.TOKENS, 1)):
        assert order.index(("published", *dead)) < order.index(("commit", *dead))
    assert driven.committed == {topics.POWER: [0, 1, 2, 3], topics.TOKENS: [0, 1, 2]}
    assert ledger(warehouse) == sent.oracle()
    assert driven.stream_worker.rejected == 2


def test_a_dead_letter_that_cannot_be_published_ends_ingestion_and_holds_the_offsets(warehouse: Warehouse) -> None:
    sent = Sent()
    sent.log.raw(topics.POWER, None, b"garbage")
    sent.power(interval(1))
    sent.complete_to(20)

    async def refuse(rejected: RejectedMessage, partition: int) -> None:
        raise ConnectionError("no broker for the dead letter")

    driven = Driven(warehouse, sent.log, publish=refuse)
    with pytest.raises(ConnectionError, match="no broker"):
        _run(driven)
    asyncio.run(driven.stream_worker.store_once())
    assert driven.committed[topics.POWER] == []


def test_an_event_from_the_future_is_a_dead_letter_and_does_not_close_windows(warehouse: Warehouse) -> None:
    sent = Sent()
    sent.power(interval(1))
    sent.tokens(request(1))
    driven = Driven(warehouse, sent.log)
    sent.log.append(power([interval((driven.clock.now_ms - T0) / 1000 + 1)]), source="fast-clock")
    _run(driven)
    assert driven.stream_worker.rejected == 1
    assert ledger(warehouse) == {}


def test_an_ended_window_is_provisional_and_replaced_when_final(warehouse: Warehouse) -> None:
    sent, driven = _one_window_ended(warehouse)
    early = sent.oracle()

    def more() -> None:
        assert ledger(warehouse, final=0) == early
        assert hours(warehouse) == {}  # Bills use final windows.
        sent.power(interval(4))
        sent.tokens(request(2, tenant="second", name="r1"))
        driven.clock.now_ms += 2_000

    def close() -> None:
        assert ledger(warehouse, final=0) == sent.oracle()
        sent.complete_to(80)
        driven.clock.now_ms += 2_000

    _run(driven, more, close)
    assert ledger(warehouse, final=0) == {}
    assert ledger(warehouse) == sent.oracle()


def test_a_provisional_row_that_is_not_in_the_final_window_disappears(warehouse: Warehouse) -> None:
    """First the GPU was idle; then its work arrived: no row of __idle__ may remain."""
    sent = Sent()
    sent.power(interval(1))
    sent.complete_to(15)
    driven = Driven(warehouse, sent.log, settings=settings(lateness_ms=60_000))

    def work_arrives() -> None:
        assert [key[4] for key in ledger(warehouse, final=0)] == ["__idle__"]
        sent.tokens(request(1))
        sent.complete_to(80)

    _run(driven, work_arrives)
    assert ledger(warehouse, final=0) == {}
    assert ledger(warehouse) == sent.oracle()


def test_open_windows_wait_while_event_times_run_ahead_of_the_clock_and_are_shown_afterwards(
    warehouse: Warehouse,
) -> None:
    """The worker reads a backlog: its provisional rows would soon be final."""
    sent, driven = _one_window_ended(warehouse)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        await driven.stream_worker.store_once(reading=True)
        assert ledger(warehouse, final=0) == {}
        driven.clock.now_ms += 2_000
        await driven.stream_worker.store_once(reading=True)
        assert ledger(warehouse, final=0) == sent.oracle()

    asyncio.run(run())


def test_a_worker_with_more_messages_than_room_shows_no_open_windows(
    warehouse: Warehouse,
) -> None:
    """Rounds of a slow store take longer than the interval: provisional rows would slow it further."""
    sent, driven = _one_window_ended(warehouse)
    once, rounds = driven.stream_worker.store_once, 0

    async def counted(**how: bool) -> None:
        nonlocal rounds
        await once(**how)
        rounds += 1

    async def some_rounds_later() -> None:
        driven.clock.now_ms += 2_000
        target = rounds + 2  # One may have begun before.
        await until(lambda: rounds >= target)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        await once(reading=True)
        sent.complete_to(16)
        await driven.put(sent.log.messages[topics.POWER][-1])
        driven.stream_worker.store_once = counted  # type: ignore[method-assign]
        storing = asyncio.create_task(driven.stream_worker.store_forever())
        await some_rounds_later()
        assert ledger(warehouse, final=0) == {}
        await driven.read([], all_taken=False)
        await some_rounds_later()
        assert ledger(warehouse, final=0) == sent.oracle()
        storing.cancel()

    asyncio.run(run())
