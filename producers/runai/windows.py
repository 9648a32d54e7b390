"""Which windows are due, and what is still to be read of earlier ones: the mark that is kept on disk. Pure.

A window is done when each workload of it was read or is kept under `failed`, so the mark can go on without losing any.
What failed is read again in later looks, ever more seldom, until it is older than `give_up_ms`: then it is told. What
Run:ai has said thrice that it does not have is given up before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from contracts.errors import BadInput
from producers.runai.meters import Resource
from producers.runai.schedule import WindowSchedule

MAX_FAILED = 2_000
"""Workloads' windows that are kept to be read again. A window that would add more is not begun: something is wrong
with more than single workloads."""
MAX_RETRIES = 200
"""Of these, how many are read again in one step."""
OF_ITS_OWN = frozenset({"status_404", "partial"})
"""Reasons that say something of one workload, not of Run:ai: it is gone, or some of it is not there."""
MAX_OWN_TRIES = 3
"""How often Run:ai may say so. Workloads are deleted by the thousand; to keep each for a day would leave no room."""
RETRY_MS, MAX_RETRY_MS = 60_000, 3_600_000
"""How long after the first failure one is read again; twice as long after each other, up to an hour."""
MAX_SAMPLES = 1_000
"""Of one call, says the API."""
RESOLUTION_MS = 15_000
"""How often Run:ai's metrics are scraped, unless its Prometheus is told otherwise."""


class RunAiWindow(NamedTuple):
    """`[t0_ms, t1_ms)`."""

    t0_ms: int
    t1_ms: int

    def samples(self, told: int) -> int:
        """How many to ask for: as told, or (0) one for each scrape."""
        return told or max(1, min(MAX_SAMPLES, (self.t1_ms - self.t0_ms) // RESOLUTION_MS))


class ReadUnit(msgspec.Struct, frozen=True):
    """What is read at once: some metrics of a workload or a pod in one window.

    `about` is what its rows say beside: project, department, type, phase, pod, node. It is kept, for a workload that is
    read again later may be gone from the list.
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
    def named(self) -> str:
        """For people."""
        pod = f", pod {self.about.get('pod', '')} ({self.pod_id})" if self.pod_id else ""
        return f"workload {self.workload!r} ({self.workload_id}{pod}) of {self.cluster}"


class RunAiCheckpoint(msgspec.Struct, frozen=True):
    """Windows that ended by `read_ms` are done, but for `failed`. `tag` 1 is this form."""

    read_ms: int
    failed: tuple[ReadUnit, ...] = ()
    tag: int = 1


def encoded(mark: RunAiCheckpoint) -> bytes:
    return msgspec.msgpack.encode(mark)


def decoded(data: bytes) -> RunAiCheckpoint:
    """Raises BadInput for a mark of another form."""
    try:
        mark = msgspec.msgpack.decode(data, type=RunAiCheckpoint)
    except msgspec.DecodeError as error:
        raise BadInput("mark", str(error), "it was written by another version: use that one") from None
    if mark.tag != 1:
        raise BadInput("mark", mark.tag, "it was written by a later version: use that one")
    return mark


def first(schedule: WindowSchedule, now_ms: int, offset_ms: int) -> RunAiCheckpoint:
    """Where a source that was never read begins: at the last boundary, so that its first window is a whole one."""
    return RunAiCheckpoint(schedule.latest(now_ms - offset_ms))


def due(mark: RunAiCheckpoint, schedule: WindowSchedule, now_ms: int, offset_ms: int) -> RunAiWindow | None:
    """The oldest window that is complete, `offset_ms` ago, and not done."""
    end_ms = schedule.following(mark.read_ms)
    return RunAiWindow(mark.read_ms, end_ms) if end_ms <= now_ms - offset_ms else None


def forget(
    mark: RunAiCheckpoint, schedule: WindowSchedule, now_ms: int, give_up_ms: int
) -> tuple[RunAiCheckpoint, RunAiWindow | None]:
    """The mark without windows that ended longer than `give_up_ms` ago, and the time that is left out with them."""
    end_ms = schedule.latest(now_ms - give_up_ms)
    if end_ms <= mark.read_ms:
        return mark, None
    return RunAiCheckpoint(end_ms, mark.failed), RunAiWindow(mark.read_ms, end_ms)


def given_up(failed: Sequence[ReadUnit], now_ms: int, give_up_ms: int) -> list[ReadUnit]:
    """What is too old to be read again, or was said to be gone often enough."""
    return [
        unit for unit in failed
        if now_ms - unit.t1_ms >= give_up_ms or (unit.reason in OF_ITS_OWN and unit.tries >= MAX_OWN_TRIES)
    ]  # fmt: skip


def made_room(failed: Sequence[ReadUnit]) -> tuple[tuple[ReadUnit, ...], list[ReadUnit]]:
    """`MAX_FAILED` of what failed, if that can be had by giving up what Run:ai says it does not have, oldest first;
    and what is given up so. Else all of it: there is no room."""
    over = len(failed) - MAX_FAILED
    own = sorted((u for u in failed if u.reason in OF_ITS_OWN), key=lambda u: u.t1_ms)
    if over <= 0 or len(own) < over:
        return tuple(failed), []
    return without(failed, own[:over]), own[:over]


def without(failed: Iterable[ReadUnit], some: Iterable[ReadUnit]) -> tuple[ReadUnit, ...]:
    """The others of them: the very objects are meant."""
    left_out = {id(unit) for unit in some}
    return tuple(unit for unit in failed if id(unit) not in left_out)


def to_retry(failed: Iterable[ReadUnit], now_ms: int) -> list[ReadUnit]:
    """What is to be read again now, oldest first."""
    return sorted((u for u in failed if u.next_ms <= now_ms), key=lambda u: u.t1_ms)[:MAX_RETRIES]


def failed_again(unit: ReadUnit, metrics: Sequence[str], why: str, reason: str, now_ms: int) -> ReadUnit:
    """A unit of which these metrics could not be read, with the time to read them again."""
    wait_ms = min(RETRY_MS << min(unit.tries, 16), MAX_RETRY_MS)
    return msgspec.structs.replace(
        unit, metrics=tuple(metrics), tries=unit.tries + 1, next_ms=now_ms + wait_ms, why=why[:200], reason=reason
    )


def part(unit: ReadUnit, metrics: Sequence[str]) -> ReadUnit:
    """Some of a unit's metrics."""
    return msgspec.structs.replace(unit, metrics=tuple(metrics))
