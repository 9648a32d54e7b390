"""Boundaries: what energy includes, in bills, series and rows of the ledger."""

from __future__ import annotations

from itertools import accumulate

import pytest

from contracts.boundary import HOST, WALL_LESS_GPUS, Boundary, part_of
from contracts.errors import BadQuery
from tests.support.ledger_rows import HOUR, WINDOW_MS, rows
from warehouse.chargeback.chargeback_queries import chargeback_all, chargeback_total, clusters_outside, parts_uj
from warehouse.chargeback.series import read_measures
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.results import Outside
from warehouse.sink.sink import Sink
from warehouse.usage import sessions, usage_queries

DAY_MS = 86_400_000
ENERGY_UJ = {"H200": 1, "": 0, HOST: 10, WALL_LESS_GPUS: 100, "wall of SUT": 1_000, "hostess": 10_000, "wallet": 20_000}
PART_UJ = {Boundary.GPU: 30_001, Boundary.HOST: 10, Boundary.WALL: 1_100}
WITHIN_UJ = dict(zip(PART_UJ, accumulate(PART_UJ.values()), strict=True))
PERIODS = {
    "day": Period(HOUR, HOUR + DAY_MS),
    "hour": Period(HOUR, HOUR + 3_600_000),
    "window": Period(HOUR, HOUR + 2 * WINDOW_MS),
}


@pytest.fixture
def parts(warehouse: Warehouse) -> Warehouse:
    """One window of a tenant on every kind of hardware; GPUs bear its tokens."""
    tokens = {"prompt_tokens": 7, "requests": 1}
    charges = [
        {"hardware": hardware, "active_uj": uj, **(tokens if hardware == "H200" else {})}
        for hardware, uj in ENERGY_UJ.items()
    ]
    warehouse.insert("ledger", rows("ledger", *charges, {"cluster": "us", "active_uj": 5}))
    warehouse.insert("request_energy", rows("request_energy", {}))
    Sink(warehouse).refresh_hours([HOUR], ["eu", "us"], ["chat"])
    return warehouse


def test_the_part_of_a_hardware_type_is_that_of_the_contract() -> None:
    sums = dict.fromkeys(Boundary, 0)
    for hardware, uj in ENERGY_UJ.items():
        sums[part_of(hardware)] += uj
    assert sums == PART_UJ


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("boundary", [*Boundary, None])
def test_a_bill_has_what_is_within_its_boundary(parts: Warehouse, boundary: Boundary | None, period: str) -> None:
    total = chargeback_total(operator_reader(parts), PERIODS[period], Filter(cluster="eu", boundary=boundary))
    assert total.energy_uj == WITHIN_UJ[boundary or Boundary.WALL]
    within = [part for part in Boundary if WITHIN_UJ[part] <= WITHIN_UJ[boundary or Boundary.WALL]]
    assert parts_uj(total) == {part: PART_UJ[part] * (part in within) for part in Boundary}
    assert (total.tokens, total.requests) == (7, 1)
    assert total.joules_per_token == pytest.approx(total.energy_uj / 1e6 / 7)


def test_parts_of_rows_sum_to_the_totals(parts: Warehouse) -> None:
    reader, total = operator_reader(parts), chargeback_total(operator_reader(parts), PERIODS["day"])
    for by in (["hardware"], ["cluster", "model"], ["hour"]):
        of_rows = chargeback_all(reader, PERIODS["day"], by)
        assert sum(row.host_uj for row in of_rows) == total.host_uj
        assert sum(row.wall_uj for row in of_rows) == total.wall_uj


def test_clusters_without_the_boundarys_part_are_named(parts: Warehouse) -> None:
    reader = operator_reader(parts)
    named = {b: clusters_outside(reader, PERIODS["day"], Filter(boundary=b)) for b in [*Boundary, None]}
    less = Outside(clusters_outside=["us"])
    assert named == {Boundary.GPU: Outside(), Boundary.HOST: less, Boundary.WALL: less, None: Outside()}
    assert clusters_outside(reader, PERIODS["day"], Filter(boundary=Boundary.HOST, cluster="eu")) == Outside()


@pytest.mark.parametrize(
    ("hardware", "excluded"),
    [("H200", set()), (HOST, {"gpu"}), (WALL_LESS_GPUS, {"gpu", "host"}), ("wall of SUT", {"gpu", "host"})],
)
def test_a_cluster_with_nothing_within_the_boundary_is_excluded(
    warehouse: Warehouse, hardware: str, excluded: set[str]
) -> None:
    warehouse.insert("ledger", rows("ledger", {"hardware": hardware, "active_uj": 1}))
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])
    for boundary in Boundary:
        outside = clusters_outside(operator_reader(warehouse), PERIODS["day"], Filter(boundary=boundary))
        assert outside.clusters_excluded == (["eu"] if boundary in excluded else [])
        assert set(outside.clusters_excluded) <= set(outside.clusters_outside)


def test_series_and_rows_of_the_ledger_are_within_the_boundary(parts: Warehouse) -> None:
    reader = operator_reader(parts)
    filter = Filter(cluster="eu", boundary=Boundary.HOST)
    series = read_measures(reader, PERIODS["day"], ["energy_uj"], None, "day", filter)["energy_uj"]
    assert [value for _, value in series.points[""]] == [WITHIN_UJ[Boundary.HOST]]
    ledger = ledger_queries.ledger_rows(reader, PERIODS["day"], filter).rows
    assert {row.hardware for row in ledger} == {"", "H200", HOST, "hostess", "wallet"}


def test_reads_of_single_requests_usage_and_nodes_refuse_a_boundary(parts: Warehouse) -> None:
    reader, filter = operator_reader(parts), Filter(boundary=Boundary.GPU)
    for read in (
        lambda: ledger_queries.requests(reader, PERIODS["day"], filter),
        lambda: ledger_queries.fleet(reader, PERIODS["day"], filter),
        lambda: ledger_queries.latest(reader, HOUR + DAY_MS, filter),
        lambda: usage_queries.usage(reader, PERIODS["day"], ["tenant"], filter=filter),
        lambda: sessions.sessions(reader, PERIODS["day"], filter),
    ):
        with pytest.raises(BadQuery, match="boundary"):
            read()
