"""The audit finds planted errors, and no others."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from contracts.errors import BadQuery
from tests.support.ledger_rows import FIRST_FINAL, HOUR, WINDOW_MS, row, rows
from warehouse.audit import conservation as audit_module
from warehouse.audit.conservation import END_MS, audit
from warehouse.audit.findings import StrayWindow, UnbalancedWindow
from warehouse.audit.report import WORST, KeptRequests
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.sink.sink import Sink

DAY = 86_400_000
KEEP_SETTINGS: tuple[KeptRequests, ...] = get_args(KeptRequests)


def book(warehouse: Warehouse, start: int = HOUR, **changes: dict[str, Any]) -> None:
    """Store a window of two GPUs with active, idle and unallocated energy, balanced except for `changes`."""
    sink = Sink(warehouse)
    sink.write("gpu_energy", rows(
        "gpu_energy",
        {"window_start": start, "energy_uj": 70, "gpu_uuid": "G1"},
        {"window_start": start, "energy_uj": 30, "gpu_uuid": "G2", **changes.get("gpu", {})},
        {"window_start": start, "energy_uj": 5, "gpu_uuid": "G3", "workload": "~n1"},
    ))  # fmt: skip
    used = {"prompt_tokens": 9, "cached_tokens": 2, "completion_tokens": 4, "requests": 2, "failures": 1}
    sink.write("token_usage", row("token_usage", window_start=start, **used | changes.get("usage", {})))
    sink.write("ledger", rows(
        "ledger",
        {"window_start": start, "active_uj": 60, "idle_uj": 40, "work": 19, **used, **changes.get("ledger", {})},
        {"window_start": start, "unallocated_uj": 5, "tenant": "__unallocated__", "model": "", "workload": "~n1"},
    ))  # fmt: skip
    sink.refresh_hours([start], ["eu"], ["chat", "~n1"])


def test_a_balanced_ledger_has_no_residual(warehouse: Warehouse) -> None:
    for i in range(3):
        book(warehouse, HOUR + i * WINDOW_MS)
    report = audit(operator_reader(warehouse))
    assert report.ok
    assert (report.windows, report.measured_uj, report.residual_uj) == (6, 315, 0)
    assert (report.active_uj, report.idle_uj, report.unallocated_uj) == (180, 120, 15)
    assert (report.hours, report.coverage_ratio, report.unbalanced_windows) == (2, 1.0, [])


def test_an_empty_warehouse_has_no_residual(warehouse: Warehouse) -> None:
    report = audit(operator_reader(warehouse))
    assert report.ok
    assert (report.windows, report.measured_uj, report.coverage_ratio) == (0, 0, 1.0)


@pytest.mark.parametrize(("gpu", "residual_uj"), [({"energy_uj": 31}, 1), ({"energy_uj": 29}, 1), ({"deleted": 1}, 30)])
def test_a_microjoule_is_a_residual_and_its_window_is_named(
    warehouse: Warehouse, gpu: dict[str, int], residual_uj: int
) -> None:
    book(warehouse)
    book(warehouse, HOUR + WINDOW_MS, gpu=gpu)
    report = audit(operator_reader(warehouse))
    assert not report.ok
    assert report.residual_uj == residual_uj
    assert report.unbalanced_windows == [UnbalancedWindow(residual_uj, HOUR + WINDOW_MS, "eu", "chat")]


def test_two_errors_do_not_cancel(warehouse: Warehouse) -> None:
    book(warehouse, gpu={"energy_uj": 31})
    book(warehouse, HOUR + WINDOW_MS, gpu={"energy_uj": 29})
    assert audit(operator_reader(warehouse)).residual_uj == 2


def test_energy_charged_to_the_wrong_hardware_is_a_residual(warehouse: Warehouse) -> None:
    book(warehouse, ledger={"hardware": "A100"})
    report = audit(operator_reader(warehouse))
    assert report.residual_uj == 200
    assert report.unbalanced_windows == [UnbalancedWindow(200, HOUR, "eu", "chat")]


def test_facts_without_a_ledger_and_a_ledger_without_facts_are_residuals(warehouse: Warehouse) -> None:
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=7))
    warehouse.insert("ledger", row("ledger", window_start=HOUR + WINDOW_MS, idle_uj=8))
    report = audit(operator_reader(warehouse))
    assert (report.windows, report.residual_uj) == (2, 15)
    assert [w.residual_uj for w in report.unbalanced_windows] == [8, 7]


def test_a_bounded_number_of_the_worst_windows_is_named(warehouse: Warehouse) -> None:
    starts = [HOUR + i * DAY // 2 for i in range(2 * WORST)]
    off = [{"window_start": start, "energy_uj": i + 1} for i, start in enumerate(starts)]
    warehouse.insert("gpu_energy", rows("gpu_energy", *off))
    assert [w.residual_uj for w in audit(operator_reader(warehouse)).unbalanced_windows] == list(
        range(2 * WORST, WORST, -1)
    )


@pytest.mark.parametrize(
    ("usage", "tokens", "requests"),
    [
        ({"prompt_tokens": 10}, 1, 0),
        ({"cached_tokens": 0}, 2, 0),
        ({"completion_tokens": 14}, 10, 0),
        ({"requests": 3}, 0, 1),
        ({"failures": 0}, 0, 1),
        ({"tenant": "other"}, 30, 6),
    ],
)
def test_wrong_tokens_and_requests_are_residuals(
    warehouse: Warehouse, usage: dict[str, Any], tokens: int, requests: int
) -> None:
    book(warehouse, usage=usage)
    report = audit(operator_reader(warehouse))
    assert not report.ok
    assert (report.token_residual_tokens, report.request_residual, report.residual_uj) == (tokens, requests, 0)


@pytest.mark.parametrize(
    ("change", "residual_uj", "counts"),
    [({"active_uj": 61}, 1, 0), ({"requests": 1}, 0, 1), ({"tenant": "other"}, 100, 0), ({"deleted": 1}, 100, 37)],
)
def test_an_hour_that_differs_from_its_windows_is_a_residual(
    warehouse: Warehouse, change: dict[str, Any], residual_uj: int, counts: int
) -> None:
    book(warehouse)
    hour = warehouse.query("SELECT * FROM ledger_hour FINAL WHERE workload = 'chat'")[0]
    if "tenant" in change:
        hour |= {c: 0 for c in hour if c.endswith("_tokens") or c in ("work", "requests", "failures")}
    warehouse.insert_rows("ledger_hour", [hour | change | {"version": 2**63}])
    report = audit(operator_reader(warehouse))
    assert not report.ok
    assert (report.hour_residual_uj, report.hour_residual_counts, report.residual_uj) == (residual_uj, counts, 0)


def test_an_hour_whose_windows_have_expired_is_counted_and_no_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    for table in ("gpu_energy", "token_usage", "ledger"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    book(warehouse, HOUR + 3_600_000)
    report = audit(operator_reader(warehouse))
    assert report.ok
    assert (report.hours, report.hours_without_windows) == (2, 2)


def test_open_windows_do_not_count(warehouse: Warehouse) -> None:
    book(warehouse)
    beyond = HOUR + WINDOW_MS
    warehouse.insert("marks", row("marks", final_end=beyond))
    warehouse.insert("gpu_energy", row("gpu_energy", window_start=beyond, energy_uj=7))
    warehouse.insert("ledger", row("ledger", window_start=beyond, active_uj=6, final=0, version=5))
    assert audit(operator_reader(warehouse)).ok
    warehouse.insert(
        "ledger", row("ledger", window_start=beyond, active_uj=7)
    )  # final; its hour and checkpoint not yet
    assert audit(operator_reader(warehouse)).ok
    warehouse.insert("marks", row("marks", final_end=beyond + WINDOW_MS, version=FIRST_FINAL + 1))
    assert audit(operator_reader(warehouse)).hour_residual_uj == 7


def test_events_that_the_log_lost_are_a_gap(warehouse: Warehouse) -> None:
    book(warehouse)
    warehouse.insert("sources", rows(
        "sources",
        {"received": 10, "last_seq": 9, "duplicates": 4},
        {"received": 7, "last_seq": 9, "epoch": 1},
        {"received": 1, "last_seq": 1, "source": "n2", "last_event": HOUR - DAY},
    ))  # fmt: skip
    report = audit(operator_reader(warehouse))
    assert (report.sequence_gaps, report.duplicates, report.residual_uj, report.ok) == (4, 4, 0, False)
    assert audit(operator_reader(warehouse), Period(HOUR, END_MS)).sequence_gaps == 3


def test_only_the_period_is_audited(warehouse: Warehouse) -> None:
    book(warehouse, gpu={"energy_uj": 31})
    book(warehouse, HOUR + DAY)
    book(warehouse, HOUR + 2 * DAY, gpu={"energy_uj": 32})
    assert audit(operator_reader(warehouse)).residual_uj == 3
    report = audit(operator_reader(warehouse), Period(HOUR + 1, HOUR + 2 * DAY))
    assert (report.ok, report.windows, report.hours) == (True, 2, 2)
    assert audit(operator_reader(warehouse), Period(HOUR, HOUR + 1)).residual_uj == 1
    for period in ((5, 5), (-1, 5), (6, 5)):
        with pytest.raises(BadQuery, match="period"):
            audit(operator_reader(warehouse), Period(*period))


def test_a_long_period_is_audited_in_steps_and_sums_up(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        book(warehouse, HOUR + i * DAY, gpu={"energy_uj": 30 + i})
    full = audit(operator_reader(warehouse))
    monkeypatch.setattr(audit_module, "SPAN_ROWS", 1)
    assert audit(operator_reader(warehouse)) == full
    monkeypatch.setattr(audit_module, "SPAN_ROWS", 13)
    assert audit(operator_reader(warehouse)) == full
    assert (full.residual_uj, full.windows) == (1 + 2 + 3, 8)


def covered(warehouse: Warehouse, *covered_ms: int, **values: Any) -> float:
    """Coverage of a GPU whose windows, from HOUR on, cover this; -1: no row."""
    warehouse.insert("gpu_energy", rows("gpu_energy", *(
        {"window_start": HOUR + i * WINDOW_MS, "covered_ms": ms, **values} for i, ms in enumerate(covered_ms) if ms >= 0
    )))  # fmt: skip
    return audit(operator_reader(warehouse)).coverage_ratio


def test_a_gpus_first_and_last_window_may_be_partial(warehouse: Warehouse) -> None:
    assert covered(warehouse, 3_000, WINDOW_MS, WINDOW_MS, 2_000) == 1.0


def test_a_gap_between_windows_lowers_coverage(warehouse: Warehouse) -> None:
    assert covered(warehouse, 5_000, WINDOW_MS, -1, 5_000, 5_000) == pytest.approx(25_000 / 40_000)


def test_an_overlap_does_not_compensate_a_gap(warehouse: Warehouse) -> None:
    assert covered(warehouse, 10_000, 20_000, 0, 10_000) == pytest.approx(30_000 / 40_000)


def test_coverage_follows_a_gpu_across_workloads_and_steps(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "SPAN_ROWS", 1)
    covered(warehouse, 4_000, 4_000, workload="a")
    assert covered(warehouse, 6_000, 6_000, 1_000, workload="b") == 1.0
    warehouse.insert("gpu_energy", row("gpu_energy", window_start=HOUR + DAY, covered_ms=7_000))
    assert audit(operator_reader(warehouse)).coverage_ratio == pytest.approx(
        28_000 / (10_000 + DAY - WINDOW_MS + 7_000)
    )


# ---- single requests ----


def store_requests(warehouse: Warehouse, *requests: dict[str, Any], start: int = HOUR) -> None:
    """Store requests of `book`'s tenant in its window."""
    defaults = {"window_start": start, "active_uj": 60, "idle_uj": 40}
    many = [{"request_id": f"r{i}", **defaults, **r} for i, r in enumerate(requests)]
    warehouse.insert("request_energy", rows("request_energy", *many))


