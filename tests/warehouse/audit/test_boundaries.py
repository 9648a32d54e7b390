"""The audit by part of the energy: GPUs, hosts, the wall. Hosts are no GPUs, and no energy counts twice."""

from __future__ import annotations

from typing import Any

from contracts.boundary import HOST, WALL_LESS_GPUS, Boundary
from tests.support.ledger_rows import HOUR, WINDOW_MS, rows
from warehouse.audit.boundaries import nodes_without_host
from warehouse.audit.conservation import audit
from warehouse.audit.findings import DoubleCount, NodeWithoutHost
from warehouse.audit.report import Audit, Equation
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

GPU: dict[str, Any] = {"gpu_uuid": "G1"}
OF_HOST: dict[str, Any] = {"gpu_uuid": "host-n1", "hardware": HOST}
OF_WALL: dict[str, Any] = {"gpu_uuid": "wall-n1", "hardware": WALL_LESS_GPUS}


def audited(warehouse: Warehouse, *facts: dict[str, Any], unpaid_uj: int = 0) -> Audit:
    """Audit facts of 10 µJ a window, whose hardware types are charged to one tenant each, but for `unpaid_uj`."""
    stored = [{"energy_uj": 10, **fact} for fact in facts]
    charges: dict[tuple[str, str, int], int] = {}
    for fact in stored:
        key = fact.get("workload", "chat"), fact.get("hardware", "H200"), fact.get("window_start", HOUR)
        charges[key] = charges.get(key, 0) + fact["energy_uj"]
    warehouse.insert("gpu_energy", rows("gpu_energy", *stored))
    ledger = [
        {"workload": workload, "hardware": hardware, "window_start": start, "active_uj": uj - unpaid_uj * (n == 0)}
        for n, ((workload, hardware, start), uj) in enumerate(sorted(charges.items()))
    ]
    warehouse.insert("ledger", rows("ledger", *ledger))
    return audit(operator_reader(warehouse), Period(HOUR, HOUR + 10 * WINDOW_MS))


def at(window: int, fact: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**fact, "window_start": HOUR + window * WINDOW_MS, **more}


def test_each_part_of_the_energy_balances_on_its_own(warehouse: Warehouse) -> None:
    report = audited(warehouse, {**GPU, "energy_uj": 70}, OF_HOST, at(1, OF_WALL), at(1, GPU))
    assert report.parts == {
        Boundary.GPU: Equation(80, 80, 0, 0, 0), Boundary.HOST: Equation(10, 10, 0, 0, 0),
        Boundary.WALL: Equation(10, 10, 0, 0, 0),
    }  # fmt: skip
    assert (report.measured_uj, report.residual_uj) == (100, 0)


def test_a_residual_is_reported_in_its_part(warehouse: Warehouse) -> None:
    report = audited(warehouse, {**OF_HOST, "workload": "a"}, GPU, unpaid_uj=3)
    assert report.parts[Boundary.HOST] == Equation(10, 7, 0, 0, 3)
    assert report.parts[Boundary.GPU].residual_uj == 0
    assert report.residual_uj == 3


def test_a_ledger_of_gpus_has_one_part(warehouse: Warehouse) -> None:
    assert audited(warehouse, GPU).parts.keys() == {Boundary.GPU}


def test_a_host_is_no_gpu(warehouse: Warehouse) -> None:
    report = audited(warehouse, GPU, at(1, GPU), {**OF_HOST, "workload": "~n1"}, at(2, OF_HOST, workload="~n1"))
    assert (report.gpus, report.coverage_ratio, report.gpus_unbound, report.gpus_with_gaps) == (1, 1.0, 0, 0)
    assert (report.counter_ms, report.counter_uj, report.measured_ratio) == (2 * WINDOW_MS, 40, 1.0)
    assert (report.meters, report.meters_with_gaps, report.meters_uncovered_ms) == (1, 1, WINDOW_MS)
    assert report.least_covered_meters[0].gpu_uuid == "host-n1"
    assert report.ok and not report.complete


