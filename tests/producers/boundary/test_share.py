"""The split of a node's energy over the workloads whose GPUs run there: exact, in any order, and bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contracts.boundary import HOST, WALL_LESS_GPUS
from contracts.events import MAX_SPAN_MS, Method
from producers.bindings.apportion import Binding, BindingShare, GpuShares
from producers.boundary import share
from producers.boundary.share import ShareState, SplitResult, add_interval, add_span, split_spans
from producers.gpu.readings import EnergyInterval
from tests.support.clocks import T0
from tests.support.examples import examples

CHAT, CODE, NODE = Binding("chat", "acme"), Binding("code", "acme"), Binding("~n1")
ONLY_CHAT, ONLY_CODE = (BindingShare(CHAT),), (BindingShare(CODE),)
BOTH = (BindingShare(CHAT, 3), BindingShare(CODE, 1))
W = 1_000
"""Microjoules of a watt in a millisecond."""


def gpu(uuid: str, t0_ms: int, t1_ms: int, energy_uj: int, method: Method = Method.COUNTER) -> EnergyInterval:
    return EnergyInterval(uuid, "H100", T0 + t0_ms, T0 + t1_ms, energy_uj, method)


def span(t0_ms: int, t1_ms: int, energy_uj: int, hardware: str = HOST) -> EnergyInterval:
    return EnergyInterval("host-n1", hardware, T0 + t0_ms, T0 + t1_ms, energy_uj, Method.COUNTER)


def wall(t0_ms: int, t1_ms: int, energy_uj: int) -> EnergyInterval:
    return span(t0_ms, t1_ms, energy_uj, WALL_LESS_GPUS)


def state_of(
    spans: Sequence[EnergyInterval],
    intervals: Sequence[tuple[EnergyInterval, GpuShares]],
    state: ShareState | None = None,
) -> ShareState:
    state = state or ShareState()
    for one in spans:
        state = add_span(state, one)
    for interval, shares in intervals:
        state = add_interval(state, interval, shares)
    return state


def joules(result: SplitResult) -> dict[str, int]:
    """Microjoules by workload."""
    totals: Counter[str] = Counter()
    for binding, part in result.parts:
        totals[binding.workload] += part.energy_uj
    return dict(totals)


NOW: Mapping[str, GpuShares] = {"a": ONLY_CHAT, "b": ONLY_CODE}


# A host


def test_a_hosts_energy_is_split_by_the_energy_of_each_workloads_gpus() -> None:
    state = state_of([span(0, 1000, 100)], [(gpu("a", 0, 1000, 300), ONLY_CHAT), (gpu("b", 0, 1000, 100), ONLY_CODE)])
    result = split_spans(state, NOW, NODE)
    assert joules(result) == {"chat": 75, "code": 25}
    assert [(part.gpu_uuid, part.hardware, part.method) for _, part in result.parts] == [
        ("host-n1", HOST, Method.COUNTER)
    ] * 2


def test_an_interval_that_reaches_beyond_a_span_counts_pro_rata() -> None:
    intervals = [(gpu("a", -3000, 1000, 400), ONLY_CHAT), (gpu("b", 0, 1000, 300), ONLY_CODE)]
    assert joules(split_spans(state_of([span(0, 1000, 100)], intervals), NOW, NODE)) == {"chat": 25, "code": 75}


def test_a_shared_gpu_counts_by_its_shares() -> None:
    state = state_of([span(0, 1000, 100)], [(gpu("a", 0, 1000, 400), BOTH)])
    assert joules(split_spans(state, {"a": BOTH}, NODE)) == {"chat": 75, "code": 25}


def test_without_energy_of_gpus_a_host_is_split_by_their_seconds() -> None:
    intervals = [
        (gpu("a", 0, 1000, 0), ONLY_CHAT),
        (gpu("b", 0, 250, 0), ONLY_CODE),
        (gpu("b", 250, 1000, 0), ONLY_CHAT),
    ]
    assert joules(split_spans(state_of([span(0, 1000, 800)], intervals), NOW, NODE)) == {"chat": 700, "code": 100}


def test_without_intervals_a_host_is_split_by_the_gpus_that_bindings_have_now() -> None:
    state = state_of([span(0, 1000, 100)], [])
    assert split_spans(state, NOW, NODE).parts == ()  # It waits for the GPUs.
    assert joules(split_spans(state, NOW, NODE, end=True)) == {"chat": 50, "code": 50}
    assert joules(split_spans(state, {}, NODE)) == {"~n1": 100}


def test_parts_are_consecutive_and_their_time_is_the_spans() -> None:
    state = state_of([span(0, 5000, 999)], [(gpu("a", 0, 5000, 301), ONLY_CHAT), (gpu("b", 0, 5000, 100), ONLY_CODE)])
    parts = sorted((part.t0_ms, part.t1_ms) for _, part in split_spans(state, NOW, NODE).parts)
    assert (parts[0][0], parts[-1][1]) == (T0, T0 + 5000)
    assert all(before[1] == after[0] for before, after in pairwise(parts))
    assert {t1 - t0 <= 2_000 for t0, t1 in parts} == {True}


def test_a_span_waits_until_all_gpus_reach_its_end() -> None:
    state = state_of([span(0, 1000, 100), span(1000, 2000, 60)], [(gpu("a", 0, 2000, 10), ONLY_CHAT)])
    assert split_spans(state, NOW, NODE).parts == ()
    result = split_spans(add_interval(state, gpu("b", 0, 1500, 30), ONLY_CODE), NOW, NODE)
    assert joules(result) == {"chat": 20, "code": 80}
    assert [one.energy_uj for one in result.state.spans] == [60]


def test_a_host_waits_no_longer_than_its_bound_for_a_gpu_that_shows_nothing() -> None:
    late_ms = share.MAX_WAIT_MS[HOST] + 1_001
    state = state_of([span(0, 1000, 100), span(late_ms - 1000, late_ms, 50)], [(gpu("a", 0, 1000, 10), ONLY_CHAT)])
    result = split_spans(state, NOW, NODE)
    assert joules(result) == {"chat": 100}
    assert len(result.state.spans) == 1


# A wall


def test_the_gpus_energy_is_taken_from_the_walls() -> None:
    intervals = [(gpu("a", 0, 1000, 300), ONLY_CHAT), (gpu("b", 0, 1000, 100, Method.INTEGRATED), ONLY_CODE)]
    result = split_spans(state_of([wall(0, 1000, 600)], intervals), NOW, NODE)
    assert joules(result) == {"chat": 150, "code": 50}
    assert {(part.hardware, part.method) for _, part in result.parts} == {(WALL_LESS_GPUS, Method.INTEGRATED)}


def test_a_wall_below_its_gpus_is_merged_with_what_follows() -> None:
    intervals = [(gpu("a", 0, 3000, 9_000), ONLY_CHAT)]
    state = state_of([wall(0, 1000, 1_000), wall(1000, 2000, 3_500), wall(2000, 3000, 6_000)], intervals)
    result = split_spans(state, {"a": ONLY_CHAT}, NODE)
    assert (joules(result), result.left_out) == ({"chat": 1_500}, ())


def test_a_wall_that_stays_below_its_gpus_is_left_out_and_named() -> None:
    spans = [wall(n * 1000, n * 1000 + 1000, 1_000_000) for n in range(70)]
    state = state_of(spans, [(gpu("a", 0, 70_000, 350_000_000), ONLY_CHAT)])
    result = split_spans(state, {"a": ONLY_CHAT}, NODE)
    assert result.parts == ()
    [why] = result.left_out
    assert why.reason == "below_gpus"
    assert "240 J less than its GPUs" in why
    assert (result.left_out_uj, len(result.state.spans)) == (60_000_000, 1)


def test_a_wall_without_one_of_its_gpus_is_left_out_and_named() -> None:
    late_ms = share.MAX_WAIT_MS[WALL_LESS_GPUS] + 2_001
    spans = [wall(0, 1000, 900), wall(late_ms - 1000, late_ms, 50)]
    result = split_spans(state_of(spans, [(gpu("a", 0, 1000, 10), ONLY_CHAT)]), NOW, NODE)
    assert result.parts == ()
    assert [why.reason for why in result.left_out] == ["not_covered"]
    assert "b was not measured" in result.left_out[0]


def test_a_gap_of_a_gpu_leaves_out_the_spans_in_it_alone() -> None:
    intervals = [(gpu("a", 0, 1000, 10), ONLY_CHAT), (gpu("a", 2000, 3000, 10), ONLY_CHAT)]
    state = state_of([wall(n * 1000, n * 1000 + 1000, 100) for n in range(3)], intervals)
    result = split_spans(state, {"a": ONLY_CHAT}, NODE)
    assert (joules(result), result.left_out_uj) == ({"chat": 180}, 100)


@pytest.mark.parametrize("ms", [1, 10, 100, 1_000, 60_000])
def test_a_wall_without_its_gpu_is_left_out_however_short_its_spans_are(ms: int) -> None:
    state = state_of([wall(0, ms, 100)], [(gpu("a", ms, 2 * ms, 10), ONLY_CHAT)])
    assert [why.reason for why in split_spans(state, {"a": ONLY_CHAT}, NODE).left_out] == ["not_covered"]


def test_energy_of_gpus_that_comes_late_is_taken_from_the_next_spans() -> None:
    now = {"a": ONLY_CHAT}
    state = state_of([wall(0, 1000, 100)], [(gpu("a", 0, 1000, 10), ONLY_CHAT)])
    first = split_spans(state, now, NODE)
    late = [(gpu("a", 0, 1000, 150, Method.CORRECTION), ONLY_CHAT), (gpu("a", 1000, 3000, 20), ONLY_CHAT)]
    second = split_spans(state_of([wall(1000, 2000, 100), wall(2000, 3000, 100)], late, first.state), now, NODE)
    assert [part.energy_uj for _, part in (*first.parts, *second.parts)] == [90, 0, 30]
    assert {part.method for _, part in second.parts} == {Method.ESTIMATED}
    assert second.state.owed_uj == 0


def test_at_the_end_what_is_later_than_the_gpus_stays_for_the_next_run() -> None:
    state = state_of([wall(0, 1000, 1_000)], [(gpu("a", 0, 900, 90), ONLY_CHAT)])
    result = split_spans(state, {"a": ONLY_CHAT}, NODE, end=True)
    assert joules(result) == {"chat": 810}
    assert [(one.t0_ms - T0, one.energy_uj) for one in result.state.spans] == [(900, 100)]
    again = add_interval(msgspec.msgpack.decode(msgspec.msgpack.encode(result.state), type=ShareState),
                         gpu("a", 900, 1900, 100), ONLY_CHAT)  # fmt: skip
    assert joules(split_spans(again, {"a": ONLY_CHAT}, NODE)) == {"chat": 90}


# Any


LENGTHS = st.lists(st.integers(1, 40_000), min_size=1, max_size=12)
HOLDERS = st.sampled_from([ONLY_CHAT, ONLY_CODE, BOTH, (BindingShare(NODE),)])


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[EnergyInterval], list[tuple[EnergyInterval, GpuShares]]]:
    """Intervals of up to three GPUs and spans of the node over the same time, cut anyhow; no GPU above 700 W."""
    total_ms = draw(st.integers(10, 300_000))

    def cuts() -> list[tuple[int, int]]:
        ends = [t for t in accumulate(draw(LENGTHS)) if t < total_ms]
        return list(pairwise([0, *ends, total_ms]))

    intervals = [
        (gpu(uuid, t0, t1, draw(st.integers(0, 700 * W * (t1 - t0)))), draw(HOLDERS))
        for uuid in "abc"[: draw(st.integers(1, 3))]
        for t0, t1 in cuts()
    ]
    return [
        span(t0, t1, draw(st.integers(2_200 * W * (t1 - t0), 3_000 * W * (t1 - t0)))) for t0, t1 in cuts()
    ], intervals


@settings(max_examples=examples(200), deadline=None)
@given(runs(), st.sampled_from([HOST, WALL_LESS_GPUS]), st.randoms(use_true_random=False))
def test_the_parts_are_exact_and_the_same_in_any_order_of_arrival(
    run: tuple[list[EnergyInterval], list[tuple[EnergyInterval, GpuShares]]], hardware: str, random: object
) -> None:
    spans, intervals = run
    spans = [replace(one, hardware=hardware) for one in spans]
    now = {interval.gpu_uuid: ONLY_CHAT for interval, _ in intervals}
    at_once = split_spans(state_of(spans, intervals), now, NODE)
    waiting: list[object] = sorted([*spans, *intervals], key=lambda _: random.random())  # type: ignore[attr-defined]
    by_device: dict[str, list[object]] = {}
    for one in (*spans, *intervals):
        by_device.setdefault((one if isinstance(one, EnergyInterval) else one[0]).gpu_uuid, []).append(one)
    state, parts = ShareState(), []
    for one in waiting:  # Of each device in its order, but the devices in any.
        device = (one if isinstance(one, EnergyInterval) else one[0]).gpu_uuid  # type: ignore[index]
        following = by_device[device].pop(0)
        state = add_span(state, following) if isinstance(following, EnergyInterval) else add_interval(state, *following)  # type: ignore[misc]
        result = split_spans(state, now, NODE)
        state, parts = result.state, [*parts, *result.parts]
    assert (tuple(parts), state.spans) == (at_once.parts, ())
    assert not at_once.left_out
    gpus_uj = sum(interval.energy_uj for interval, _ in intervals) if hardware == WALL_LESS_GPUS else 0
    assert sum(part.energy_uj for _, part in parts) == sum(one.energy_uj for one in spans) - gpus_uj
    for binding, part in parts:
        assert 0 < part.t1_ms - part.t0_ms <= MAX_SPAN_MS
        assert binding in {CHAT, CODE, NODE}


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("sgc"), st.integers(1, 5_000), st.integers(0, 700)), max_size=60))
def test_gpus_with_their_corrections_and_the_rest_of_the_wall_sum_to_the_wall(
    moves: list[tuple[str, int, int]],
) -> None:
    state, now = ShareState(), {"a": ONLY_CHAT}
    end_ms, wall_uj, gpus_uj, rest_uj = {"s": 0, "g": 0}, 0, 0, 0
    last_ms = 1 + sum(ms for _, ms, _ in moves)
    for kind, ms, watts in [*moves, ("s", last_ms, 0), ("g", last_ms, 0)]:
        t1_ms = last_ms if ms == last_ms else end_ms.get(kind, 0) + ms
        if kind == "c":
            if ms > end_ms["g"]:
                continue
            interval, uj = (end_ms["g"] - ms, end_ms["g"]), watts * W * ms // 9
            state = add_interval(state, gpu("a", *interval, uj, Method.CORRECTION), ONLY_CHAT)
            gpus_uj += uj
        elif kind == "g":
            uj = watts * W * (t1_ms - end_ms["g"])
            state, gpus_uj = add_interval(state, gpu("a", end_ms["g"], t1_ms, uj), ONLY_CHAT), gpus_uj + uj
            end_ms["g"] = t1_ms
        else:
            uj = (800 + watts) * W * (t1_ms - end_ms["s"])
            state, wall_uj = add_span(state, wall(end_ms["s"], t1_ms, uj)), wall_uj + uj
            end_ms["s"] = t1_ms
        result = split_spans(state, now, NODE)
        state, rest_uj = result.state, rest_uj + sum(part.energy_uj for _, part in result.parts)
        assert all(part.energy_uj >= 0 for _, part in result.parts)
        assume(not result.left_out)  # corrections above what the wall shows
    assert state.spans == ()
    assert rest_uj + gpus_uj == wall_uj + state.owed_uj


def test_waiting_spans_are_bounded_and_no_energy_of_a_host_is_lost() -> None:
    state = ShareState()
    total_uj, parts = 0, []
    for n in range(5 * share.MAX_SPANS):
        state = add_span(state, span(n * 100, n * 100 + 100, n))
        state = add_interval(state, gpu("a", n * 100, n * 100 + 100, 7), ONLY_CHAT if n % 3 else ONLY_CODE)
        result = split_spans(state, NOW, NODE)
        state, total_uj, parts = result.state, total_uj + n, [*parts, *result.parts]
        assert len(state.spans) <= share.MAX_SPANS
        assert len(state.intervals["a"]) <= share.MAX_INTERVALS
    parts += split_spans(state, NOW, NODE, end=True).parts
    assert sum(part.energy_uj for _, part in parts) == total_uj


def test_a_source_that_is_away_leaves_the_gpus_intervals_bounded() -> None:
    state = ShareState()
    for n in range(10_000):
        state = add_interval(state, gpu("a", n * 1000, n * 1000 + 1000, 10), ONLY_CHAT)
        state = split_spans(state, {"a": ONLY_CHAT}, NODE).state
    state = add_span(state, wall(0, 10_000_000, 10**9))
    result = split_spans(state, {"a": ONLY_CHAT}, NODE)
    assert joules(result) == {"chat": 10**9 - 100_000}


@pytest.mark.parametrize("hardware", [HOST, WALL_LESS_GPUS])
def test_a_state_is_the_same_after_it_was_stored(hardware: str) -> None:
    state = state_of([span(0, 1000, 100, hardware)], [(gpu("a", 0, 900, 10), BOTH)])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ShareState) == state
