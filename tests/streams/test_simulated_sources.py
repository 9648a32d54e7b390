"""The worker marks the clusters of simulated sources."""

from __future__ import annotations

import asyncio

import pytest

from contracts import topics
from tests.streams.driven_worker import T0, Driven
from tests.support.oracle import Interval
from tests.support.partition_log import Log, close, power
from warehouse.client import Warehouse
from warehouse.reference_data.clusters import list_clusters


def run(warehouse: Warehouse, source: str) -> list[tuple[str, bool]]:
    log = Log()
    log.append(
        power(
            [Interval(cluster="c", workload="w", node="n", gpu="g", hardware="H100", t0=T0, t1=T0 + 1_000, energy_uj=5)]
        ),
        source=source,
    )
    close(log, T0 - 600_000 + 200_000)
    driven = Driven(warehouse, log)

    async def go() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        await driven.stream_worker.store_once()

    asyncio.run(go())
    return [(c.cluster, c.simulated) for c in list_clusters(warehouse)]


def test_a_simulated_source_marks_its_cluster(warehouse: Warehouse) -> None:
    assert run(warehouse, "simulated://us-east/n1/w") == [("us-east", True)]


def test_a_measured_source_marks_nothing(warehouse: Warehouse) -> None:
    assert run(warehouse, "nvml://us-east/n1/w") == []


@pytest.mark.parametrize(
    ("source", "cluster"),
    [
        ("simulated://us-east/n1/w", "us-east"),
        ("simulated-gateway://eu%2Fwest/n1/w", "eu/west"),
        ("nvml://us-east/n1/w", None),
        ("replay://azure/x", None),
        ("plain", None),
    ],
)
def test_a_source_states_whether_it_is_simulated(source: str, cluster: str | None) -> None:
    assert topics.simulated_cluster(source) == cluster
