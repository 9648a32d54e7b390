"""Shares of a GPU by claims, and its intervals split by them, to the microjoule and the millisecond."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from contracts.apportion import apportion
from contracts.events import MAX_SPAN_MS, Method
from producers.bindings.apportion import (
    MAX_PIECES,
    PIECE_MS,
    Binding,
    BindingShare,
    GpuShares,
    binding_weights,
    split_intervals,
)
from producers.bindings.claims import DeviceClaim, GpuBoard, WorkloadHolder
from producers.bindings.holder_record import HolderRecord, HolderSpan, rows
from producers.bindings.resolution import resolve_claims
from producers.bindings.span_record import MAX_CLOSED_SPANS
from producers.gpu.readings import EnergyInterval

T0 = 1_700_000_000_000
NOBODY = Binding("~n1")
CHAT, CODE, BATCH = (WorkloadHolder(name, "acme", "kubernetes") for name in ("chat", "code", "batch"))
A100 = GpuBoard("GPU-a", 7, (("MIG-1", 1), ("MIG-2", 2), ("MIG-3", 3)))

weights = st.lists(st.integers(1, 1_000), min_size=1, max_size=9)


def shares(*weights: int) -> GpuShares:
    return tuple(BindingShare(Binding(f"w{n}"), weight) for n, weight in enumerate(weights))


def interval(span_ms: int, energy_uj: int, busy_ms: int = -1) -> EnergyInterval:
    return EnergyInterval(
        gpu_uuid="GPU-a",
        hardware="H100",
        t0_ms=T0,
        t1_ms=T0 + span_ms,
        energy_uj=energy_uj,
        method=Method.COUNTER,
        busy_ms=busy_ms,
    )


@st.composite
def intervals(draw: st.DrawFn) -> EnergyInterval:
    span = draw(st.one_of(st.integers(1, 20), st.integers(1, MAX_SPAN_MS)))
    return interval(span, draw(st.integers(0, 2**50)), draw(st.integers(-1, span)))


@given(intervals(), weights)
def test_parts_are_consecutive_and_sum_to_the_interval_in_energy_time_and_busy_time(
    original: EnergyInterval, weights: list[int]
) -> None:
    parts = [part for _, part in split_intervals([original], shares(*weights))]
    assert parts[0].t0_ms == original.t0_ms
    assert parts[-1].t1_ms == original.t1_ms
    assert all(before.t1_ms == after.t0_ms for before, after in itertools.pairwise(parts))
    assert all(part.t1_ms > part.t0_ms for part in parts)
    assert sum(part.energy_uj for part in parts) == original.energy_uj
    if original.busy_ms >= 0:
        assert sum(part.busy_ms for part in parts) == original.busy_ms
        assert all(0 <= part.busy_ms <= part.t1_ms - part.t0_ms for part in parts)
    else:
        assert {part.busy_ms for part in parts} == {-1}
    assert {(part.gpu_uuid, part.hardware, part.method) for part in parts} == {("GPU-a", "H100", Method.COUNTER)}


@given(st.integers(1, PIECE_MS), st.integers(0, 2**50), weights)
def test_the_part_of_each_holder_is_its_share_to_a_microjoule_and_a_few_milliseconds(
    span_ms: int, energy_uj: int, weights: list[int]
) -> None:
    total_weight = sum(weights)
    got = dict(split_intervals([interval(span_ms, energy_uj)], shares(*weights)))
    if span_ms < len(weights):
        assert len(got) == span_ms
        return
    for share in shares(*weights):
        part = got[share.binding]
        assert abs(part.energy_uj - Fraction(energy_uj * share.weight, total_weight)) < 1
        assert abs(part.t1_ms - part.t0_ms - Fraction(span_ms * share.weight, total_weight)) <= len(weights)


@given(st.integers(0, 2**41), st.lists(st.integers(9, 3_000), min_size=1, max_size=30), weights)
def test_the_time_of_a_holder_does_not_drift_over_many_intervals(
    t0_ms: int, spans: list[int], weights: list[int]
) -> None:
    ends = list(itertools.accumulate(spans, initial=t0_ms))
    many = [EnergyInterval("GPU-a", "H100", a, b, 0, Method.COUNTER) for a, b in itertools.pairwise(ends)]
    even = [w for w in weights if 9 * w >= 2 * sum(weights)] == weights  # no holder is rounded up to a millisecond
    got: dict[Binding, int] = {}
    for binding, part in split_intervals(many, shares(*weights)):
        got[binding] = got.get(binding, 0) + part.t1_ms - part.t0_ms
    assert sum(got.values()) == sum(spans)
    if even:
        for share in shares(*weights):
            assert abs(got[share.binding] - Fraction(sum(spans) * share.weight, sum(weights))) < 2


@given(st.integers(0, 2**50), weights)
def test_a_whole_is_apportioned_without_a_remainder(total: int, weights: list[int]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    assert all(abs(part - Fraction(total * w, sum(weights))) < 1 for part, w in zip(parts, weights, strict=True))


def test_an_interval_of_one_holder_is_unchanged() -> None:
    original = interval(30_000, 9)
    assert list(split_intervals([original], shares(3))) == [(Binding("w0"), original)]


def test_two_pods_of_one_workload_are_one_holder() -> None:
    pods = (BindingShare(Binding("chat"), 1, (("pod", "a"),)), BindingShare(Binding("chat"), 1, (("pod", "b"),)))
    assert binding_weights(pods) == {Binding("chat"): 2}
    assert len(list(split_intervals([interval(30_000, 9)], pods))) == 1


def test_a_long_interval_is_split_in_each_of_its_windows() -> None:
    parts = list(split_intervals([interval(30_000, 30_000_000)], shares(1, 1)))
    for window in range(0, 30_000, 10_000):
        inside = {b: p for b, p in parts if T0 + window <= p.t0_ms and p.t1_ms <= T0 + window + 10_000}
        assert len(inside) == 2


def test_a_split_of_hours_makes_no_more_rows_than_can_be_sent() -> None:
    hours = [interval(MAX_SPAN_MS, 1)] * 1_000
    assert len(list(split_intervals(hours, shares(1, 1)))) <= 2 * (len(hours) + MAX_PIECES)


# From claims to holdings.


def test_mig_is_split_by_compute_slices_and_free_slices_are_the_nodes() -> None:
    by_gpu, warnings = resolve_claims([A100], [DeviceClaim("MIG-1", CHAT), DeviceClaim("MIG-3", CODE)], NOBODY)
    assert [(s.binding.workload, s.weight) for s in by_gpu["GPU-a"]] == [("chat", 1), ("code", 3), ("~n1", 3)]
    assert warnings == []


def test_instances_of_one_pod_add_up() -> None:
    by_gpu, _ = resolve_claims([A100], [DeviceClaim("MIG-1", CHAT), DeviceClaim("MIG-2", CHAT)], NOBODY)
    assert [(s.binding.workload, s.weight) for s in by_gpu["GPU-a"]] == [("chat", 3), ("~n1", 4)]


def test_replicas_have_equal_weight_and_free_ones_have_none() -> None:
    claims = [DeviceClaim("GPU-a", CHAT, "0"), DeviceClaim("GPU-a", CHAT, "2"), DeviceClaim("GPU-a", CODE, "7")]
    by_gpu, warnings = resolve_claims([GpuBoard("GPU-a")], claims, NOBODY)
    assert [(s.binding.workload, s.weight) for s in by_gpu["GPU-a"]] == [("chat", 2), ("code", 1)]
    assert warnings == []


def test_replicas_of_an_instance_share_its_slices() -> None:
    claims = [DeviceClaim("MIG-3", CHAT, "0"), DeviceClaim("MIG-3", CODE, "1"), DeviceClaim("MIG-1", BATCH)]
    by_gpu, _ = resolve_claims([A100], claims, NOBODY)
    assert {s.binding.workload: Fraction(s.weight, 14) for s in by_gpu["GPU-a"]} == {
        "batch": Fraction(1, 7), "chat": Fraction(3, 14), "code": Fraction(3, 14), "~n1": Fraction(3, 7),
    }  # fmt: skip


def test_a_gpu_claimed_whole_by_two_workloads_is_unallocated_with_a_warning() -> None:
    by_gpu, warnings = resolve_claims(
        [GpuBoard("GPU-a"), GpuBoard("GPU-b")], [DeviceClaim("GPU-a", CHAT), DeviceClaim("GPU-a", CODE)], NOBODY
    )
    assert by_gpu == {"GPU-a": (BindingShare(NOBODY),)}
    assert [w.kind for w in warnings] == ["conflict"]
    assert "chat and code both claim GPU-a" in warnings[0].message


def test_a_claim_of_an_unknown_device_binds_nothing_and_is_reported() -> None:
    by_gpu, warnings = resolve_claims([GpuBoard("GPU-a")], [DeviceClaim("GPU-z", CHAT)], NOBODY)
    assert by_gpu == {}
    assert [w.kind for w in warnings] == ["unknown_device"]


def test_a_device_with_an_unknown_holder_is_unallocated() -> None:
    by_gpu, warnings = resolve_claims(
        [GpuBoard("GPU-a")], [DeviceClaim("GPU-a", None, "0"), DeviceClaim("GPU-a", CHAT, "1")], NOBODY
    )
    assert by_gpu["GPU-a"] == (CHAT.share(1), BindingShare(NOBODY, 1))
    assert warnings == []


@given(st.lists(st.tuples(st.sampled_from(["MIG-1", "MIG-2", "MIG-3"]), st.sampled_from([CHAT, CODE, BATCH, None]),
                          st.sampled_from(["", "0", "1"]))))  # fmt: skip
def test_claims_always_sum_to_a_whole_board(
    claims: list[tuple[str, WorkloadHolder | None, str]],
) -> None:
    by_gpu, _ = resolve_claims([A100], [DeviceClaim(*c) for c in claims], NOBODY)
    slices = {"MIG-1": 1, "MIG-2": 2, "MIG-3": 3}
    for holding in by_gpu.values():
        total = sum(s.weight for s in holding)
        nobody = sum(s.weight for s in holding if s.binding == NOBODY)
        claimed = sum(slices[device] for device in {c[0] for c in claims})
        assert Fraction(nobody, total) >= Fraction(7 - claimed, 7)
        assert all(s.weight > 0 for s in holding)


# The record of holders.

PAIR = (BindingShare(Binding("chat", "acme"), 1, (("source", "kubernetes"), ("pod", "p1"))), BindingShare(NOBODY, 2))


def test_a_row_names_holder_share_duration_and_reason() -> None:
    [(workload, row)] = rows(HolderSpan("GPU-a", T0, T0 + 60_000, PAIR), "n1", "nvml-held://east/n1/")
    assert (workload, row.meter, row.unit, row.quantity, row.tenant) == ("chat", "gpu_held_seconds", "s", "20", "acme")
    assert (row.t0_ms, row.t1_ms, row.origin) == (T0, T0 + 60_000, "nvml-held://east/n1/")
    assert row.dimensions == {"node": "n1", "gpu": "GPU-a", "share": "1/3", "source": "kubernetes", "pod": "p1"}


def test_a_run_always_makes_the_same_row_and_another_run_another() -> None:
    ids = [row.event_id for _ in range(2) for _, row in rows(HolderSpan("GPU-a", T0, T0 + 60_000, PAIR), "n1", "o")]
    other = [row.event_id for _, row in rows(HolderSpan("GPU-a", T0 + 1, T0 + 60_000, PAIR), "n1", "o")]
    assert ids[0] == ids[1] != other[0]


@given(st.integers(1, 10**9), weights)
def test_recorded_seconds_sum_to_those_of_the_gpu(span_ms: int, weights: list[int]) -> None:
    holding = tuple(BindingShare(Binding(f"w{n}"), w, (("source", "settings"),)) for n, w in enumerate(weights))
    got = [row for _, row in rows(HolderSpan("GPU-a", T0, T0 + span_ms, holding), "n1", "o")]
    assert sum(round(float(row.quantity) * 1000) for row in got) == span_ms
    assert len({row.event_id for row in got}) == len(got)


def spans(*at: tuple[int, int]) -> list[EnergyInterval]:
    return [EnergyInterval("GPU-a", "H100", T0 + a, T0 + b, 1, Method.COUNTER) for a, b in at]


def test_a_run_ends_at_a_gap_at_a_change_of_holders_and_at_its_maximal_length() -> None:
    record, one, two = HolderRecord(5_000), shares(1), shares(1, 1)
    record.add(spans((0, 1_000), (1_000, 2_000), (3_000, 4_000)), one)
    record.add(spans((4_000, 9_000)), two)
    due = record.due({"GPU-a": two})
    assert [(r.t0_ms - T0, r.t1_ms - T0, r.shares) for r in due] == [
        (0, 2_000, one), (3_000, 4_000, one), (4_000, 9_000, two),
    ]  # fmt: skip
    record.discard(due)
    assert record.due({"GPU-a": two}, end=True) == []


def test_an_open_run_is_not_due_and_can_be_resumed() -> None:
    record, one = HolderRecord(60_000), shares(1)
    record.add(spans((0, 1_000)), one)
    assert record.due({"GPU-a": one}) == []
    assert record.open_span("GPU-a") == (T0, T0 + 1_000)
    later = HolderRecord(60_000)
    later.resume(HolderSpan("GPU-a", T0, T0 + 1_000, one))
    later.add(spans((1_000, 2_000)), one)
    assert [(r.t0_ms, r.t1_ms) for r in later.due({}, end=True)] == [(T0, T0 + 2_000)]


def test_unsent_runs_are_bounded_and_the_loss_is_counted() -> None:
    record = HolderRecord(60_000)
    for n in range(MAX_CLOSED_SPANS + 3):
        record.add(spans((2 * n, 2 * n + 1)), shares(1))
    assert len(record.due({}, end=True)) == MAX_CLOSED_SPANS + 1
    assert record.lost == 2
