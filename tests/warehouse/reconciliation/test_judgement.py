"""Judgement of two witnesses: small series by hand, and faults of the simulated fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.warehouse.reconciliation.faults import FAULTS
from tests.warehouse.reconciliation.trial import false_alarms, findings_of, named
from warehouse.reconciliation.differences import gross_hours, without_carry
from warehouse.reconciliation.judged_pair import SETTLE_H
from warehouse.reconciliation.judgement import judge
from warehouse.reconciliation.witnesses import F64, Pair, Relation, Subject, Witnesses
from warehouse.reconciliation.words import say

HOURS = 120
CHAT, CODE = Subject("eu", "chat"), Subject("eu", "code")


def day(calls: float = 1_000) -> F64:
    return np.round(calls * (1.5 + np.sin(np.arange(HOURS) / 24 * 2 * np.pi)))


def requests(a: F64, b: F64, subject: Subject = CHAT, **more: Any) -> Pair:
    return Pair(subject, "requests", Relation.COUNTED, "ledger", "servers", a=a, b=b, **more)


def since(column: F64, change: Any, hours: int = 24) -> F64:
    """Return a column of which the last hours are changed."""
    return np.concatenate([column[:-hours], change(column[-hours:])])


def verdict(*pairs: Pair) -> list[tuple[str, str, str]]:
    return [(str(f.kind), f.source, f.subject.workload) for f in judge(Witnesses(list(pairs)))]


def test_equal_series_have_no_finding() -> None:
    assert verdict(requests(day(), day()), requests(day(400), day(400), CODE)) == []


def test_calls_that_cross_an_hours_edge_are_not_lost() -> None:
    late = np.round(0.02 * day())
    assert verdict(requests(day() - late + np.append(0, late[:-1]), day())) == []


def test_hours_that_are_not_settled_are_not_judged() -> None:
    assert verdict(requests(since(day(), lambda c: 0 * c, SETTLE_H), day())) == []


CASES = {
    "half is lost": (lambda c: c / 2, "lost", "ledger"),
    "all is counted twice": (lambda c: 2 * c, "doubled", "ledger"),
    "thousands": (lambda c: 1_000 * c, "factor", "ledger"),
    "nothing": (lambda c: 0 * c, "silent", "ledger"),
    "one in a hundred": (lambda c: c - np.round(c / 100), "lost", "ledger"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_source_that_left_its_own_past_is_named(case: str) -> None:
    change, kind, source = CASES[case]
    assert verdict(requests(since(day(), change), day())) == [(kind, source, "chat")]


def test_a_server_that_counts_twice_differs_from_a_ledger_that_lost_half() -> None:
    assert verdict(requests(day(), since(day(), lambda c: 2 * c))) == [("doubled", "servers", "chat")]


def test_a_page_that_is_not_read_is_a_missing_part() -> None:
    pages = since(np.full(HOURS, 3.0), lambda c: c - 1)
    pair = requests(day(), since(day(), lambda c: np.round(c * 2 / 3)), b_parts=pages)
    assert verdict(pair) == [("missing", "servers", "chat")]


def test_fewer_pages_without_a_difference_are_a_smaller_fleet() -> None:
    pages = since(np.full(HOURS, 3.0), lambda c: c - 1)
    assert verdict(requests(day(), day(), b_parts=pages)) == []


@pytest.mark.parametrize("at", [30, 12, 7])
def test_a_source_that_is_added_later_was_not_silent_before(at: int) -> None:
    later = np.append(0 * day()[:-at], day()[-at:])
    later[-at] /= 3  # It began within the hour.
    watts = Pair(CHAT, "energy_uj", Relation.METERED, "counter", "watts", a=day(), b=later)
    assert verdict(requests(day(), later), requests(later, day(), CODE), watts) == []


def test_differences_after_a_source_was_added_are_judged() -> None:
    later = np.append(0 * day()[:-20], 2 * day()[-20:])
    assert [kind for kind, _, _ in verdict(requests(day(), later))] == ["doubled"]


def test_an_outage_of_a_nights_few_calls_is_no_shift() -> None:
    calls = day()
    calls[-20:-17] = np.round(0.1 * calls[-20:-17])
    ledger = calls.copy()
    ledger[-20:-17] = 0
    assert verdict(requests(ledger, calls)) == [("silent", "ledger", "chat")]


def test_senders_without_calls_are_not_silent_by_themselves() -> None:
    idle = since(day(), lambda c: 0 * c)
    assert verdict(requests(idle, idle)) == []


def test_silence_beside_a_server_that_has_calls_says_how_calls_may_be_missing() -> None:
    [finding] = judge(Witnesses([requests(since(day(), lambda c: 0 * c), day())]))
    assert "ledger is silent while servers goes on: its sender is down, or calls pass it by" in say(finding)


def test_a_mapping_moves_calls_from_one_name_to_another() -> None:
    lost, gained = since(day(300), lambda c: 0 * c), since(day(), lambda c: c + day(300)[-24:])
    findings = judge(Witnesses([requests(lost, day(300), CODE), requests(gained, day(), CHAT)]))
    assert [(str(f.kind), f.subject, f.other) for f in findings] == [("mapping", CODE, CHAT)]
    assert say(findings[0]).startswith("eu/code: ledger counts it under chat: a wrong mapping (requests: ")


def test_a_workload_whose_servers_are_not_read_is_not_judged() -> None:
    prompt = replace(requests(day(90_000), 0 * day()), quantity="prompt_tokens")
    assert verdict(requests(day(), 0 * day()), prompt) == []


ENERGY_FAULTS = {
    "host is silent": ("host", lambda gpus, host: (gpus, 0 * host), [("silent", "host")]),
    "host in mJ": ("host", lambda gpus, host: (gpus, host / 1e3), [("factor", "host")]),
    "a job on the CPUs": ("host", lambda gpus, host: (gpus, 4 * host), []),
    "GPUs count twice": ("wall", lambda gpus, wall: (2 * gpus, wall), [("doubled", "GPUs")]),
    "GPUs count half as much again": ("wall", lambda gpus, wall: (1.5 * gpus, wall), [("excess", "GPUs")]),
    "the wall is silent": ("wall", lambda gpus, wall: (gpus, 0 * wall), [("silent", "wall")]),
    "the wall in kW": ("wall", lambda gpus, wall: (gpus, wall / 1e3), [("factor", "wall")]),
    "nothing": ("wall", lambda gpus, wall: (gpus, wall), []),
}


@pytest.mark.parametrize("case", ENERGY_FAULTS)
def test_gpus_are_judged_beside_their_host_and_their_wall(case: str) -> None:
    second, change, expected = ENERGY_FAULTS[case]
    gpus = day() * 3e9
    other = 0.3 * gpus + 2e11 if second == "host" else 1.1 * gpus + 5e11
    first = since(gpus, lambda g: change(g, other[-24:])[0])
    other = since(other, lambda o: change(gpus[-24:], o)[1])
    relation = Relation.ALONG if second == "host" else Relation.CONTAINED
    pair = Pair(CHAT, "energy_uj", relation, "GPUs", second, a=first, b=other)
    assert [(kind, source) for kind, source, _ in verdict(pair)] == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0.9, []), (0.1, []), (1.5, [("excess", "GPUs")]), (0.001, [("factor", "GPUs")])]
)
def test_gpus_of_jobs_are_a_part_of_what_slurm_counts(share: float, expected: list[tuple[str, str]]) -> None:
    slurm = since(0 * day(), lambda c: np.where(np.arange(24) % 7 == 0, 5e9, 0))
    pair = Pair(CHAT, "energy_uj", Relation.PART, "GPUs", "Slurm", a=share * slurm, b=slurm)
    assert [(kind, source) for kind, source, _ in verdict(pair)] == expected


def test_tables_that_are_computed_from_each_other_may_not_differ_by_one() -> None:
    hours = day()
    hours[-12] -= 1
    pair = Pair(CHAT, "prompt_tokens", Relation.EXACT, "ledger", "hours", a=day(), b=hours)
    assert verdict(pair) == [("lost", "hours", "chat")]


def test_a_difference_is_carried_to_the_hours_around_it() -> None:
    assert without_carry(np.array([5.0, -3.0, 0.0, -2.0, 7.0]), 3).tolist() == [2, 0, 0, 0, 5]
    assert gross_hours(np.array([100.0, 110, 90, 150]), np.full(4, 100.0), 0.1, 1).tolist() == [3]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_fleet_is_named_within_a_day(name: str) -> None:
    for seed in (0, 5):
        findings = findings_of(name, seed)
        assert named(name, findings), (seed, [say(finding) for finding in findings])


@pytest.mark.slow
def test_clean_days_have_no_finding() -> None:
    assert [(hour, say(finding)) for hour, finding in false_alarms(0, days=12)] == []
