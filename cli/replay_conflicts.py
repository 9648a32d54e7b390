"""Checks, before a replay, whom it would replace: another recording, or measured rows by simulated ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contracts.errors import BadInput
from contracts.events import Event, PowerBatch, TokenBatch
from contracts.units import rfc3339
from producers.recordings.base import BadRow, Recording
from warehouse.client import Warehouse
from warehouse.reference_data.clusters import list_clusters

_SOURCE_PARTS = 3
"""Parts at the end of a recording's source, `replay://NAME/CLUSTER/WORKLOAD/TOPIC`, that are not its name."""

Windows = set[tuple[str, int]]
"""Windows by cluster and number: start divided by length."""


def check_replaceable(warehouse: Warehouse, recording: Recording, window_ms: int, *, replace: bool) -> None:
    """Raise BadInput if the recording would replace another one's rows without `replace`, or mix kinds of energy."""
    _check_kind(warehouse, recording, window_ms)
    if replace:
        return
    span: dict[str, Any] = {
        "start_ms": recording.start_ms // window_ms * window_ms,
        "end_ms": recording.end_ms + window_ms,
    }
    own, logs = "", {row["log_id"]: row["sources"] for row in warehouse.ask("ledger/filling_logs", **span)}
    if logs:
        own = next((_name(item.source) for item in recording.events() if isinstance(item, Event)), "")
    others = {
        log_id: names for log_id, sources in logs.items() if (names := {_name(source) for source in sources}) != {own}
    }
    if not others:
        return
    windows = _windows(recording.events(), window_ms)
    filled = [
        row for row in warehouse.ask("ledger/filled_windows", log_ids=sorted(others), **span)
        if any((row["cluster"], n) in windows for n in _numbers(row["start_ms"], row["window_ms"], window_ms))
    ]  # fmt: skip
    if filled:
        first, last = filled[0], max(filled, key=lambda row: row["start_ms"])
        recordings = ", ".join(sorted(others[first["log_id"]])[:3]) or f"log {first['log_id']}"
        raise BadInput(
            "cluster", first["cluster"],
            f"{len(filled)} of its windows, from {rfc3339(first['start_ms'])} to "
            f"{rfc3339(last['start_ms'] + last['window_ms'])}, are filled by another recording ({recordings}): "
            "replay into another --cluster, or replace them with --replace",
        )  # fmt: skip


def _check_kind(warehouse: Warehouse, recording: Recording, window_ms: int) -> None:
    """Raise BadInput if the cluster would hold both simulated and measured energy: answers mark whole clusters."""
    known = {cluster.cluster: cluster.simulated for cluster in list_clusters(warehouse)}
    if known.get(recording.cluster, recording.simulated) == recording.simulated:
        return
    start_ms, end_ms = recording.start_ms // window_ms * window_ms, recording.end_ms + window_ms
    if warehouse.ask("ledger/cluster_has_rows", cluster=recording.cluster, start_ms=start_ms, end_ms=end_ms):
        kinds = ("SIMULATED", "measured") if recording.simulated else ("measured", "SIMULATED")
        raise BadInput(
            "cluster", recording.cluster,
            f"this recording's energy is {kinds[0]}, and that of the cluster's other windows is {kinds[1]}: "
            "replay into another --cluster",
        )  # fmt: skip


def _windows(events: Iterable[Event | BadRow], window_ms: int) -> Windows:
    """Return the windows that rows of the events touch."""
    windows: Windows = set()
    for event in events:
        if isinstance(event, BadRow):
            continue
        batch = event.batch
        if isinstance(batch, PowerBatch):
            spans = zip(batch.t0_ms.tolist(), batch.t1_ms.tolist(), strict=True)
        elif isinstance(batch, TokenBatch):
            spans = zip(batch.t_start_ms.tolist(), batch.t_end_ms.tolist(), strict=True)
        else:
            continue
        windows.update((event.cluster, n) for t0, t1 in spans for n in _numbers(t0, max(t1 - t0, 1), window_ms))
    return windows


def _numbers(start_ms: int, length_ms: int, window_ms: int) -> range:
    """Return the numbers of the windows of `window_ms` that a stretch of time touches."""
    return range(start_ms // window_ms, (start_ms + length_ms - 1) // window_ms + 1)


def _name(source: str) -> str:
    """Return the recording that a source belongs to; of other sources, the source itself."""
    if source.startswith("replay://"):
        return source.removeprefix("replay://").rsplit("/", _SOURCE_PARTS)[0]
    return source
