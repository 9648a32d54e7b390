"""A polled source that runs one query for each window of time, and the rows of its results.

The rows of a window and the checkpoint behind it are stored together, so each window is metered once, whatever
fails. The id of a row is made of its window and everything else but its quantity. So a second query of the same
window, after a lost spool or by a second producer, yields the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from contracts import checks, topics
from contracts.errors import BadInput, BadSetting
from producers.api import PollResult, WorkloadBatch
from producers.meters.observations import MAX_ROWS
from producers.meters.query_config import QueryConfig
from producers.meters.windows import MeterSchedule, MeterWindow
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock

MAX_QUERY_ROWS = 50_000
"""Rows in the result of one window."""


class QueryRow(NamedTuple):
    """One row of a result, with its cluster and workload."""

    cluster: str
    workload: str
    row: UsageRow


class RowTemplate(NamedTuple):
    """Fields that all rows of a query share.

    `cluster`, `workload` and `tenant` are used where a row names none. `columns` maps `cluster`, `workload`, `tenant`,
    `session_id`, `trace_id` and `step` to the names of the columns or labels that hold them. All others are dimensions.
    """

    meter: str
    unit: str
    origin: str
    cluster: str
    workload: str
    tenant: str
    columns: Mapping[str, str]


class WindowQuery:
    """Meters the rows that `ask` returns for each window.

    `ask` adds single rows that it refuses to the list that it gets. It raises if the window cannot be queried now.
    """

    def __init__(
        self, kind: str, name: str, schedule: MeterSchedule,
        ask: Callable[[MeterWindow, list[str]], Iterable[QueryRow]],
    ) -> None:  # fmt: skip
        self.kind, self.name, self._schedule, self._ask = kind, name, schedule, ask
        self.every_ms = min(schedule.every_ms, 10_000)
        self._empty = False

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Meter one window, so that its rows are stored before the next one is queried.

        Raises BadInput for more rows than a window may have.
        """
        last_ms = msgspec.msgpack.decode(checkpoint, type=int) if checkpoint else None
        windows, more = self._schedule.due(last_ms, clock.wall_ms())
        if not windows:
            assert checkpoint is not None  # The first time, a window is always due.
            return PollResult([], checkpoint)
        window = windows[0]
        groups: dict[tuple[str, str], list[UsageRow]] = {}
        refused: list[str] = []
        for n, row in enumerate(self._ask(window, refused)):
            if n + len(refused) >= MAX_QUERY_ROWS:
                raise BadInput(self.name, f"more than {MAX_QUERY_ROWS:,} rows", "query sums of fewer groups")
            groups.setdefault((row.cluster, row.workload), []).append(row.row)
        batches = [
            WorkloadBatch(cluster, workload, usage_batch(rows[start : start + MAX_ROWS], window.t1_ms), self.name)
            for (cluster, workload), rows in sorted(groups.items())
            for start in range(0, len(rows), MAX_ROWS)
        ]
        return PollResult(batches, msgspec.msgpack.encode(window.t1_ms), more, refused, self._notes(bool(batches)))

    def _notes(self, has_rows: bool) -> list[str]:
        """Return a note when results become empty, and when they have rows again."""
        if has_rows != self._empty:
            return []
        self._empty = not has_rows
        return ["answers rows again" if has_rows else "answers no row: do the names in it exist?"]


def query_row(values: Mapping[str, str], quantity: str, window: MeterWindow, template: RowTemplate) -> QueryRow:
    """Return the row whose columns or labels have these `values`. Raises BadInput if the log cannot store it."""
    fields = {field: values.get(name, "") for field, name in template.columns.items() if name}
    dimensions = {n: v for n, v in sorted(values.items()) if n not in template.columns.values() and v}
    cluster, workload = fields.get("cluster") or template.cluster, fields.get("workload") or template.workload
    tenant = fields.get("tenant") or template.tenant
    session_id, trace_id, step = (fields.get(name, "") for name in ("session_id", "trace_id", "step"))
    topics.check_name("cluster", cluster)
    topics.check_name("workload", workload)
    checks.payers("tenant", (tenant,))
    for name, text in (("session_id", session_id), ("trace_id", trace_id), ("step", step)):
        checks.text(name, (text,))
    checks.dimensions("dimensions", (dimensions,))
    if not checks.is_decimal(quantity):
        raise BadInput("quantity", quantity, "give a plain number")
    event_id = _digest(
        [template.meter, str(window.t0_ms), str(window.t1_ms), cluster, workload, *map(str, sorted(values.items()))]
    )
    row = UsageRow(
        meter=template.meter,
        unit=template.unit,
        quantity=quantity,
        t0_ms=window.t0_ms,
        t1_ms=window.t1_ms,
        tenant=tenant,
        origin=template.origin,
        event_id=event_id,
        session_id=session_id,
        trace_id=trace_id,
        step=step,
        dimensions=dimensions,
    )
    return QueryRow(cluster, workload, row)


def _digest(parts: Sequence[str]) -> str:
    """Return a digest of texts that is unambiguous whatever they hold."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def window_queries(
    kind: str, queries: Sequence[QueryConfig], where: str, cluster: str,
    ask: Callable[[str, RowTemplate, MeterWindow, list[str]], Iterable[QueryRow]],
) -> list[WindowQuery]:  # fmt: skip
    """Build a source for each query. `where` is the address without secrets, `cluster` that of queries that name none.

    Raises BadSetting for a meter that two queries share: their checkpoints would have the same name.
    """
    sources: list[WindowQuery] = []
    for n, query in enumerate(queries):
        if any(source.name == query.meter for source in sources):
            raise BadSetting(f"produce.{kind}.queries.{n}.meter", query.meter, "give each query a meter of its own")
        schedule = MeterSchedule(1000 * query.every_s, 1000 * query.offset_s)
        template = RowTemplate(
            meter=query.meter,
            unit=query.unit,
            origin=f"{kind}://{where}/{n}",
            cluster=query.cluster or cluster,
            workload=query.workload,
            tenant=query.tenant,
            columns=query.columns,
        )
        sources.append(WindowQuery(kind, query.meter, schedule, partial(ask, query.query, template)))
    return sources


def describe_results(sources: Sequence[WindowQuery], clock: Clock) -> Iterator[tuple[str, Exception | str]]:
    """Yield for each query the number of rows of its last window, or why it cannot be queried."""
    for source in sources:
        try:
            result = source.collect(None, clock)
        except Exception as error:
            yield source.name, error
            continue
        rows = sum(len(batch.batch) for batch in result.batches)
        left_out = f"; left out: {result.refused[0]}" if result.refused else ""
        yield source.name, f"{rows} rows for the last window{left_out}"
