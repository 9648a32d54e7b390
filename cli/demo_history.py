"""The demo's past: a SIMULATED fleet's reference data and four months of history, attributed like any other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts.errors import BadInput
from contracts.rows import conform
from contracts.settings import Settings
from contracts.units import MS_PER_HOUR, epoch_ms
from producers.simulation import reference_data as simulated
from producers.simulation.history import history
from streams.core import row_versions
from streams.core.attribution.attribute import attribute
from streams.core.restatement import facts_of
from streams.startup import load_policy
from warehouse.client import Warehouse
from warehouse.ledger.purge import purge_clusters
from warehouse.reference_data.attribution_tables import IdleFloor, list_idle_floors, put_idle_floors
from warehouse.reference_data.clusters import Cluster, list_clusters, put_clusters
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.reference_data.validity import END_MS
from warehouse.sink.sink import Sink

HISTORY_START_MS = epoch_ms("2025-06-01")
LIVE_START_MS = epoch_ms("2025-09-30T12:00:00Z")
"""End of the history and start of the stream. Fixed, so that the same seed gives the same ledger on any day."""
LOG_ID = "simulated-history"


@dataclass(frozen=True)
class StoredHistory:
    """Size of the stored history, and the anomalies planted in it."""

    rows: int
    hours: int
    planted: tuple[str, ...]


def clusters() -> list[str]:
    """Return the names of the simulated fleet's clusters."""
    return [c["cluster"] for c in simulated.clusters()]


def check_is_demo(warehouse: Warehouse) -> None:
    """Raise BadInput if simulated rows would mix with those of a real cluster of the same name."""
    marked = {c.cluster for c in list_clusters(warehouse) if c.simulated}
    stored = {row["cluster"] for row in warehouse.ask("ledger/stored_clusters", names=clusters())}
    real = sorted(stored - marked)
    if real:
        raise BadInput(
            "data", real[0], "this ledger has a real cluster of that name: give the demo another folder with --data"
        )


def store_history(warehouse: Warehouse, settings: Settings, seed: int) -> StoredHistory:
    """Store the simulated fleet's reference data and history. They replace those of an earlier demo."""
    check_is_demo(warehouse)
    purge_clusters(warehouse, clusters())
    store_reference_data(warehouse, settings)
    return _store_history(warehouse, settings, seed)


SIMULATED_FLEET = "the simulated fleet's clusters, tenants, prices and floors"
"""What of reference data the audit log says that the demo stored."""


def store_reference_data(warehouse: Warehouse, settings: Settings) -> None:
    """Store the simulated fleet's clusters (marked as simulated), tenants, prices and idle floors."""
    put_clusters(warehouse, [Cluster(c["cluster"], True, c["note"]) for c in simulated.clusters()])
    put_tenants(warehouse, [Tenant(t["tenant"], t["team"], t["cost_centre"], True) for t in simulated.tenants()])
    put_prices(
        warehouse,
        [
            Price(
                kind=p["kind"],
                cluster=p["cluster"],
                value=p["value"],
                valid_from_ms=0,
                valid_to_ms=END_MS,
                currency=p["currency"],
                source=p["source"],
            )
            for p in simulated.prices(settings.currency)
        ],
    )
    known = {f.hardware for f in list_idle_floors(warehouse)}
    put_idle_floors(
        warehouse,
        [
            IdleFloor(f["hardware"], 0, END_MS, f["idle_mw"], 1, f["source"])
            for f in simulated.idle_floors()
            if f["hardware"] not in known
        ],
    )


def _store_history(warehouse: Warehouse, settings: Settings, seed: int) -> StoredHistory:
    past = history(seed, HISTORY_START_MS, end_ms=LIVE_START_MS)
    origin: dict[str, str | int] = {
        "log_id": LOG_ID,
        "log_partition": 0,
        "version": row_versions.final(0, 0),
        "deleted": 0,
        "window_ms": MS_PER_HOUR,
    }
    sink = Sink(warehouse)
    energy = conform("gpu_energy", {**past.gpu_energy, "late_id": 0, **origin})
    tokens = conform("token_usage", {**past.token_usage, "late_id": 0, **origin})
    ledger = attribute(facts_of(energy, tokens), load_policy(warehouse, settings)).ledger
    sink.write("gpu_energy", energy)
    sink.write("token_usage", tokens)
    sink.write("ledger", conform("ledger", {**ledger, "revision": 0, "final": 1, **origin}))
    starts = np.unique(np.asarray(ledger["window_start"]))
    sink.refresh_hours(starts.tolist(), sorted(set(ledger["cluster"])), sorted(set(ledger["workload"])))
    return StoredHistory(len(ledger["tenant"]), len(starts), tuple(p.note for p in past.planted))
