"""The audit finds what is planted, and nothing else."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from contracts.errors import BadQuery
from tests.support.ledger_rows import FIRST_FINAL, HOUR, WINDOW_MS, row, rows
from warehouse.audit import conservation as audit_module
from warehouse.audit.conservation import END_MS, audit
from warehouse.audit.report import WORST, KeptRequests, StrayWindow, UnbalancedWindow
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.sink.sink import Sink

DAY = 86_400_000
KEPT: tuple[KeptRequests, ...] = get_args(KeptRequests)


def book(warehouse: Warehouse, start: int = HOUR, **changes: dict[str, Any]) -> None:
    """A window with two GPUs, one tenant with work, idle and unallocated energy, all in balance but for `changes`."""
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


def test_books_in_balance(warehouse: Warehouse) -> None:
    for i in range(3):
        book(warehouse, HOUR + i * WINDOW_MS)
    found = audit(operator_reader(warehouse))
    assert found.ok
    assert (found.windows, found.measured_uj, found.residual_uj) == (6, 315, 0)
    assert (found.active_uj, found.idle_uj, found.unallocated_uj) == (180, 120, 15)
    assert (found.hours, found.coverage_ratio, found.unbalanced_windows) == (2, 1.0, [])


def test_an_empty_warehouse_is_in_balance(warehouse: Warehouse) -> None:
    found = audit(operator_reader(warehouse))
    assert found.ok
    assert (found.windows, found.measured_uj, found.coverage_ratio) == (0, 0, 1.0)


@pytest.mark.parametrize(("gpu", "residual_uj"), [({"energy_uj": 31}, 1), ({"energy_uj": 29}, 1), ({"deleted": 1}, 30)])
def test_a_microjoule_off_is_found_and_the_window_named(
    warehouse: Warehouse, gpu: dict[str, int], residual_uj: int
) -> None:
    book(warehouse)
    book(warehouse, HOUR + WINDOW_MS, gpu=gpu)
    found = audit(operator_reader(warehouse))
    assert not found.ok
    assert found.residual_uj == residual_uj
    assert found.unbalanced_windows == [UnbalancedWindow(residual_uj, HOUR + WINDOW_MS, "eu", "chat")]


def test_two_errors_do_not_cancel(warehouse: Warehouse) -> None:
    book(warehouse, gpu={"energy_uj": 31})
    book(warehouse, HOUR + WINDOW_MS, gpu={"energy_uj": 29})
    assert audit(operator_reader(warehouse)).residual_uj == 2


def test_energy_charged_to_the_wrong_hardware_is_found(warehouse: Warehouse) -> None:
    book(warehouse, ledger={"hardware": "A100"})
    found = audit(operator_reader(warehouse))
    assert found.residual_uj == 200
    assert found.unbalanced_windows == [UnbalancedWindow(200, HOUR, "eu", "chat")]


def test_facts_without_a_ledger_and_a_ledger_without_facts_are_found(warehouse: Warehouse) -> None:
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=7))
    warehouse.insert("ledger", row("ledger", window_start=HOUR + WINDOW_MS, idle_uj=8))
    found = audit(operator_reader(warehouse))
    assert (found.windows, found.residual_uj) == (2, 15)
    assert [w.residual_uj for w in found.unbalanced_windows] == [8, 7]


def test_the_worst_windows_are_named_and_no_more(warehouse: Warehouse) -> None:
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
def test_tokens_and_requests_off_are_found(
    warehouse: Warehouse, usage: dict[str, Any], tokens: int, requests: int
) -> None:
    book(warehouse, usage=usage)
    found = audit(operator_reader(warehouse))
    assert not found.ok
    assert (found.token_residual_tokens, found.request_residual, found.residual_uj) == (tokens, requests, 0)


@pytest.mark.parametrize(
    ("change", "residual_uj", "counts"),
    [({"active_uj": 61}, 1, 0), ({"requests": 1}, 0, 1), ({"tenant": "other"}, 100, 0), ({"deleted": 1}, 100, 37)],
)
def test_an_hour_that_differs_from_its_windows_is_found(
    warehouse: Warehouse, change: dict[str, Any], residual_uj: int, counts: int
) -> None:
    book(warehouse)
    hour = warehouse.query("SELECT * FROM ledger_hour FINAL WHERE workload = 'chat'")[0]
    if "tenant" in change:
        hour |= {c: 0 for c in hour if c.endswith("_tokens") or c in ("work", "requests", "failures")}
    warehouse.insert_rows("ledger_hour", [hour | change | {"version": 2**63}])
    found = audit(operator_reader(warehouse))
    assert not found.ok
    assert (found.hour_residual_uj, found.hour_residual_counts, found.residual_uj) == (residual_uj, counts, 0)


def test_an_hour_that_outlived_its_windows_is_counted_not_blamed(warehouse: Warehouse) -> None:
    book(warehouse)
    for table in ("gpu_energy", "token_usage", "ledger"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    book(warehouse, HOUR + 3_600_000)
    found = audit(operator_reader(warehouse))
    assert found.ok
    assert (found.hours, found.hours_without_windows) == (2, 2)


def test_windows_that_are_not_final_yet_do_not_count(warehouse: Warehouse) -> None:
    book(warehouse)
    beyond = HOUR + WINDOW_MS
    warehouse.insert("marks", row("marks", final_end=beyond))
    warehouse.insert("gpu_energy", row("gpu_energy", window_start=beyond, energy_uj=7))
    warehouse.insert("ledger", row("ledger", window_start=beyond, active_uj=6, final=0, version=5))
    assert audit(operator_reader(warehouse)).ok
    warehouse.insert("ledger", row("ledger", window_start=beyond, active_uj=7))  # final; its hour and mark not yet
    assert audit(operator_reader(warehouse)).ok
    warehouse.insert("marks", row("marks", final_end=beyond + WINDOW_MS, version=FIRST_FINAL + 1))
    assert audit(operator_reader(warehouse)).hour_residual_uj == 7


def test_what_a_producer_sent_and_the_log_lost_is_a_gap(warehouse: Warehouse) -> None:
    book(warehouse)
    warehouse.insert("sources", rows(
        "sources",
        {"received": 10, "last_seq": 9, "duplicates": 4},
        {"received": 7, "last_seq": 9, "epoch": 1},
        {"received": 1, "last_seq": 1, "source": "n2", "last_event": HOUR - DAY},
    ))  # fmt: skip
    found = audit(operator_reader(warehouse))
    assert (found.sequence_gaps, found.duplicates, found.residual_uj, found.ok) == (4, 4, 0, False)
    assert audit(operator_reader(warehouse), Period(HOUR, END_MS)).sequence_gaps == 3


def test_only_the_period_is_audited(warehouse: Warehouse) -> None:
    book(warehouse, gpu={"energy_uj": 31})
    book(warehouse, HOUR + DAY)
    book(warehouse, HOUR + 2 * DAY, gpu={"energy_uj": 32})
    assert audit(operator_reader(warehouse)).residual_uj == 3
    found = audit(operator_reader(warehouse), Period(HOUR + 1, HOUR + 2 * DAY))
    assert (found.ok, found.windows, found.hours) == (True, 2, 2)
    assert audit(operator_reader(warehouse), Period(HOUR, HOUR + 1)).residual_uj == 1
    for period in ((5, 5), (-1, 5), (6, 5)):
        with pytest.raises(BadQuery, match="period"):
            audit(operator_reader(warehouse), Period(*period))


def test_a_long_period_goes_in_steps_and_sums_up(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        book(warehouse, HOUR + i * DAY, gpu={"energy_uj": 30 + i})
    whole = audit(operator_reader(warehouse))
    monkeypatch.setattr(audit_module, "SPAN_ROWS", 1)
    assert audit(operator_reader(warehouse)) == whole
    monkeypatch.setattr(audit_module, "SPAN_ROWS", 13)
    assert audit(operator_reader(warehouse)) == whole
    assert (whole.residual_uj, whole.windows) == (1 + 2 + 3, 8)


def covered(warehouse: Warehouse, *covered_ms: int, **values: Any) -> float:
    """Coverage of a GPU whose windows, from HOUR on, cover this; -1: no row."""
    warehouse.insert("gpu_energy", rows("gpu_energy", *(
        {"window_start": HOUR + i * WINDOW_MS, "covered_ms": ms, **values} for i, ms in enumerate(covered_ms) if ms >= 0
    )))  # fmt: skip
    return audit(operator_reader(warehouse)).coverage_ratio


def test_a_gpus_first_and_last_window_may_be_partial(warehouse: Warehouse) -> None:
    assert covered(warehouse, 3_000, WINDOW_MS, WINDOW_MS, 2_000) == 1.0


def test_a_gap_inside_lowers_coverage(warehouse: Warehouse) -> None:
    assert covered(warehouse, 5_000, WINDOW_MS, -1, 5_000, 5_000) == pytest.approx(25_000 / 40_000)


def test_an_overlap_does_not_make_up_for_a_gap(warehouse: Warehouse) -> None:
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


def asked(warehouse: Warehouse, *requests: dict[str, Any], start: int = HOUR) -> None:
    """Requests of `book`'s tenant in its window."""
    defaults = {"window_start": start, "active_uj": 60, "idle_uj": 40}
    many = [{"request_id": f"r{i}", **defaults, **r} for i, r in enumerate(requests)]
    warehouse.insert("request_energy", rows("request_energy", *many))


