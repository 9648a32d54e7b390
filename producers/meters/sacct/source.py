"""Polled source of the energy of Slurm's jobs: a row of `wattlog.usage.v1` for each run that has ended.

Each read looks back over some hours, because jobs may reach the accounting late. The checkpoint has the identities of
what was sent or reported in that time, so that each is sent once. Were it lost, runs would be sent again under their
own `event_id`, and count once all the same.

A run that shared a node is left out: Slurm counts the whole node for every job on it, so the rows would sum to more
than the nodes used, and no part of them is measured. So is one of which that is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TypeVar

import msgspec

from contracts import checks, topics
from contracts.errors import BadInput, Unavailable
from contracts.meter_names import JOB_METER, NODE_LIST
from contracts.units import UJ_PER_J
from producers.api import PollResult, WorkloadBatch
from producers.meters.observations import MAX_ROWS
from producers.meters.sacct.job_records import JobRun, energy_fault, join_steps, parse_line
from producers.meters.sacct.neighbours import Neighbours
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.refusals import refusal

Result = TypeVar("Result")
METER, UNIT = JOB_METER, "uJ"
MAX_LINES = 400_000
MAX_REMEMBERED = 1_000_000
"""Runs, and reports, that a checkpoint remembers."""
SETTLE_S = 300
"""Time for which a run that ended is left alone: its last step, which has the energy, ends after it."""
SHARED, UNKNOWN_NEIGHBOURS, NO_ENERGY = "shared", "neighbours", "energy"
"""Reasons for which a run does not count: labels of a metric."""
_REASONS = {
    SHARED: "shared a node, and Slurm counts the whole node for each job on it",
    UNKNOWN_NEIGHBOURS: "may have shared a node: they began before the accounting that is read (look_back_h), or the "
    "nodes of some job are not known",
    NO_ENERGY: "have no energy in the accounting: it is unknown, not 0",
}


class SacctCheckpoint(msgspec.Struct, frozen=True):
    """Runs that were sent, and runs and lines that were reported: by the hash of an identity, when it was read last."""

    sent: dict[int, int] = {}
    reported: dict[int, int] = {}


class _Poll:
    """Outcome of one read, up to here. What was sent or reported before is not again."""

    def __init__(self, before: SacctCheckpoint, now_s: int) -> None:
        self._before, self._now_s = before, now_s
        self._sent: dict[int, int] = {}
        self._reported: dict[int, int] = {}
        self.refused: list[str] = []
        self.skipped: dict[str, list[str]] = {}
        """Jobs that do not count, by reason."""

    def was_sent(self, run: JobRun) -> bool:
        digest = _digest(run.event_id)
        if digest in self._before.sent:
            self._sent[digest] = self._now_s
        return digest in self._before.sent

    def send(self, run: JobRun) -> None:
        self._sent[_digest(run.event_id)] = self._now_s

    def attempt(self, place: str, identity: str, read: Callable[[], Result]) -> Result | None:
        """Return the result of `read`, or refuse what has this identity."""
        try:
            return read()
        except Exception as error:
            if self._is_new(identity):
                self.refused.append(refusal(error, place))
            return None

    def skip(self, run: JobRun, reason: str) -> None:
        """Note that a run does not count."""
        if self._is_new(run.event_id):
            self.skipped.setdefault(reason, []).append(run.job)

    def _is_new(self, identity: str) -> bool:
        digest = _digest(identity)
        is_new = digest not in self._before.reported and digest not in self._reported
        self._reported[digest] = self._now_s
        return is_new

    def checkpoint(self, since_s: int) -> SacctCheckpoint:
        """Return what to remember: all that was read since then, as an answer may lack what the next one has."""
        return SacctCheckpoint(
            _newest(self._before.sent | self._sent, since_s), _newest(self._before.reported | self._reported, since_s)
        )


def _newest(read_s: Mapping[int, int], since_s: int) -> dict[int, int]:
    newest = {digest: s for digest, s in read_s.items() if s >= since_s}
    if len(newest) > MAX_REMEMBERED:
        newest = dict(sorted(newest.items(), key=lambda item: item[1])[-MAX_REMEMBERED:])
    return newest


@dataclass(frozen=True)
class SacctSource:
    """Energy of the jobs of a Slurm cluster.

    `read` returns the output of `sacct` for the runs that ended after a time in epoch seconds; of a saved output
    (`is_saved`) it does not say from when on that is complete. `exclusive` are partitions whose jobs have their nodes
    to themselves. `tenant_of` says who pays.
    """

    name: str
    cluster: str
    read: Callable[[int], bytes]
    tenant_of: Callable[[JobRun], str]
    exclusive: Set[str] = frozenset()
    is_saved: bool = False
    every_ms: int = 600_000
    look_back_s: int = 172_800
    max_node_w: float = 20_000.0

    kind = "sacct"

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Return the runs that ended and were not sent yet. Raises what `read` raises."""
        now_s = clock.wall_ms() // 1000
        since_s = max(now_s - self.look_back_s, 0)
        before = msgspec.msgpack.decode(checkpoint, type=SacctCheckpoint) if checkpoint else SacctCheckpoint()
        poll = _Poll(before, now_s)
        runs = self._runs(since_s, poll)
        ended = {run.event_id: run for run in runs if run.has_ended(now_s - SETTLE_S)}
        # A saved output shows no run that ended before its first one.
        whole_s = min((run.end_s or 0 for run in ended.values()), default=now_s) if self.is_saved else since_s
        neighbours = Neighbours(runs, whole_s)
        rows: dict[str, list[UsageRow]] = {}
        for event_id, run in ended.items():
            if poll.was_sent(run):
                continue
            if reason := self._reason_to_skip(run, neighbours):
                poll.skip(run, reason)
            elif row := poll.attempt(f"job {run.job}", event_id, partial(self._row, run)):
                rows.setdefault(f"slurm/{run.partition}", []).append(row)
                poll.send(run)
        return PollResult(
            list(self._batches(rows)), msgspec.msgpack.encode(poll.checkpoint(since_s)), refused=poll.refused,
            notes=list(_notes(poll.skipped)), skipped={reason: len(jobs) for reason, jobs in poll.skipped.items()},
        )  # fmt: skip

    def _runs(self, since_s: int, poll: _Poll) -> list[JobRun]:
        """Return the runs of a read. A line that cannot be read is refused alone."""
        lines = self.read(since_s).decode("utf-8", "replace").split("\n")
        if len(lines) > MAX_LINES:
            raise Unavailable(f"sacct prints more than {MAX_LINES:,} lines", "Give a smaller look_back_h.")
        parsed = (poll.attempt(f"line {n}", line, partial(parse_line, line)) for n, line in enumerate(lines, 1) if line)
        return list(join_steps(line for line in parsed if line))

    def _reason_to_skip(self, run: JobRun, neighbours: Neighbours) -> str:
        """Return why a run does not count, or ""."""
        if run.energy_j is None:
            return NO_ENERGY
        if run.partition in self.exclusive:
            return ""
        shared = neighbours.shared(run)
        return UNKNOWN_NEIGHBOURS if shared is None else SHARED if shared else ""

    def _row(self, run: JobRun) -> UsageRow:
        """Return the row of a run. Raises BadInput where its energy is not believed, or the log refuses its names."""
        assert run.energy_j is not None and run.start_s is not None and run.end_s is not None
        if fault := energy_fault(run, self.max_node_w):
            raise BadInput("ConsumedEnergyRaw", run.energy_j, fault)
        tenant = self.tenant_of(run)
        dimensions = {
            "job": run.job, "user": run.user, "partition": run.partition, "nodes": str(run.node_count),
            "state": run.state,
        } | ({NODE_LIST: run.nodes} if len(run.nodes) <= checks.MAX_TEXT else {})  # fmt: skip
        topics.check_name("workload", f"slurm/{run.partition}")
        checks.payers("tenant", (tenant,))
        checks.dimensions("dimensions", (dimensions,))
        checks.text("event_id", (run.event_id,), empty=False)
        # However long a run was, it is one row: Slurm does not say when in it the energy was used.
        return UsageRow(
            meter=METER, unit=UNIT, quantity=str(run.energy_j * UJ_PER_J), t0_ms=1000 * run.start_s,
            t1_ms=1000 * run.end_s, tenant=tenant, origin=f"sacct://{run.cluster}", event_id=run.event_id,
            dimensions=dimensions,
        )  # fmt: skip

    def _batches(self, rows_by_workload: dict[str, list[UsageRow]]) -> Iterator[WorkloadBatch]:
        for workload, rows in sorted(rows_by_workload.items()):
            for start in range(0, len(rows), MAX_ROWS):
                yield WorkloadBatch(self.cluster, workload, usage_batch(rows[start : start + MAX_ROWS], 0), self.name)


def _digest(identity: str) -> int:
    return int.from_bytes(blake2b(identity.encode("utf-8", "replace"), digest_size=8).digest())


def _notes(skipped: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for reason, jobs in sorted(skipped.items()):
        some = ", ".join(jobs[:5]) + (" ..." if len(jobs) > 5 else "")
        yield f"{len(jobs):,} jobs {_REASONS[reason]}; they are left out: {some}"