def test_a_recording_of_the_wall_alone_has_no_gpus(warehouse: Warehouse) -> None:
    report = audited(warehouse, {"hardware": "wall of SUT", "gpu_uuid": "wall-SUT"})
    assert (report.gpus, report.meters, report.parts.keys()) == (0, 1, {Boundary.WALL})
    assert (report.counter_uj, report.counter_ms) == (10, 0)
    assert report.complete


def test_a_node_with_host_and_wall_is_named(warehouse: Warehouse) -> None:
    report = audited(warehouse, GPU, OF_HOST, OF_WALL, at(1, OF_HOST), at(1, OF_WALL), at(1, GPU))
    named = DoubleCount(2, "eu", "n1", [HOST, WALL_LESS_GPUS], HOUR, HOUR + 2 * WINDOW_MS)
    assert (report.nodes_counted_twice, report.double_counts) == (1, [named])
    assert report.ok and not report.complete


def test_a_node_with_gpus_and_a_wall_that_contains_them_is_named(warehouse: Warehouse) -> None:
    of_all = {"gpu_uuid": "wall-n1", "hardware": "wall of n1"}
    elsewhere = {"gpu_uuid": "wall-n2", "hardware": "wall of n2", "node": "n2"}
    report = audited(warehouse, GPU, of_all, at(1, GPU, covered_ms=4_000), at(1, of_all, covered_ms=6_000), elsewhere)
    assert report.double_counts == [DoubleCount(1, "eu", "n1", ["H200", "wall of n1"], HOUR, HOUR + WINDOW_MS)]
    assert report.ok and not report.complete


def test_a_node_that_changes_from_host_to_wall_counts_nothing_twice(warehouse: Warehouse) -> None:
    report = audited(
        warehouse, OF_HOST, at(1, OF_HOST, covered_ms=4_000), at(1, OF_WALL, covered_ms=6_000), at(2, OF_WALL)
    )
    assert report.nodes_counted_twice == 0


def test_nodes_that_lack_their_host_are_named_where_others_have_it(warehouse: Warehouse) -> None:
    other = {"gpu_uuid": "G2", "node": "n2"}
    elsewhere = {"gpu_uuid": "G3", "node": "n3", "cluster": "us"}
    warehouse.insert("ledger", rows("ledger", {"cluster": "us", "active_uj": 10}))
    warehouse.insert("gpu_energy", rows("gpu_energy", {**elsewhere, "energy_uj": 10}))
    report = audited(warehouse, GPU, OF_HOST, other)
    assert (report.nodes_without_host, report.without_host) == (1, [NodeWithoutHost("eu", "n2")])
    assert report.ok and not report.complete


def insert_hour(warehouse: Warehouse, hour_ms: int) -> None:
    """Insert an hour of the ledger, which says only that there is energy in it."""
    warehouse.command(f"INSERT INTO ledger_hour (hour, version) SELECT fromUnixTimestamp64Milli({hour_ms}, 'UTC'), 1")


def test_a_bill_can_name_clusters_of_which_only_some_nodes_have_their_host(warehouse: Warehouse) -> None:
    other = {"gpu_uuid": "G2", "node": "n2"}
    elsewhere = {"gpu_uuid": "G3", "node": "n3", "cluster": "us", "energy_uj": 10}
    last_hour = {"window_start": HOUR + 3_600_000}
    warehouse.insert("gpu_energy", rows("gpu_energy", elsewhere, {**other, **last_hour, "energy_uj": 10}))
    insert_hour(warehouse, HOUR)
    audited(warehouse, GPU, OF_HOST, other)
    reader = operator_reader(warehouse)
    period = Period(HOUR, HOUR + 7_200_000)
    assert nodes_without_host(reader, period) == [("eu", 2, 1)]
    assert nodes_without_host(reader, period, "us") == []
    insert_hour(warehouse, HOUR + 3_600_000)
    assert nodes_without_host(reader, period) == []