def test_requests_that_sum_to_their_tenants_row_balance(warehouse: Warehouse) -> None:
    book(warehouse)
    asked(warehouse, {"active_uj": 59, "idle_uj": 0}, {"active_uj": 1, "idle_uj": 40})
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.request_windows, found.request_residual_uj) == (True, 1, 0)


@pytest.mark.parametrize(
    ("request_", "residual_uj"),
    [({"active_uj": 61}, 1), ({"idle_uj": 38}, 2), ({"active_uj": 59, "idle_uj": 41}, 2), ({"tenant": "other"}, 200)],
)
def test_requests_that_do_not_are_found(warehouse: Warehouse, request_: dict[str, Any], residual_uj: int) -> None:
    book(warehouse)
    asked(warehouse, request_)
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.request_residual_uj, found.residual_uj) == (False, residual_uj, 0)
    assert found.unbalanced_windows == [UnbalancedWindow(residual_uj, HOUR, "eu", "chat")]


def test_windows_whose_requests_are_past_their_time_to_live_are_not_judged_by_them(warehouse: Warehouse) -> None:
    book(warehouse)
    asked(warehouse, {"active_uj": 1})
    warehouse.command(
        "INSERT INTO request_energy (* EXCEPT stored_at, stored_at) "
        "SELECT * EXCEPT stored_at, now() - INTERVAL 29 DAY - INTERVAL 1 HOUR FROM request_energy"
    )
    found = audit(operator_reader(warehouse))
    assert (found.ok, found.request_windows) == (True, 0)


