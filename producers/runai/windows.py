"""The windows that are due, and what must be read again of earlier ones: the checkpoint on disk. Pure.

A window is done when each of its workloads was read or is kept under `failed`, so the checkpoint can move on
without losing any. Failed units are read again in later steps, ever more seldom, until they are older than
`give_up_ms`. Then they are given up, and the log says so. A unit is given up earlier if Run:ai says three times
that it does not have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from contracts.errors import BadInput
from producers.runai.meters import Resource
from producers.runai.schedule import WindowSchedule

MAX_FAILED = 2_000
"""Units that are kept to be read again. A window that would add more is not begun: the fault is not in single
workloads.
"""
MAX_RETRIES = 200
"""Units that are read again in one step."""
UNIT_REASONS = frozenset({"status_404", "partial"})
"""Reasons that concern one workload, not Run:ai: it is gone, or a part of it is missing."""
MAX_UNIT_TRIES = 3
"""Tries after which such a unit is given up. Workloads are deleted by the thousand, and there is no room to keep each
for a day.
"""
RETRY_MS, MAX_RETRY_MS = 60_000, 3_600_000
"""Time to the first retry. It doubles with each further one, up to an hour."""
MAX_SAMPLES = 1_000
"""Samples of one call, by the API's reference."""
RESOLUTION_MS = 15_000
"""Interval at which Run:ai's metrics are scraped, unless its Prometheus is configured otherwise."""


class RunAiWindow(NamedTuple):
    """`[t0_ms, t1_ms)`."""

    t0_ms: int
    t1_ms: int

    def samples(self, configured: int) -> int:
        """Return the number of samples to request: the configured one, or (0) one for each scrape."""
        return configured or max(1, min(MAX_SAMPLES, (self.t1_ms - self.t0_ms) // RESOLUTION_MS))


class ReadUnit(msgspec.Struct, frozen=True):
    """Metrics of a workload or pod in one window, which are read at once.

    `about` are further dimensions of its rows: project, department, type, phase, pod, node. They are stored,
    because a workload that is read again later may have gone from the list.
    """

    t0_ms: int
    t1_ms: int
    resource: Resource
    cluster_id: str
    cluster: str
    workload_id: str
    workload: str
    metrics: tuple[str, ...]
    pod_id: str = ""
    about: dict[str, str] = {}
    tries: int = 0
    next_ms: int = 0
    why: str = ""
    reason: str = ""

    @property
    def window(self) -> RunAiWindow:
        return RunAiWindow(self.t0_ms, self.t1_ms)

    @property
    def title(self) -> str:
        """Describe the unit for people."""
        pod = f", pod {self.about.get('pod', '')} ({self.pod_id})" if self.pod_id else ""
        return f"workload {self.workload!r} ({self.workload_id}{pod}) of {self.cluster}"


class RunAiCheckpoint(msgspec.Struct, frozen=True):
    """All windows that ended by `read_ms` are done, except `failed`. `tag` 1 identifies this form."""

    read_ms: int
    failed: tuple[ReadUnit, ...] = ()
    tag: int = 1


def encode_checkpoint(checkpoint: RunAiCheckpoint) -> bytes:
    return msgspec.msgpack.encode(checkpoint)


def decode_checkpoint(data: bytes) -> RunAiCheckpoint:
    """Decode a checkpoint. Raises BadInput for one of another form."""
    try:
        checkpoint = msgspec.msgpack.decode(data, type=RunAiCheckpoint)
    except msgspec.DecodeError as error:
        raise BadInput("checkpoint", str(error), "it was written by another version: use that one") from None
    if checkpoint.tag != 1:
        raise BadInput("checkpoint", checkpoint.tag, "it was written by a later version: use that one")
    return checkpoint


def first_checkpoint(schedule: WindowSchedule, now_ms: int, offset_ms: int) -> RunAiCheckpoint:
    """Return the checkpoint of a source that was never read: the last boundary, so its first window is complete."""
    return RunAiCheckpoint(schedule.latest(now_ms - offset_ms))


def due_window(
    checkpoint: RunAiCheckpoint, schedule: WindowSchedule, now_ms: int, offset_ms: int
) -> RunAiWindow | None:
    """Return the oldest window that ended at least `offset_ms` ago and is not done, or None."""
    end_ms = schedule.following(checkpoint.read_ms)
    return RunAiWindow(checkpoint.read_ms, end_ms) if end_ms <= now_ms - offset_ms else None


def skip_too_old(
    checkpoint: RunAiCheckpoint, schedule: WindowSchedule, now_ms: int, give_up_ms: int
) -> tuple[RunAiCheckpoint, RunAiWindow | None]:
    """Return the checkpoint without windows that ended longer than `give_up_ms` ago, and the time that is skipped."""
    end_ms = schedule.latest(now_ms - give_up_ms)
    if end_ms <= checkpoint.read_ms:
        return checkpoint, None
    return RunAiCheckpoint(end_ms, checkpoint.failed), RunAiWindow(checkpoint.read_ms, end_ms)


def expired_units(failed: Sequence[ReadUnit], now_ms: int, give_up_ms: int) -> list[ReadUnit]:
    """Return the units that are too old to be read again, or that Run:ai did not have often enough."""
    return [
        unit for unit in failed
        if now_ms - unit.t1_ms >= give_up_ms or (unit.reason in UNIT_REASONS and unit.tries >= MAX_UNIT_TRIES)
    ]  # fmt: skip


def make_room(failed: Sequence[ReadUnit]) -> tuple[tuple[ReadUnit, ...], list[ReadUnit]]:
    """Return at most `MAX_FAILED` units to keep, and those that are given up for that.

    Only units that Run:ai does not have are given up, the oldest first. If that is not enough, all units are
    returned to keep: there is no room.
    """
    over = len(failed) - MAX_FAILED
    own = sorted((u for u in failed if u.reason in UNIT_REASONS), key=lambda u: u.t1_ms)
    if over <= 0 or len(own) < over:
        return tuple(failed), []
    return without_units(failed, own[:over]), own[:over]


def without_units(failed: Iterable[ReadUnit], some: Iterable[ReadUnit]) -> tuple[ReadUnit, ...]:
    """Return the units other than `some`, compared by identity."""
    left_out = {id(unit) for unit in some}
    return tuple(unit for unit in failed if id(unit) not in left_out)


def due_retries(failed: Iterable[ReadUnit], now_ms: int) -> list[ReadUnit]:
    """Return the units to read again now, oldest first."""
    return sorted((u for u in failed if u.next_ms <= now_ms), key=lambda u: u.t1_ms)[:MAX_RETRIES]


def retry_later(unit: ReadUnit, metrics: Sequence[str], why: str, reason: str, now_ms: int) -> ReadUnit:
    """Return a unit with the metrics that could not be read, and the time of its next try."""
    wait_ms = min(RETRY_MS << min(unit.tries, 16), MAX_RETRY_MS)
    return msgspec.structs.replace(
        unit, metrics=tuple(metrics), tries=unit.tries + 1, next_ms=now_ms + wait_ms, why=why[:200], reason=reason
    )


def with_metrics(unit: ReadUnit, metrics: Sequence[str]) -> ReadUnit:
    """Return a unit with some of its metrics."""
    return msgspec.structs.replace(unit, metrics=tuple(metrics))
