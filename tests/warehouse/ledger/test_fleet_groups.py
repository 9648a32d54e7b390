"""The fleet by cluster, node, hardware and model, over time, and compared; a GPU that moved is counted once."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import AccessDenied, BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import HOUR, rows
from warehouse.chargeback.chargeback_queries import chargeback_total
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger.fleet_groups import FleetGroups, compared_fleet, fleet_groups
from warehouse.periods import Period
from warehouse.reader import operator_reader, tenant_reader
from warehouse.sink.sink import Sink

REAL = Period(seed.REAL_START_MS, seed.END_MS)
TWO_DAYS = Period(HOUR, HOUR + 2 * MS_PER_DAY)
NEXT_DAY = HOUR + MS_PER_DAY


@pytest.fixture
def ledger(warehouse: Warehouse) -> Warehouse:
    """GPU-m moves from node n1 of `eu` to n2, and then to n3 of `us`; two nodes have a GPU with the id 0."""
    places: list[dict[str, Any]] = [
        {"gpu_uuid": "GPU-m", "node": "n1", "energy_uj": 100},
        {"gpu_uuid": "GPU-m", "node": "n2", "energy_uj": 30, "window_start": HOUR + MS_PER_HOUR},
        {"gpu_uuid": "GPU-m", "node": "n3", "cluster": "us", "energy_uj": 7, "window_start": NEXT_DAY},
        {"gpu_uuid": "0", "node": "n1", "energy_uj": 1},
        {"gpu_uuid": "0", "node": "n2", "energy_uj": 2},
        {"gpu_uuid": "host-n1", "node": "n1", "hardware": "host", "energy_uj": 5},
    ]
    charges = [
        {"active_uj": 60, "idle_uj": 43},
        {"active_uj": 30, "window_start": HOUR + MS_PER_HOUR},
        {"active_uj": 7, "cluster": "us", "window_start": NEXT_DAY, "model": "other"},
        {"active_uj": 5, "hardware": "host"},
    ]
    sink = Sink(warehouse)
    sink.write("gpu_energy", rows("gpu_energy", *places))
    sink.write("ledger", rows("ledger", *charges))
    sink.refresh_hours([HOUR, HOUR + MS_PER_HOUR, NEXT_DAY], ["eu", "us"], ["chat"])
    return warehouse


def gpus_and_energy(groups: FleetGroups, *names: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    return {tuple(getattr(g, name) for name in names): (g.gpus, g.energy_uj) for g in groups.rows}


def test_a_gpu_that_moved_counts_once_and_its_energy_where_it_drew_it(ledger: Warehouse) -> None:
    reader = operator_reader(ledger)
    by_cluster = fleet_groups(reader, TWO_DAYS, ["cluster"])
    assert gpus_and_energy(by_cluster, "cluster") == {("eu",): (3, 138), ("us",): (1, 7)}
    by_node = fleet_groups(reader, TWO_DAYS, ["node"])
    assert gpus_and_energy(by_node, "node") == {("n1",): (2, 106), ("n2",): (2, 32), ("n3",): (1, 7)}
    for groups in (by_cluster, by_node):
        assert (groups.total.gpus, groups.total.energy_uj) == (3, 145)


def test_the_fleet_by_model_has_the_ledgers_energy(ledger: Warehouse) -> None:
    groups = fleet_groups(operator_reader(ledger), TWO_DAYS, ["model"])
    assert gpus_and_energy(groups, "model") == {("llama",): (3, 138), ("other",): (1, 7)}
    assert (groups.total.gpus, groups.total.energy_uj) == (3, 145)
    assert groups.rows[0].idle_ratio == 43 / 138


def test_the_fleet_over_time_by_local_days(ledger: Warehouse) -> None:
    groups = fleet_groups(operator_reader(ledger), TWO_DAYS, [], "day")
    assert gpus_and_energy(groups, "day") == {("2024-01-01",): (3, 138), ("2024-01-02",): (1, 7)}
    kolkata = Period(TWO_DAYS.start, TWO_DAYS.end, "Asia/Kolkata")
    for by in ([], ["model"]):
        assert {g.day for g in fleet_groups(operator_reader(ledger), kolkata, by, "day").rows} == {
            "2024-01-01", "2024-01-02",
        }  # fmt: skip
    hours = fleet_groups(operator_reader(ledger), TWO_DAYS, ["cluster"], "hour")
    assert [(g.hour, g.cluster) for g in hours.rows] == [
        ("2024-01-01T00:00:00Z", "eu"), ("2024-01-01T01:00:00Z", "eu"), ("2024-01-02T00:00:00Z", "us"),
    ]  # fmt: skip


def test_two_periods_are_compared_group_by_group(ledger: Warehouse) -> None:
    first = Period(HOUR, HOUR + MS_PER_DAY)
    groups = compared_fleet(operator_reader(ledger), first, ["cluster"], "2024-01-02")
    figures = {g.cluster: (g.energy_uj, g.other_energy_uj, g.energy_change_ratio) for g in groups.rows}
    assert figures == {"eu": (138, 0, None), "us": (0, 7, -1.0)}
    assert (groups.total.gpus, groups.total.other_gpus) == (3, 1)


def test_two_clusters_are_compared(ledger: Warehouse) -> None:
    groups = compared_fleet(operator_reader(ledger), TWO_DAYS, ["hardware"], "us", Filter(cluster="eu"))
    figures = {g.hardware: (g.energy_uj, g.other_energy_uj) for g in groups.rows}
    assert figures == {"H200": (133, 7), "host": (5, 0)}


def test_the_total_is_the_ledgers_energy(books: Warehouse) -> None:
    reader = operator_reader(books)
    energy_uj = chargeback_total(reader, REAL).energy_uj
    for by in (["cluster"], ["node"], ["hardware"], ["model"], ["cluster", "model"], []):
        assert fleet_groups(reader, REAL, by).total.energy_uj == energy_uj, by
    assert fleet_groups(reader, REAL, ["cluster"], filter=Filter(cluster="eu-1")).total.gpus == len(seed.REAL_GPUS)


def test_an_empty_period_has_no_rows(ledger: Warehouse) -> None:
    groups = fleet_groups(operator_reader(ledger), Period(0, MS_PER_HOUR), ["cluster"])
    assert groups.rows == [] and groups.total.gpus == 0


@pytest.mark.parametrize(
    ("by", "bucket", "field"),
    [(["nodes"], None, "by"), (["node", "model"], None, "by"), (["node"], "age", "bucket")],
)
def test_groups_that_do_not_exist_are_refused(ledger: Warehouse, by: list[str], bucket: str | None, field: str) -> None:
    with pytest.raises(BadQuery, match=field):
        fleet_groups(operator_reader(ledger), TWO_DAYS, by, bucket)


def test_a_comparison_with_nothing_known_is_refused(ledger: Warehouse) -> None:
    with pytest.raises(BadQuery, match="compare"):
        compared_fleet(operator_reader(ledger), TWO_DAYS, ["node"], "us")
    with pytest.raises(BadQuery, match="cluster"):
        compared_fleet(operator_reader(ledger), TWO_DAYS, ["node"], "uss", Filter(cluster="eu"))


def test_a_tenant_does_not_see_the_fleet(ledger: Warehouse) -> None:
    for by in (["cluster"], ["model"]):
        with pytest.raises(AccessDenied):
            fleet_groups(tenant_reader(ledger, "acme"), TWO_DAYS, by)