def share(warehouse: Warehouse, late_id: int, kept: dict[str, int] | None, *, of_all: int = 2) -> None:
    """Work of `book`'s tenant in its window, from a late message that is restated, and its request, if one is kept."""
    used = {"prompt_tokens": 9, "cached_tokens": 2, "completion_tokens": 4, "requests": 2, "failures": 1}
    warehouse.insert("token_usage", row("token_usage", late_id=late_id, **used))
    if kept is not None:
        asked(warehouse, {"request_id": f"late{late_id}", "late_id": late_id, **kept})
    whole = {name: of_all * amount for name, amount in {**used, "work": 19}.items()}
    restated = {"active_uj": 60, "idle_uj": 40, "revision": 1, "version": FIRST_FINAL + late_id}
    warehouse.insert("ledger", row("ledger", **whole, **restated))
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])


def test_windows_without_requests_are_in_balance_whether_they_should_be_kept_or_not(warehouse: Warehouse) -> None:
    book(warehouse)
    for requests in KEPT:
        found = audit(operator_reader(warehouse), requests=requests)
        assert (found.ok, found.requests, found.request_windows, found.request_windows_partly) == (True, requests, 0, 0)


def test_a_late_message_without_its_requests_is_found_unless_none_are_kept(warehouse: Warehouse) -> None:
    book(warehouse)
    asked(warehouse, {"active_uj": 30, "idle_uj": 20})
    share(warehouse, 5, None)
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.request_residual_uj, found.request_windows) == (False, 50, 1)
    found = audit(operator_reader(warehouse), requests="none")
    assert (found.ok, found.request_residual_uj) == (True, 0)
    assert (found.request_windows, found.request_windows_partly) == (0, 1)


