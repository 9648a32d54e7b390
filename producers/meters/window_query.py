"""A question that is asked for each window of time, as a source of a collector; and what its answers' rows are called.

The answers of one window and the mark behind it are kept together, so each window is told once, whatever fails. A row
is known by its window and everything else that it says but the quantity: whoever asks the same window again, by an
emptied spool or from a second producer, says the same row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from contracts import checks, topics
from contracts.errors import BadInput
from producers.meters.observed import MAX_ROWS
from producers.meters.windows import MeterSchedule, MeterWindow
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.poll_loop import Collected, Made

MAX_QUERY_ROWS = 50_000
"""Rows in one window's answer."""


class QueryRow(NamedTuple):
    """One row of an answer: where it belongs and what was metered. `values` are what it is known by."""

    cluster: str
    workload: str
    row: UsageRow


class WindowQuery:
    """See the module. `ask` gives a window's answers, refusing single rows by BadInput; it raises a WattlogError where
    the whole window cannot be answered now."""

    def __init__(
        self, kind: str, name: str, schedule: MeterSchedule,
        ask: Callable[[MeterWindow], Iterable[QueryRow | BadInput]],
    ) -> None:  # fmt: skip
        self.kind, self.name, self._schedule, self._ask = kind, name, schedule, ask
        self.every_ms = min(schedule.every_ms, 10_000)
        self._empty = False

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """One window at a time, so that what was answered is kept before the next is asked for.

        Raises BadInput for more answers than a window may have."""
        done_ms = msgspec.msgpack.decode(mark, type=int) if mark else None
        windows, more = self._schedule._replace(most=1).due(done_ms, clock.wall_ms())
        if not windows:
            assert mark is not None  # The first time there always is one.
            return Collected([], mark)
        window = windows[0]
        found: dict[tuple[str, str], list[UsageRow]] = {}
        refused: list[str] = []
        for n, query_row in enumerate(self._ask(window)):
            if n >= MAX_QUERY_ROWS:
                raise BadInput(self.name, f"more than {MAX_QUERY_ROWS:,} rows", "ask for sums of fewer groups")
            if isinstance(query_row, BadInput):
                refused.append(f"{self.name}: {query_row}")
            else:
                found.setdefault((query_row.cluster, query_row.workload), []).append(query_row.row)
        made = [
            Made(cluster, workload, usage_batch(rows[start : start + MAX_ROWS], window.t1_ms), self.name)
            for (cluster, workload), rows in sorted(found.items())
            for start in range(0, len(rows), MAX_ROWS)
        ]
        return Collected(made, msgspec.msgpack.encode(window.t1_ms), more, refused, self._notes(bool(made)))

    def _notes(self, answered: bool) -> list[str]:
        """That nothing is answered, and that something is again, once each."""
        if answered != self._empty:
            return []
        self._empty = not answered
        return ["answers rows again" if answered else "answers no row: does it name what is there?"]


def query_row(
    values: Mapping[str, str], quantity: str, *, meter: str, unit: str, window: MeterWindow, origin: str,
    cluster: str, workload: str, tenant: str, columns: Mapping[str, str],
) -> QueryRow | BadInput:  # fmt: skip
    """A row of which `values` are known by name: those that `columns` maps (`cluster`, `workload`, `tenant`,
    `session_id`, `trace_id`, `step` to a name) say that, all others are dimensions. What a row does not say is as
    given.
    """
    said = {field: values.get(name, "") for field, name in columns.items() if name}
    dimensions = {n: v for n, v in sorted(values.items()) if n not in columns.values() and v}
    cluster, workload = said.get("cluster") or cluster, said.get("workload") or workload
    tenant = said.get("tenant") or tenant
    try:
        topics.check_name("cluster", cluster)
        topics.check_name("workload", workload)
        checks.payers("tenant", (tenant,))
        checks.dimensions("dimensions", (dimensions,))
        if not checks.is_decimal(quantity):
            raise BadInput("quantity", quantity, "give a plain number")
    except BadInput as error:
        return error
    known_by = _digest(
        [meter, str(window.t0_ms), str(window.t1_ms), cluster, workload, *map(str, sorted(values.items()))]
    )
    row = UsageRow(
        meter, unit, quantity, window.t0_ms, window.t1_ms, tenant, origin, known_by, said.get("session_id", ""),
        said.get("trace_id", ""), said.get("step", ""), dimensions,
    )  # fmt: skip
    return QueryRow(cluster, workload, row)


def _digest(parts: Sequence[str]) -> str:
    """Of texts as they are told apart, whatever they hold."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]