def test_requests_that_sum_to_their_tenants_row_have_no_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    store_requests(warehouse, {"active_uj": 59, "idle_uj": 0}, {"active_uj": 1, "idle_uj": 40})
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.request_windows, report.request_residual_uj) == (True, 1, 0)


@pytest.mark.parametrize(
    ("request_", "residual_uj"),
    [({"active_uj": 61}, 1), ({"idle_uj": 38}, 2), ({"active_uj": 59, "idle_uj": 41}, 2), ({"tenant": "other"}, 200)],
)
def test_requests_that_do_not_sum_are_a_residual(
    warehouse: Warehouse, request_: dict[str, Any], residual_uj: int
) -> None:
    book(warehouse)
    store_requests(warehouse, request_)
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.request_residual_uj, report.residual_uj) == (False, residual_uj, 0)
    assert report.unbalanced_windows == [UnbalancedWindow(residual_uj, HOUR, "eu", "chat")]


def test_windows_whose_requests_have_expired_are_not_compared_with_them(warehouse: Warehouse) -> None:
    book(warehouse)
    store_requests(warehouse, {"active_uj": 1})
    warehouse.command(
        "INSERT INTO request_energy (* EXCEPT stored_at, stored_at) "
        "SELECT * EXCEPT stored_at, now() - INTERVAL 29 DAY - INTERVAL 1 HOUR FROM request_energy"
    )
    report = audit(operator_reader(warehouse))
    assert (report.ok, report.request_windows) == (True, 0)