def test_requests_of_a_late_message_alone_are_a_part_of_their_window(warehouse: Warehouse) -> None:
    """Those that came in time were not kept, or have expired."""
    book(warehouse)
    share(warehouse, 5, {"active_uj": 30, "idle_uj": 20})
    for requests in KEPT:
        found = audit(operator_reader(warehouse), requests=requests)
        assert (found.ok, found.request_windows, found.request_windows_partly) == (True, 0, 1)


def test_requests_of_a_late_message_alone_are_all_where_nothing_came_in_time(warehouse: Warehouse) -> None:
    book(warehouse, usage={"deleted": 1})
    share(warehouse, 5, {"active_uj": 30, "idle_uj": 20}, of_all=1)
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.request_residual_uj, found.request_windows) == (False, 50, 1)


@pytest.mark.parametrize("requests", KEPT)
def test_no_part_of_a_windows_requests_may_bear_more_than_their_tenant(
    warehouse: Warehouse, requests: KeptRequests
) -> None:
    book(warehouse)
    share(warehouse, 5, {"active_uj": 61, "idle_uj": 20})
    found = audit(operator_reader(warehouse), requests=requests)
    assert (found.balanced, found.request_residual_uj, found.request_windows_partly) == (False, 1, 1)


def test_a_single_request_that_lacks_is_found_although_none_are_kept_any_more(warehouse: Warehouse) -> None:
    book(warehouse)
    asked(warehouse, {"active_uj": 30, "idle_uj": 10})
    share(warehouse, 5, {"active_uj": 30, "idle_uj": 20})
    found = audit(operator_reader(warehouse), requests="none")
    assert (found.balanced, found.request_residual_uj, found.request_windows) == (False, 10, 1)


def test_an_hour_that_a_mark_says_is_still_to_be_computed_is_no_residual_until_that_takes_too_long(
    warehouse: Warehouse,
) -> None:
    book(warehouse)
    for table in ("ledger_hour", "ledger_day"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    state = f'{{"hours": [{HOUR}]}}'
    warehouse.insert("marks", row("marks", final_end=HOUR + DAY, state=state))
    found = audit(operator_reader(warehouse))
    assert (found.ok, found.hour_residual_uj, found.restating, found.restating_uj) == (True, 0, 2, 105)
    found = audit(operator_reader(warehouse), patience_s=5, wait=lambda _: None)
    assert (found.balanced, found.residual_uj, found.restating) == (False, 105, 0)


# ---- rows of a worker that lost its partition ----


def epoch(number: int, revision: int = 0) -> int:
    return FIRST_FINAL + (number << 28) + revision


def owned(warehouse: Warehouse, by: int, start: int = HOUR, **values: Any) -> None:
    """A balanced window of one GPU and a tenant, as the ownership `by` finalised it."""
    at = {"window_start": start, "version": epoch(by), **values}
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=9, **at))
    warehouse.insert("ledger", row("ledger", idle_uj=9, **at))
    refresh(warehouse)


def refresh(warehouse: Warehouse) -> None:
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat", "zombie's", "elsewhere", "other", "unmetered"])


def test_a_window_with_rows_of_an_earlier_ownership_is_found_though_it_balances(warehouse: Warehouse) -> None:
    owned(warehouse, 2)
    owned(warehouse, 1, workload="zombie's")
    owned(warehouse, 1, HOUR + WINDOW_MS)
    found = audit(operator_reader(warehouse))
    assert (found.residual_uj, found.strays, found.balanced) == (0, 1, False)
    assert found.stray_windows == [StrayWindow(HOUR, "eu", "zombie's")]


def test_windows_of_other_ownerships_and_partitions_beside_each_other_are_no_strays(warehouse: Warehouse) -> None:
    owned(warehouse, 2)
    owned(warehouse, 1, workload="elsewhere", log_partition=1)
    owned(warehouse, 7, HOUR + WINDOW_MS)
    assert audit(operator_reader(warehouse)).ok


