"""Replays a recording through the pipeline, and summarises its part of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cli.audit_entries import recorded_change
from cli.embedded import Pipeline, running_pipeline
from cli.log_feed import FeedProgress, LogFeed, run_unless_crashed, wait_until_stored
from cli.replay_conflicts import check_replaceable
from cli.settled_ledger import read_settled
from contracts.errors import BadInput, LedgerError
from contracts.settings import Settings
from contracts.units import EpochMs, rfc3339
from producers.recordings.base import Recording
from producers.runtime.publisher import Publisher, kafka_config
from warehouse.audit.conservation import audit
from warehouse.audit.holdings import Holdings
from warehouse.client import Warehouse
from warehouse.ledger.fingerprint import fingerprint
from warehouse.ledger.staging import create_stage, drop_stage, mark_ready, promote
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.attribution_tables import IdleFloor, list_idle_floors, put_idle_floors
from warehouse.reference_data.clusters import Cluster, put_clusters
from warehouse.reference_data.validity import END_MS

MAX_BAD_ROWS = 20
"""Bad rows that the result lists."""


async def replay(
    settings: Settings,
    recording: Recording,
    *,
    speed: float,
    worker: bool,
    replace: bool,
    step: Callable[[str], None],
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Replay a recording, wait until bills hold all its windows, and return a summary as JSON for other programs.

    On the embedded broker every log is new. So the worker stores into a stage (`warehouse.ledger.staging`), which then
    takes the place of an earlier replay in the same windows of the same cluster. On a real Kafka nothing is replaced:
    a second replay of a recording is recognised as duplicates and changes nothing. `step` gets a text for each
    finished step, `progress` the number of rows sent so far.

    Raises BadInput if another recording filled the windows, unless `replace`; LedgerError if every row was refused.
    """
    if replace and not settings.embedded_broker:
        raise BadInput("replace", replace, "rows on a real Kafka cannot be replaced: replay into another --cluster")

    def prepare(warehouse: Warehouse) -> Warehouse | None:
        if not settings.embedded_broker:
            _put_reference_data(warehouse, settings, recording)
            return None
        check_replaceable(warehouse, recording, settings.window_ms, replace=replace)
        stage = create_stage(warehouse, recording.cluster)
        _store_reference_data(stage, recording)
        return stage

    async with running_pipeline(settings, step, prepare, worker=worker) as running:
        sent = await _send(running, recording, speed, step, progress)
        rejected = running.stream_worker.rejected if running.stream_worker else 0
        span = ReplayedSpan(recording, sent, settings.window_ms)
        if running.stage is not None:
            await _move(running, running.stage, recording, span, len(sent.bad_rows) + rejected)
        return await read_settled(
            running.warehouse, span.period, span.clusters, running.crashed,
            lambda held: _summary(running.warehouse, recording, sent, span, held, rejected),
        )  # fmt: skip


async def _send(
    running: Pipeline,
    recording: Recording,
    speed: float,
    step: Callable[[str], None],
    progress: Callable[[int], None],
) -> FeedProgress:
    """Send the recording, and wait until all of it is stored and final."""
    with Publisher(kafka_config(running.settings)) as publisher:
        feed = LogFeed(publisher, running.stream_worker, running.settings.skew_ms, speed=speed)
        sending = feed.run(recording.events(), lambda sent: progress(sent.rows))
        await run_unless_crashed(sending, running.crashed)
        step(f"{feed.sent.rows} rows are on the log; waiting until every window is final")
        # Until duplicates are read too: they are never stored, so the next wait would not cover them.
        await run_unless_crashed(feed.wait_until_read(), running.crashed)
        await wait_until_stored(running.target, running.log_id, feed.sent, running.crashed)
    return feed.sent


async def _move(
    running: Pipeline, stage: Warehouse, recording: Recording, span: ReplayedSpan, dead_letters: int
) -> None:
    """Move a stage into the ledger, once it is settled and its worker has ended."""

    def move(held: Holdings) -> None:
        if dead_letters and not (held.measured_uj or held.requests):
            drop_stage(running.warehouse, stage.database)
            raise LedgerError(
                f"all rows were refused, {dead_letters} dead letters: cluster {recording.cluster} is as it was"
            )
        mark_ready(stage)
        _put_reference_data(running.warehouse, running.settings, recording)
        promote(running.warehouse, stage.database)

    held = await read_settled(stage, span.period, span.clusters, running.crashed, lambda held: held)
    await running.end_worker()
    await asyncio.to_thread(move, held)


