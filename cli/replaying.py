"""A recording through the line, and what the ledger says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cli.embedded import Told, line
from cli.feed import Feed, Sent, fed, stored
from contracts.settings import Settings
from contracts.units import EpochMs, rfc3339
from producers.recordings import Recording
from producers.runtime.publisher import Publisher, kafka_config
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse
from warehouse.ledger.fingerprint import fingerprint
from warehouse.ledger.purge import forget_clusters
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.tables import END_MS, Cluster, IdleFloor, list_idle_floors, put_clusters, put_idle_floors

SHOWN_BAD_ROWS = 20


async def replay(
    settings: Settings, recording: Recording, *, speed: float, worker: bool, told: Told, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Replay, wait until all of it is final, and give the JSON that other programs may rely on.

    On the embedded broker the log is new each time, so an earlier replay into the same cluster is replaced. On a real
    Kafka the same recording again is recognised as duplicates and changes nothing.
    """

    def lay_down(warehouse: Warehouse) -> None:
        if settings.embedded_broker and (rows := forget_clusters(warehouse, [recording.cluster])):
            told(f"replacing {rows} rows of an earlier replay into cluster {recording.cluster}")
        put_clusters(warehouse, [Cluster(recording.cluster, recording.simulated, f"replay: {recording.name}"[:200])])
        _put_floors(warehouse, recording)

    async with line(settings, told, lay_down, worker=worker) as running:
        with Publisher(kafka_config(running.settings)) as publisher:
            feed = Feed(publisher, running.stream_worker, running.settings.skew_ms, speed=speed)
            await fed(feed.run(recording.events(), lambda sent: progress(sent.rows)), running.crashed)
            told(f"{feed.sent.rows} rows are on the log; waiting until every window is final")
            await fed(
                feed.read(), running.crashed
            )  # Duplicates too, so that the answer says what they change: nothing.
            await stored(running.warehouse, running.log_id, feed.sent, running.crashed)
        rejected = running.stream_worker.rejected if running.stream_worker else 0
        return await asyncio.to_thread(_answer, running.warehouse, recording, feed.sent, settings.window_ms, rejected)


def _put_floors(warehouse: Warehouse, recording: Recording) -> None:
    """The recording's own idle floors, as new versions where they differ from what is there."""
    known = list_idle_floors(warehouse)
    for floor in recording.idle_floors:
        versions = [f for f in known if f.hardware == floor.hardware]
        newest = max(versions, key=lambda f: f.floor_version, default=None)
        if newest is None or newest.idle_mw != floor.idle_mw:
            version = newest.floor_version + 1 if newest else 1
            put_idle_floors(warehouse, [IdleFloor(floor.hardware, 0, END_MS, floor.idle_mw, version, floor.source)])


def _answer(warehouse: Warehouse, recording: Recording, sent: Sent, window_ms: int, rejected: int) -> dict[str, Any]:
    """Sums over the workload that holds what ran in the measured window, over all its windows."""
    start_ms = recording.start_ms // window_ms * window_ms
    end_ms = -(-recording.end_ms // window_ms) * window_ms + window_ms
    clusters = sorted({cluster for cluster, _ in sent.subjects})
    workloads = [recording.workload] if recording.workload else sorted({workload for _, workload in sent.subjects})
    period = Period(EpochMs(start_ms), EpochMs(end_ms))

    def totals(workloads: list[str]) -> dict[str, Any]:
        (row,) = warehouse.ask(
            "ledger/workload_totals", workloads=workloads, clusters=clusters, start_ms=start_ms, end_ms=end_ms
        )
        return row

    row = totals(workloads)
    edges_uj = totals([recording.edges])["energy_uj"] if recording.edges else 0
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    checked = audit(operator_reader(warehouse), period)
    return {
        "requests": row["requests"],
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "energy_uj": row["energy_uj"],
        "window_start": rfc3339(recording.window[0]),
        "window_end": rfc3339(recording.window[1]),
        "joules_per_token": (row["energy_uj"] + edges_uj) / 1e6 / tokens if tokens else None,
        "residual_uj": checked.residual_uj,
        "dead_letters": len(sent.bad_rows) + rejected,
        "edges_uj": edges_uj,
        "cached_tokens": row["cached_tokens"],
        "active_uj": row["active_uj"],
        "idle_uj": row["idle_uj"],
        "unallocated_uj": row["unallocated_uj"],
        "cluster": recording.cluster,
        "workload": recording.workload,
        "simulated": recording.simulated,
        "sequence_gaps": checked.sequence_gaps,
        "ledger_sha256": fingerprint(warehouse, period, clusters),
        "references": recording.references,
        "notes": list(recording.notes),
        "bad_rows": [str(bad) for bad in sent.bad_rows[:SHOWN_BAD_ROWS]],
    }