def share(warehouse: Warehouse, late_id: int, request: dict[str, int] | None, *, of_all: int = 2) -> None:
    """Store work of `book`'s tenant in its window, from a restated late message, and its request, if one is given."""
    used = {"prompt_tokens": 9, "cached_tokens": 2, "completion_tokens": 4, "requests": 2, "failures": 1}
    warehouse.insert("token_usage", row("token_usage", late_id=late_id, **used))
    if request is not None:
        store_requests(warehouse, {"request_id": f"late{late_id}", "late_id": late_id, **request})
    totals = {name: of_all * amount for name, amount in {**used, "work": 19}.items()}
    restated = {"active_uj": 60, "idle_uj": 40, "revision": 1, "version": FIRST_FINAL + late_id}
    warehouse.insert("ledger", row("ledger", **totals, **restated))
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])


def test_windows_without_requests_balance_under_every_setting(warehouse: Warehouse) -> None:
    book(warehouse)
    for requests in KEEP_SETTINGS:
        report = audit(operator_reader(warehouse), requests=requests)
        assert (report.ok, report.requests, report.request_windows, report.request_windows_partly) == (
            True,
            requests,
            0,
            0,
        )


def test_a_late_message_without_its_requests_is_a_residual_unless_none_are_stored(warehouse: Warehouse) -> None:
    book(warehouse)
    store_requests(warehouse, {"active_uj": 30, "idle_uj": 20})
    share(warehouse, 5, None)
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.request_residual_uj, report.request_windows) == (False, 50, 1)
    report = audit(operator_reader(warehouse), requests="none")
    assert (report.ok, report.request_residual_uj) == (True, 0)
    assert (report.request_windows, report.request_windows_partly) == (0, 1)


