"""Stages: a recording is stored in a database beside the ledger's before it takes the place of other rows.

`create_stage` makes it, a worker fills it, and `promote` moves it into the ledger. The new rows come first, and win
over those of the same keys. Then what other logs have in the same windows is deleted, then hours and days are computed.
Every step may be repeated. A run that ends before `mark_ready` leaves the ledger as it was; after it, `finish_stages`
completes the move. Never part of the stream job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from contracts.rows import KEYS
from warehouse.client import Warehouse
from warehouse.sink.owed_hours import compute_owed_hours
from warehouse.sink.sink import Sink

_REFERENCE_TABLES = ("idle_floors", "work_weights", "clusters")
"""Tables that attribution reads."""
_READY = "ready"
"""The table whose existence says that a stage is complete."""
_NAME_CHARACTERS = 40
"""Characters of the ledger's database in a stage's name: names have at most 63."""


def create_stage(ledger: Warehouse, cluster: str) -> Warehouse:
    """Create the empty stage of a recording into a cluster, and open it. One that an earlier run left is finished."""
    name = _prefix(ledger) + hashlib.sha256(cluster.encode()).hexdigest()[:12]
    if name in _stages(ledger):
        _finish(ledger, name)
    ledger.command(f"CREATE DATABASE `{name}`")
    for table in ledger.ask("sink/durable_tables"):
        ledger.command(f"CREATE TABLE `{name}`.`{table['name']}` AS `{table['name']}`")
    for reference in _REFERENCE_TABLES:
        _copy(ledger, f"`{name}`.{reference}", reference)
    (top,) = ledger.ask("sink/claim_top")
    stage = ledger.beside(name)
    stage.execute("sink/claim_put", log_id="ledger", log_partitions=[0], epoch=int(top["epoch"]), owner="ledger")
    return stage


def mark_ready(stage: Warehouse) -> None:
    """Mark a stage as complete. Its worker has ended; from now on it will be promoted, by this run or the next."""
    compute_owed_hours(stage)
    stage.command(f"CREATE TABLE IF NOT EXISTS `{_READY}` (at DateTime) ENGINE = MergeTree ORDER BY at")


def promote(ledger: Warehouse, name: str) -> None:
    """Move the rows of the stage with this name into the ledger, delete what they replace, and drop the stage."""
    for table in (*KEYS, "sources", "marks"):
        _copy(ledger, table, f"`{name}`.{table}")
    fragments = {"stage": f"`{name}`"}
    (span,) = ledger.ask("ledger/stage_span", fragments=fragments)
    if span["rows"]:
        for table in KEYS:
            ledger.execute(
                "ledger/replace_rows", fragments={**fragments, "table": table},
                window_ms=span["window_ms"], start_ms=span["start_ms"], end_ms=span["end_ms"],
            )  # fmt: skip
        rows = ledger.ask("ledger/replaced_workloads", fragments=fragments)
        clusters, workloads = ({row[part] for row in rows} for part in ("cluster", "workload"))
        Sink(ledger).refresh_hours(span["hours"], sorted(clusters), sorted(workloads))
    drop_stage(ledger, name)


def drop_stage(ledger: Warehouse, name: str) -> None:
    """Drop a stage that was promoted, or is not to be. A cut leaves one that is not ready."""
    ledger.command(f"DROP TABLE IF EXISTS `{name}`.`{_READY}`")
    ledger.command(f"DROP DATABASE IF EXISTS `{name}`")


def finish_stages(ledger: Warehouse) -> int:
    """Promote the complete stages that earlier runs left, and drop the others. Returns how many were promoted.

    Only for an embedded warehouse, which no other process has open.
    """
    return sum(_finish(ledger, name) for name in _stages(ledger))


def _finish(ledger: Warehouse, name: str) -> bool:
    ready = bool(ledger.ask("ledger/stage_ready", database=name, table=_READY))
    if ready:
        promote(ledger, name)
    else:
        drop_stage(ledger, name)
    return ready


def _copy(ledger: Warehouse, target: str, source: str) -> None:
    ledger.execute("ledger/copy_table", fragments={"target": target, "source": source})


def _prefix(ledger: Warehouse) -> str:
    return f"{ledger.database[:_NAME_CHARACTERS]}_replay_"


def _stages(ledger: Warehouse) -> Sequence[str]:
    return [row["name"] for row in ledger.ask("ledger/stages", prefix=_prefix(ledger))]
