"""The audit reports how energy was measured, GPUs that were never in a workload, and silent nodes."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.events import Method
from tests.support.ledger_rows import HOUR, WINDOW_MS, rows
from warehouse.audit.completeness import SILENT_MS
from warehouse.audit.conservation import audit
from warehouse.audit.evidence import silent_nodes
from warehouse.audit.findings import EstimatedGpu, SilentNode, UnboundGpu
from warehouse.audit.report import Audit
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader


def measured(warehouse: Warehouse, *windows: dict[str, Any]) -> Audit:
    """Audit windows of GPUs of which the ledger charges everything as unallocated."""
    energy = rows("gpu_energy", *({"energy_uj": 10, "covered_ms": WINDOW_MS, **w} for w in windows))
    warehouse.insert("gpu_energy", energy)
    return audit(operator_reader(warehouse), Period(HOUR, HOUR + 3_600_000))


def test_energy_and_time_are_summed_by_evidence(warehouse: Warehouse) -> None:
    report = measured(
        warehouse,
        {"gpu_uuid": "G1", "energy_uj": 70},
        {"gpu_uuid": "G2", "energy_uj": 20, "method": Method.INTEGRATED},
        {"gpu_uuid": "G3", "energy_uj": 5, "method": Method.ESTIMATED, "covered_ms": 4_000},
        {"gpu_uuid": "G3", "energy_uj": 5, "window_start": HOUR + WINDOW_MS},
        {"gpu_uuid": "G4", "energy_uj": 1, "method": Method.ESTIMATED, "window_start": HOUR + WINDOW_MS},
    )
    assert (report.counter_uj, report.counter_ms) == (75, 2 * WINDOW_MS)
    assert (report.integrated_uj, report.integrated_ms) == (20, WINDOW_MS)
    assert (report.estimated_uj, report.estimated_ms) == (6, WINDOW_MS + 4_000)
    assert report.gpus_with_estimates == 2
    assert report.estimated[0] == EstimatedGpu(WINDOW_MS, 1, "eu", "n1", "G4")
    assert report.measured_ratio == pytest.approx(3 / 4.4)


def test_a_gpu_that_no_workload_ever_occupied_is_named(warehouse: Warehouse) -> None:
    report = measured(
        warehouse,
        {"gpu_uuid": "G1"},
        {"gpu_uuid": "G2", "workload": "~n1"},
        {"gpu_uuid": "G3", "workload": "~n1"},
        {"gpu_uuid": "G3", "window_start": HOUR + WINDOW_MS},
    )
    assert (report.gpus_unbound, report.unbound) == (1, [UnboundGpu("eu", "n1", "G2")])


NEWEST = HOUR + 3_600_000
END_OF = {"live": NEWEST, "late": NEWEST - SILENT_MS, "silent": NEWEST - SILENT_MS - 1, "dead": HOUR}


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ({"a/n1": "live", "a/n2": "late", "b/n1": "live"}, []),
        ({"a/n1": "live", "a/n2": "silent", "b/n1": "dead", "b/n2": "live"}, ["b/n1", "a/n2"]),
        ({"a/n1": "live", "b/n1": "silent", "b/n2": "dead"}, ["b/"]),
        ({"a/n1": "dead"}, []),  # Nothing shows that the period went on.
    ],
)
def test_a_node_is_silent_where_others_went_on_and_a_cluster_where_all_its_nodes_are(
    nodes: dict[str, str], named: list[str]
) -> None:
    ends = {(*name.split("/"), "G"): END_OF[end] for name, end in nodes.items()}
    silent = silent_nodes(ends, NEWEST)  # type: ignore[arg-type]
    assert [f"{n.cluster}/{n.node}" for n in silent] == named


def test_a_cluster_that_fell_silent_is_named_with_its_last_window(warehouse: Warehouse) -> None:
    report = measured(warehouse, {"cluster": "us"}, {"window_start": HOUR + 1_000_000})
    assert report.silent_nodes == [SilentNode(HOUR + WINDOW_MS, "us", "", HOUR + 1_000_000 + WINDOW_MS)]
    assert report.nodes_silent == 1


@pytest.mark.parametrize("flaw", ["uncovered_ms", "estimated_ms", "gpus_unbound", "nodes_silent", "silent_producers"])
def test_an_audit_with_a_flaw_in_its_evidence_is_ok_but_not_complete(flaw: str) -> None:
    assert Audit().complete
    report = Audit(**{flaw: 1})
    assert report.ok and not report.complete