def test_requests_of_a_late_message_alone_are_a_part_of_their_window(warehouse: Warehouse) -> None:
    """In-time requests were not stored, or have expired."""
    book(warehouse)
    share(warehouse, 5, {"active_uj": 30, "idle_uj": 20})
    for requests in KEEP_SETTINGS:
        report = audit(operator_reader(warehouse), requests=requests)
        assert (report.ok, report.request_windows, report.request_windows_partly) == (True, 0, 1)


def test_requests_of_a_late_message_alone_are_all_where_no_event_was_in_time(warehouse: Warehouse) -> None:
    book(warehouse, usage={"deleted": 1})
    share(warehouse, 5, {"active_uj": 30, "idle_uj": 20}, of_all=1)
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.request_residual_uj, report.request_windows) == (False, 50, 1)


@pytest.mark.parametrize("requests", KEEP_SETTINGS)
def test_no_part_of_a_windows_requests_may_bear_more_than_their_tenant(
    warehouse: Warehouse, requests: KeptRequests
) -> None:
    book(warehouse)
    share(warehouse, 5, {"active_uj": 61, "idle_uj": 20})
    report = audit(operator_reader(warehouse), requests=requests)
    assert (report.balanced, report.request_residual_uj, report.request_windows_partly) == (False, 1, 1)