def test_a_later_ownership_that_restated_a_window_leaves_no_strays(warehouse: Warehouse) -> None:
    owned(warehouse, 2)
    owned(warehouse, 2, workload="other")
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=1, late_id=5, version=epoch(4)))
    warehouse.insert("ledger", row("ledger", idle_uj=10, revision=1, version=epoch(4, 1)))
    refresh(warehouse)
    assert audit(operator_reader(warehouse)).ok


# ---- late facts ----


def late(warehouse: Warehouse, offset: int, mark: int) -> None:
    """A late fact of 7 uJ from the message at `offset`, not restated, while the partition's mark is at `mark`."""
    warehouse.insert("marks", row("marks", final_end=HOUR + DAY, power_offset=mark, tokens_offset=mark))
    warehouse.insert("gpu_energy", row("gpu_energy", energy_uj=7, late_id=offset + 1))


def test_a_late_fact_beyond_the_mark_is_being_restated_and_no_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.residual_uj) == (True, 0)
    assert (found.restating, found.restating_uj) == (1, 7)
    assert found.restating_windows == [UnbalancedWindow(7, HOUR, "eu", "chat")]


def test_a_late_fact_before_the_mark_should_have_been_restated(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=39, mark=40)
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.residual_uj, found.restating) == (False, 7, 0)


def test_late_tokens_and_requests_beyond_the_mark_are_being_restated_too(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    warehouse.insert("token_usage", row("token_usage", prompt_tokens=3, requests=1, late_id=50))
    asked(warehouse, {}, {"active_uj": 5, "idle_uj": 0, "late_id": 50})
    found = audit(operator_reader(warehouse))
    assert (found.balanced, found.token_residual_tokens, found.request_residual_uj) == (True, 0, 0)
    assert found.restating == 3


def test_patience_looks_again_and_counts_what_it_sees_then(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    waited: list[float] = []

    def restate(seconds: float) -> None:
        waited.append(seconds)
        warehouse.insert("ledger", row("ledger", active_uj=67, idle_uj=40, work=19, prompt_tokens=9, cached_tokens=2,
                                       completion_tokens=4, requests=2, failures=1, revision=1,
                                       version=FIRST_FINAL + 1))  # fmt: skip
        Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])

    found = audit(operator_reader(warehouse), patience_s=5, wait=restate)
    assert waited == [5]
    assert (found.ok, found.restating, found.measured_uj, found.windows) == (True, 0, 112, 2)


def test_what_is_being_restated_for_longer_than_the_patience_is_a_residual(warehouse: Warehouse) -> None:
    book(warehouse)
    late(warehouse, offset=40, mark=40)
    found = audit(operator_reader(warehouse), patience_s=5, wait=lambda _: None)
    assert (found.balanced, found.residual_uj, found.restating, found.restating_uj) == (False, 7, 0, 0)
    assert found.unbalanced_windows == [UnbalancedWindow(7, HOUR, "eu", "chat")]


def test_books_in_balance_are_not_waited_for(warehouse: Warehouse) -> None:
    book(warehouse)
    told: list[tuple[int, int]] = []

    def never(_: float) -> None:
        raise AssertionError("nothing was in doubt")

    assert audit(operator_reader(warehouse), patience_s=5, wait=never, progress=lambda *done: told.append(done)).ok
    assert told == [(10, 10)]  # 3 GPUs, 1 row of tokens, 2 of the ledger, 2 hours, 2 days


def test_energy_without_work_and_work_without_energy_are_told_and_not_judged(warehouse: Warehouse) -> None:
    owned(warehouse, 1)
    warehouse.insert("token_usage", row("token_usage", workload="unmetered", prompt_tokens=5, version=epoch(1)))
    unmetered = {"workload": "unmetered", "hardware": "", "prompt_tokens": 5, "work": 5, "method": 3}
    warehouse.insert("ledger", row("ledger", **unmetered, version=epoch(1)))
    refresh(warehouse)
    found = audit(operator_reader(warehouse))
    assert (found.ok, found.windows_without_work, found.windows_without_energy) == (True, 1, 1)