def _put_reference_data(warehouse: Warehouse, settings: Settings, recording: Recording) -> None:
    """Store the mark of the recording's cluster and the recording's idle floors."""
    own = f"{recording.cluster}: cluster and floors of {recording.name}"
    with recorded_change(settings, "reference_data.put", own):
        _store_reference_data(warehouse, recording)


def _store_reference_data(warehouse: Warehouse, recording: Recording) -> None:
    put_clusters(warehouse, [Cluster(recording.cluster, recording.simulated, f"replay: {recording.name}"[:200])])
    _put_floors(warehouse, recording)


def _put_floors(warehouse: Warehouse, recording: Recording) -> None:
    """Store the recording's own idle floors, as new versions where they differ from the stored ones."""
    known = list_idle_floors(warehouse)
    for floor in recording.idle_floors:
        versions = [f for f in known if f.hardware == floor.hardware]
        newest = max(versions, key=lambda f: f.floor_version, default=None)
        if newest is None or newest.idle_mw != floor.idle_mw:
            version = newest.floor_version + 1 if newest else 1
            put_idle_floors(warehouse, [IdleFloor(floor.hardware, 0, END_MS, floor.idle_mw, version, floor.source)])


class ReplayedSpan:
    """The windows of a recording, and the clusters of its rows."""

    def __init__(self, recording: Recording, sent: FeedProgress, window_ms: int) -> None:
        start_ms = recording.start_ms // window_ms * window_ms
        end_ms = -(-recording.end_ms // window_ms) * window_ms + window_ms
        self.period = Period(EpochMs(start_ms), EpochMs(end_ms))
        self.clusters = sorted({cluster for cluster, _ in sent.subjects}) or [recording.cluster]


def _summary(
    warehouse: Warehouse, recording: Recording, sent: FeedProgress, span: ReplayedSpan, held: Holdings, rejected: int
) -> dict[str, Any] | None:
    """Return sums over all windows of the workload that ran in the measured window; None if they are not `held`."""
    period, clusters = span.period, span.clusters
    subjects = sorted({workload for _, workload in sent.subjects})

    def totals(workloads: list[str]) -> dict[str, Any]:
        (row,) = warehouse.ask(
            "ledger/workload_totals", workloads=workloads, clusters=clusters,
            start_ms=period.start, end_ms=period.end,
        )  # fmt: skip
        return row

    row = totals([recording.workload] if recording.workload else subjects)
    edges_uj = totals([recording.edges])["energy_uj"] if recording.edges else 0
    if totals(subjects)["energy_uj"] > held.charged_uj:
        return None
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    metered = bool(tokens and row["unmetered_tokens"] < tokens)
    report = audit(operator_reader(warehouse), period)
    return {
        "requests": row["requests"],
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "unmetered_tokens": row["unmetered_tokens"],
        "energy_uj": row["energy_uj"],
        "window_start": rfc3339(recording.window[0]),
        "window_end": rfc3339(recording.window[1]),
        "joules_per_token": (row["energy_uj"] + edges_uj) / 1e6 / tokens if metered else None,
        "residual_uj": report.residual_uj,
        "dead_letters": len(sent.bad_rows) + rejected,
        "edges_uj": edges_uj,
        "cached_tokens": row["cached_tokens"],
        "active_uj": row["active_uj"],
        "idle_uj": row["idle_uj"],
        "unallocated_uj": row["unallocated_uj"],
        "cluster": recording.cluster,
        "workload": recording.workload,
        "simulated": recording.simulated,
        "sequence_gaps": report.sequence_gaps,
        "ledger_sha256": fingerprint(warehouse, period, clusters),
        "references": recording.references,
        "notes": list(recording.notes),
        "bad_rows": [str(bad) for bad in sent.bad_rows[:MAX_BAD_ROWS]],
    }