def test_a_missing_request_is_a_residual_although_none_are_stored_any_more(warehouse: Warehouse) -> None:
    book(warehouse)
    store_requests(warehouse, {"active_uj": 30, "idle_uj": 10})
    share(warehouse, 5, {"active_uj": 30, "idle_uj": 20})
    report = audit(operator_reader(warehouse), requests="none")
    assert (report.balanced, report.request_residual_uj, report.request_windows) == (False, 10, 1)


def test_an_hour_due_for_computation_is_no_residual_until_that_takes_too_long(
    warehouse: Warehouse,
) -> None:
    book(warehouse)
    for table in ("ledger_hour", "ledger_day"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    state = f'{{"hours": [{HOUR}]}}'
    warehouse.insert("marks", row("marks", final_end=HOUR + DAY, state=state))
    report = audit(operator_reader(warehouse))
    assert (report.ok, report.hour_residual_uj, report.restating, report.restating_uj) == (True, 0, 2, 105)
    report = audit(operator_reader(warehouse), patience_s=5, wait=lambda _: None)
    assert (report.balanced, report.residual_uj, report.hour_residual_uj, report.restating) == (False, 0, 105, 0)
    assert report.bill_shortfalls == ["hours lack 105 µJ; bills read hours"]


# ---- rows of a worker that lost its partition ----


def epoch(number: int, revision: int = 0) -> int:
    return FIRST_FINAL + (number << 28) + revision


def owned(warehouse: Warehouse, by: int, start: int = HOUR, **values: Any) -> None:
    """Store a balanced window of one GPU and a tenant, as the ownership `by` finalised it."""
    at = {"window_start": start, "version": epoch(by), **values}
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=9, **at))
    warehouse.insert("ledger", row("ledger", idle_uj=9, **at))
    refresh(warehouse)


def refresh(warehouse: Warehouse) -> None:
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat", "zombie's", "elsewhere", "other", "unmetered"])


def test_a_window_with_rows_of_an_earlier_ownership_is_a_residual_though_it_balances(warehouse: Warehouse) -> None:
    owned(warehouse, 2)
    owned(warehouse, 1, workload="zombie's")
    owned(warehouse, 1, HOUR + WINDOW_MS)
    report = audit(operator_reader(warehouse))
    assert (report.residual_uj, report.strays, report.balanced) == (0, 1, False)
    assert report.stray_windows == [StrayWindow(HOUR, "eu", "zombie's")]


def test_adjacent_windows_of_other_ownerships_and_partitions_are_no_stray_rows(warehouse: Warehouse) -> None:
    owned(warehouse, 2)
    owned(warehouse, 1, workload="elsewhere", log_partition=1)
    owned(warehouse, 7, HOUR + WINDOW_MS)
    assert audit(operator_reader(warehouse)).ok


