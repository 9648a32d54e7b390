"""Rows to events: order, size, numbers, heartbeats."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, topics
from contracts.events import Event, Method
from producers.recordings.base import HOLD_MS, BadRow, PowerRow, Row, TokenRow, key_ms, reorder
from producers.recordings.batches import MAX_ROWS, TICK_MS, events_of
from tests.producers.recordings.replay import replay, wire

T0 = 1_700_000_000_000


def _power(t0: int, t1: int, workload: str = "w", gpu: str = "g", node: str = "n", uj: int = 7) -> PowerRow:
    return PowerRow(
        key_ms=key_ms(t0, t1),
        cluster="c",
        workload=workload,
        node=node,
        gpu_uuid=gpu,
        hardware="H100",
        t0_ms=t0,
        t1_ms=t1,
        energy_uj=uj,
        method=Method.COUNTER,
    )


def _token(start: int, end: int, workload: str = "w", request: str = "r") -> TokenRow:
    return TokenRow(
        key_ms=key_ms(start, end),
        cluster="c",
        workload=workload,
        tenant="t",
        model="m",
        request_id=request,
        t_start_ms=start,
        t_first_ms=0,
        t_end_ms=end,
        prompt_tokens=5,
        cached_tokens=1,
        completion_tokens=3,
    )


ROWS = st.lists(
    st.builds(
        lambda power, t, d, w, n: _power(T0 + t, T0 + t + d + 1, w, node=n) if power else _token(T0 + t, T0 + t + d, w),
        st.booleans(), st.integers(0, 200_000), st.integers(0, 100_000), st.sampled_from("ab"), st.sampled_from("xy"),
    ),
    max_size=200,
)  # fmt: skip


def _events(rows: list[Row], close_ms: int = 135_000) -> list[Event]:
    end_ms = max((r.t1_ms if isinstance(r, PowerRow) else r.t_end_ms for r in rows), default=T0)
    groups = {(r.cluster, r.workload) for r in rows} | {("c", "quiet")}
    items = events_of(reorder(rows), name="test/x", groups=groups, epoch=T0, end_ms=end_ms, close_ms=close_ms)
    return [e for e in items if isinstance(e, Event)]


@given(ROWS)
def test_every_row_is_sent_once(rows: list[Row]) -> None:
    out = replay(_events(rows))
    assert sum(out.energy_uj.values()) == 7 * sum(isinstance(r, PowerRow) for r in rows)
    assert sum(out.requests.values()) == sum(isinstance(r, TokenRow) for r in rows)


@given(ROWS)
def test_each_source_writes_one_topic_and_numbers_from_0_without_gaps(rows: list[Row]) -> None:
    numbers, written = defaultdict(list), defaultdict(set)
    for e in _events(rows):
        numbers[e.source].append(e.seq)
        written[e.source].add((codec.topic_of(e.batch), e.cluster, e.workload))
    assert all(n == list(range(len(n))) for n in numbers.values())
    assert all(len(w) == 1 for w in written.values())
    assert len({next(iter(w)) for w in written.values()}) == len(written)


@given(ROWS)
def test_no_topic_runs_ahead_of_the_clock_and_no_event_is_late(rows: list[Row]) -> None:
    clock = 0
    for e in _events(rows)[: -2 * 3]:  # without the last heartbeats of three workloads
        assert e.batch.t_ms >= clock - TICK_MS
        clock = max(clock, e.batch.t_ms)
        starts = getattr(e.batch, "t0_ms", None)
        if starts is None:
            starts = e.batch.t_start_ms  # type: ignore[union-attr]
        assert all(clock - HOLD_MS - 2 * TICK_MS <= t <= clock + TICK_MS for t in starts.tolist())


@given(ROWS)
def test_both_topics_keep_step_in_every_workload(rows: list[Row]) -> None:
    clocks: dict[tuple[str, str], int] = {}
    for e in _events(rows):
        if codec.topic_of(e.batch) == topics.TOKENS:
            assert abs(clocks[e.workload, topics.POWER] - e.batch.t_ms) <= TICK_MS
        clocks[e.workload, codec.topic_of(e.batch)] = e.batch.t_ms


@given(ROWS)
def test_the_same_rows_give_the_same_bytes(rows: list[Row]) -> None:
    assert wire(_events(rows)) == wire(_events(rows))


def test_every_workload_ends_with_a_heartbeat_on_both_topics() -> None:
    last = _events([_power(T0, T0 + 1000), _token(T0, T0 + 500)], close_ms=99)[-4:]
    assert {(e.workload, codec.topic_of(e.batch)) for e in last} == {
        (w, t) for w in ("w", "quiet") for t in topics.JOINED
    }
    assert all(len(e.batch) == 0 and e.batch.event_ms == T0 + 1000 + 99 for e in last)


def test_a_large_tick_is_cut_into_events_and_only_the_last_is_complete() -> None:
    rows: list[Row] = [_token(T0, T0 + 10, request=f"r{i}") for i in range(2 * MAX_ROWS + 1)]
    sent = [e.batch for e in _events(rows) if len(e.batch)]
    assert [len(b) for b in sent] == [MAX_ROWS, MAX_ROWS, 1]
    assert [b.t_ms for b in sent] == [T0, T0, T0 + TICK_MS]


def test_a_batch_holds_one_node() -> None:
    out = _events([_power(T0, T0 + 1, node="x"), _power(T0, T0 + 1, node="y"), _power(T0 + 1, T0 + 2, node="x")])
    assert sorted((e.batch.node, len(e.batch)) for e in out if len(e.batch)) == [("x", 2), ("y", 1)]  # type: ignore[union-attr]


def test_bad_rows_keep_their_place() -> None:
    bad = BadRow("f", 2, "c", "v", "r")
    items = list(events_of([_token(T0, T0), bad], name="n", groups=[("c", "w")], epoch=0, end_ms=T0, close_ms=0))
    assert items[0] == bad


def test_a_long_row_is_sent_before_its_window_can_close() -> None:
    assert key_ms(T0, T0 + 3_600_000) == T0 + HOLD_MS
    assert key_ms(T0, T0 + 1000) == T0 + 999
    assert key_ms(T0, T0) == T0


@given(ROWS, st.integers(1, 50))
def test_reordering_loses_nothing_and_sorts_within_its_capacity(rows: list[Row], held: int) -> None:
    out = list(reorder(rows, held))
    assert sorted(out) == sorted(rows) if len({type(r) for r in rows}) == 1 else len(out) == len(rows)
    if len(rows) <= held:
        assert [r.key_ms for r in out] == sorted(r.key_ms for r in rows)


def test_reordering_keeps_equal_times_in_the_order_of_the_file() -> None:
    rows = [_token(T0, T0 + 5, request=str(i)) for i in range(5)]
    assert [r.request_id for r in reorder(rows, 2)] == list("01234")


@pytest.mark.parametrize("workloads", [1, 200])
def test_heartbeats_do_not_outnumber_the_rows_of_many_workloads(workloads: int) -> None:
    rows: list[Row] = [_power(t, t + 1000, f"w{i}") for t in range(T0, T0 + 60_000, 5000) for i in range(workloads)]
    quiet = [e for e in _events(rows) if not len(e.batch)]
    assert len(quiet) <= 4 * 12 + 4 * workloads
