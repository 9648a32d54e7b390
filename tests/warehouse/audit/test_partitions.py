"""Workloads on several partitions of the log: their rows replace each other, so an audit names them."""

from __future__ import annotations

from typing import Any

from contracts.units import MS_PER_HOUR
from tests.support.ledger_rows import HOUR, rows
from warehouse.audit.conservation import audit
from warehouse.audit.findings import SplitWorkload
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

PERIOD = Period(HOUR, HOUR + 3 * MS_PER_HOUR)


def energy(partition: int, at: int = 0, **more: Any) -> dict[str, Any]:
    return {"cluster": "eu", "workload": "chat", "log_partition": partition, "window_start": HOUR + at} | more


def split(warehouse: Warehouse, *facts: dict[str, Any]) -> list[SplitWorkload]:
    warehouse.insert("gpu_energy", rows("gpu_energy", *facts))
    report = audit(operator_reader(warehouse), PERIOD)
    assert report.workloads_split == len(report.split_workloads)
    assert report.ok == (report.balanced and not report.split_workloads)
    return report.split_workloads


def test_a_workload_with_facts_from_two_partitions_in_an_hour_is_named_with_both(warehouse: Warehouse) -> None:
    facts = energy(1), energy(3, 10_000), energy(2, workload="code")
    assert split(warehouse, *facts) == [SplitWorkload(1, "eu", "chat", [1, 3])]


def test_tokens_on_another_partition_than_energy_are_named_too(warehouse: Warehouse) -> None:
    warehouse.insert("token_usage", rows("token_usage", energy(5)))
    assert split(warehouse, energy(1)) == [SplitWorkload(1, "eu", "chat", [1, 5])]


def test_a_workload_that_moved_between_hours_or_is_on_another_log_is_not_split(warehouse: Warehouse) -> None:
    facts = energy(1), energy(3, MS_PER_HOUR), energy(4, log_id="another log")
    assert split(warehouse, *facts) == []