def test_a_later_ownership_that_restated_a_window_leaves_no_stray_rows(warehouse: Warehouse) -> None:
    owned(warehouse, 2)
    owned(warehouse, 2, workload="other")
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=1, late_id=5, version=epoch(4)))
    warehouse.insert("ledger", row("ledger", idle_uj=10, revision=1, version=epoch(4, 1)))
    refresh(warehouse)
    assert audit(operator_reader(warehouse)).ok


# ---- late facts ----


def late(warehouse: Warehouse, offset: int, mark: int) -> None:
    """Store a late fact of 7 uJ from the message at `offset`, not restated, while the partition's checkpoint is at
    `mark`.
    """
    warehouse.insert("marks", row("marks", final_end=HOUR + DAY, power_offset=mark, tokens_offset=mark))
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=7, late_id=offset + 1))


def test_a_late_fact_beyond_the_checkpoint_is_being_restated_and_no_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.residual_uj) == (True, 0)
    assert (report.restating, report.restating_uj) == (1, 7)
    assert report.restating_windows == [UnbalancedWindow(7, HOUR, "eu", "chat")]


def test_a_late_fact_before_the_checkpoint_without_a_restatement_is_a_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=39, mark=40)
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.residual_uj, report.restating) == (False, 7, 0)


def test_late_tokens_and_requests_beyond_the_checkpoint_are_being_restated_too(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    warehouse.insert("token_usage", row("token_usage", prompt_tokens=3, requests=1, late_id=50))
    store_requests(warehouse, {}, {"active_uj": 5, "idle_uj": 0, "late_id": 50})
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.token_residual_tokens, report.request_residual_uj) == (True, 0, 0)
    assert report.restating == 3


def test_with_patience_the_audit_repeats_and_counts_the_last_result(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    waited: list[float] = []

    def restate(seconds: float) -> None:
        waited.append(seconds)
        warehouse.insert("ledger", row("ledger", active_uj=67, idle_uj=40, work=19, prompt_tokens=9, cached_tokens=2,
                                       completion_tokens=4, requests=2, failures=1, revision=1,
                                       version=FIRST_FINAL + 1))  # fmt: skip
        Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])

    report = audit(operator_reader(warehouse), patience_s=5, wait=restate)
    assert waited == [5]
    assert (report.ok, report.restating, report.measured_uj, report.windows) == (True, 0, 112, 2)


def test_a_restatement_that_takes_longer_than_the_patience_is_a_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    report = audit(operator_reader(warehouse), patience_s=5, wait=lambda _: None)
    assert (report.balanced, report.residual_uj, report.restating, report.restating_uj) == (False, 7, 0, 0)
    assert report.unbalanced_windows == [UnbalancedWindow(7, HOUR, "eu", "chat")]


def test_the_audit_does_not_wait_for_a_balanced_ledger(warehouse: Warehouse) -> None:
    book(warehouse)
    calls: list[tuple[int, int]] = []

    def never(_: float) -> None:
        raise AssertionError("nothing was in doubt")

    assert audit(operator_reader(warehouse), patience_s=5, wait=never, progress=lambda *args: calls.append(args)).ok
    assert calls == [(10, 10)]  # 3 GPUs, 1 row of tokens, 2 of the ledger, 2 hours, 2 days


def test_energy_without_work_and_work_without_energy_are_reported_and_no_residual(warehouse: Warehouse) -> None:
    owned(warehouse, 1)
    warehouse.insert("token_usage", row("token_usage", workload="unmetered", prompt_tokens=5, version=epoch(1)))
    unmetered = {"workload": "unmetered", "hardware": "", "prompt_tokens": 5, "work": 5, "method": 3}
    warehouse.insert("ledger", row("ledger", **unmetered, version=epoch(1)))
    refresh(warehouse)
    report = audit(operator_reader(warehouse))
    assert (report.ok, report.windows_without_work, report.windows_without_energy) == (True, 1, 1)
