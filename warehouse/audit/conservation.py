"""Conservation, checked again in SQL from stored rows, over any period: `wattlog audit`.

It trusts the stored rows and nothing else that the stream job computed. Residuals are sums of absolute differences at
the finest grain, so that two errors never cancel. Workers may write meanwhile: windows beyond their partition's
checkpoint are left out, a late fact that may not be restated yet counts apart, and a patient caller has differences
checked a second time. Missing events and GPU time are in `completeness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import sleep
from typing import Any, Literal

from contracts.boundary import Boundary, part_of
from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs
from warehouse.audit.boundaries import DoubleCounts, report_nodes_without_host
from warehouse.audit.completeness import Coverage, check_producers
from warehouse.audit.evidence import Evidence
from warehouse.audit.findings import LateRestatement, SplitWorkload, StrayWindow, UnbalancedWindow
from warehouse.audit.names import names_apart
from warehouse.audit.report import WORST, Audit, Equation, KeptRequests
from warehouse.audit.same_calls import same_calls
from warehouse.periods import Period
from warehouse.reader import LedgerReader

SPAN_ROWS = 5_000_000
"""Rows in one step of the audit; a step has one hour at least."""
DAYS_AT_ONCE = 31
"""Days that one step compares with their hours."""
MAX_SPLIT = 1_000
"""Workloads on several partitions that are counted."""
SPILL_BYTES = 500_000_000
"""Memory of a step's aggregation or sort, beyond which ClickHouse continues on disk."""
MAX_RESTATED = 10_000
"""Windows restated late that are counted, the newest."""
END_MS = 7_258_118_400_000
"""2200-01-01, the end of all periods."""
_BOUNDED = {"max_bytes_before_external_group_by": SPILL_BYTES, "max_bytes_before_external_sort": SPILL_BYTES}

Span = tuple[int, int]
Check = Callable[[], Audit]
"""One part of the audit, which may be run again."""
SecondResult = Callable[[Audit, Audit], Audit]
"""Returns the second result of a check, given the first."""
Progress = Callable[[int, int], None]
"""Called with the rows checked so far, and all rows."""


def audit(
    reader: LedgerReader,
    period: Period | None = None,
    *,
    requests: KeptRequests = "all",
    max_age_ms: int | None = None,
    patience_s: float = 0.0,
    progress: Progress | None = None,
    wait: Callable[[float], None] = sleep,
) -> Audit:
    """Audit the windows that start in a period; None: all that are stored. For operators.

    A part that differs or is being restated is checked again after `patience_s` seconds (0: never), and the second
    result counts. Whatever is still being restated then, unchanged, counts as a residual. `requests` tells whether
    workers kept all single requests of the period.

    Windows that single requests changed longer than `max_age_ms` after them are named; None: they are not looked for.
    Sequence gaps have no time: those of every producer's run with an event since the period's start count.
    Raises BadQuery for an impossible period.
    """
    start, end = (period.start, period.end) if period else (0, END_MS)
    if not 0 <= start < end <= END_MS:
        raise BadQuery("period", (start, end), "the start must lie before the end, both from 1970 to 2200")
    spans = list(_spans(reader, start, end))
    total_rows = sum(rows for _, rows in spans)
    result, devices, checked_rows = Audit(requests=requests), _Devices(), 0
    doubtful: list[tuple[Check, SecondResult, Audit]] = []

    def run(check: Check, second: SecondResult) -> None:
        part = check()
        if patience_s and (not part.balanced or part.restating):
            doubtful.append((check, second, part))
        else:
            result.add(part)

    for span, rows in spans:
        run(partial(_balance, reader, span, requests), _second_result)
        run(partial(_hours, reader, span, requests), partial(_second_rollups, "hour"))
        devices.read(reader, span)
        checked_rows += rows
        if progress:
            progress(checked_rows, total_rows)
    for span in _day_spans(spans):
        run(partial(_days, reader, span, requests), partial(_second_rollups, "day"))
    if doubtful:
        wait(patience_s)
    for check, second, before in doubtful:
        result.add(second(before, check()))
    devices.report(result, end)
    check_producers(result, reader, start, end, WORST)
    apart = names_apart(reader, Period(EpochMs(start), EpochMs(end)))
    result.workloads_without_gpu, result.names_apart = len(apart), apart[:WORST]
    same = same_calls(reader, Period(EpochMs(start), EpochMs(end)))
    result.senders_twice, result.same_calls = len(same), same[:WORST]
    split = reader.ask("audit/partitions", settings=_BOUNDED, start_ms=start, end_ms=end, limit=MAX_SPLIT)
    result.workloads_split, result.split_workloads = len(split), [SplitWorkload(**row) for row in split[:WORST]]
    if max_age_ms is not None:
        _name_late_restatements(result, reader, (start, end), max_age_ms)
    return result


def _name_late_restatements(audit: Audit, reader: LedgerReader, span: Span, max_age_ms: int) -> None:
    """Set the windows of an audit that were restated late."""
    restated = [
        LateRestatement(**row)
        for row in reader.ask(
            "audit/late_restatements", settings=_BOUNDED, start_ms=span[0], end_ms=span[1], max_age_ms=max_age_ms,
            limit=MAX_RESTATED,
        )
    ]  # fmt: skip
    audit.windows_restated_late, audit.late_restatements = len(restated), restated[:WORST]


class _Devices:
    """Measurements of GPUs, hosts and meters at the wall, added up over spans in the order of time."""

    def __init__(self) -> None:
        self._coverage, self._evidence, self._double_counts = Coverage(WORST), Evidence(WORST), DoubleCounts(WORST)

    def read(self, reader: LedgerReader, span: Span) -> None:
        """Read the next span."""
        start_ms, end_ms = span
        parts = set()
        for device in reader.ask(
            "audit/gpu_coverage", settings=_BOUNDED, start_ms=start_ms, end_ms=end_ms, worst=WORST
        ):
            parts.add(part_of(device["hardware"]))
            self._evidence.add(device)
            self._coverage.add(device)
        if Boundary.WALL in parts:
            for node in reader.ask("audit/double_counts", settings=_BOUNDED, start_ms=start_ms, end_ms=end_ms):
                self._double_counts.add(node)

    def report(self, audit: Audit, until_ms: int) -> None:
        """Set the fields of devices of an audit of a period that ends at `until_ms`."""
        devices = self._coverage.devices()
        self._coverage.report(audit)
        self._evidence.report(audit, devices, until_ms)
        self._double_counts.report(audit)
        report_nodes_without_host(audit, devices, WORST)


def _spans(reader: LedgerReader, start_ms: int, end_ms: int) -> Iterator[tuple[Span, int]]:
    """Yield the period in steps of full hours with at most SPAN_ROWS rows, and their rows. Empty hours are skipped."""
    first = last = rows = 0
    for hour in reader.ask("audit/rows_by_hour", start_ms=start_ms, end_ms=end_ms):
        if rows and rows + hour["rows"] > SPAN_ROWS:
            yield (max(first, start_ms), min(last, end_ms)), rows
            rows = 0
        first = first if rows else hour["hour_ms"]
        last, rows = hour["hour_ms"] + MS_PER_HOUR, rows + hour["rows"]
    if rows:
        yield (max(first, start_ms), min(last, end_ms)), rows


def _day_spans(spans: Sequence[tuple[Span, int]]) -> Iterator[Span]:
    """Yield the days from the first span's to the last one's, in steps of at most DAYS_AT_ONCE."""
    first, last = (spans[0][0][0] // MS_PER_DAY, -(-spans[-1][0][1] // MS_PER_DAY)) if spans else (0, 0)
    for day in range(first, last, DAYS_AT_ONCE):
        yield day * MS_PER_DAY, min(day + DAYS_AT_ONCE, last) * MS_PER_DAY


def _days(reader: LedgerReader, span: Span, kept: KeptRequests) -> Audit:
    """Compare days with all their hours, whatever part of them the period cuts off."""
    (days,) = reader.ask("audit/days", settings=_BOUNDED, start_ms=span[0], end_ms=span[1], worst=WORST)
    part = Audit(requests=kept, restating_windows=[_window(*window) for window in days.pop("restating_windows")])
    for name, value in days.items():
        setattr(part, name, int(value))
    return part


def _balance(reader: LedgerReader, span: Span, kept: KeptRequests) -> Audit:
    """Check conservation in one span."""
    part = Audit(requests=kept)

    def ask(name: str, start_ms: int = span[0], end_ms: int = span[1], **more: Any) -> dict[str, Any]:
        (row,) = reader.ask(name, settings=_BOUNDED, start_ms=start_ms, end_ms=end_ms, worst=WORST, **more)
        return {key: value if isinstance(value, list) else int(value) for key, value in row.items()}

    energy = ask("audit/energy")
    part.unbalanced_windows = [_window(*named) for named in energy.pop("worst")]
    part.restating_windows = [_window(*named) for named in energy.pop("restating_windows")]
    part.stray_windows = [
        StrayWindow(window_start_ms=start_ms, cluster=cluster, workload=workload)
        for start_ms, cluster, workload in energy.pop("stray_windows")
    ]
    part.host, part.wall = (_equation(energy.pop(name)) for name in ("host", "wall"))
    for name, value in energy.items():
        setattr(part, name, value)
    tokens, requests = ask("audit/tokens"), ask("audit/requests", kept=int(kept == "all"))
    part.token_residual_tokens, part.request_residual = tokens["token_residual"], tokens["request_residual"]
    part.request_windows, part.request_residual_uj = requests["windows"], requests["residual_uj"]
    part.request_windows_partly = requests["windows_partly"]
    part.unbalanced_windows += [_window(0, *named) for named in tokens["worst"]]
    part.unbalanced_windows += [_window(*named) for named in requests["worst"]]
    part.unbalanced += tokens["unbalanced"] + requests["unbalanced"]
    part.restating += tokens["restating"] + requests["restating"]
    return part


def _hours(reader: LedgerReader, span: Span, kept: KeptRequests) -> Audit:
    """Compare full hours with their windows: of a cut hour, the windows outside the period were not read."""
    part = Audit(requests=kept)
    first, last = -(-span[0] // MS_PER_HOUR) * MS_PER_HOUR, span[1] // MS_PER_HOUR * MS_PER_HOUR
    if first < last:
        (hours,) = reader.ask("audit/hours", settings=_BOUNDED, start_ms=first, end_ms=last, worst=WORST)
        part.restating_windows = [_window(*named) for named in hours.pop("restating_windows")]
        for name, value in hours.items():
            setattr(part, _OF_HOURS.get(name, name), int(value))
    return part


_OF_HOURS = {"residual_uj": "hour_residual_uj", "residual_counts": "hour_residual_counts", "lack_uj": "hours_lack_uj"}


def _window(minus_uj: int, start_ms: int, cluster: str, workload: str) -> UnbalancedWindow:
    return UnbalancedWindow(residual_uj=-int(minus_uj), window_start_ms=start_ms, cluster=cluster, workload=workload)


def _equation(figures: list[int]) -> Equation:
    return Equation(*map(int, figures)) if len(figures) > 1 else Equation()


def _second_result(before: Audit, now: Audit) -> Audit:
    """Return the second result of a check, with windows that restated nothing since the first as residuals."""
    stuck = sorted(set(before.restating_windows) & set(now.restating_windows))
    now.restating_windows = [w for w in now.restating_windows if w not in stuck]
    now.restating, now.unbalanced = now.restating - len(stuck), now.unbalanced + len(stuck)
    off_uj = sum(w.residual_uj for w in stuck)
    now.restating_uj, now.residual_uj = now.restating_uj - off_uj, now.residual_uj + off_uj
    now.unbalanced_windows += stuck
    return now


def _second_rollups(kind: Literal["hour", "day"], before: Audit, now: Audit) -> Audit:
    """Return the second result of a check of hours or days. Those that are due, and unchanged since, have no worker."""
    named = set(before.restating_windows) & set(now.restating_windows)
    unchanged = (before.restating, before.restating_uj, before.restating_counts) == (
        now.restating, now.restating_uj, now.restating_counts,
    )  # fmt: skip
    off_uj = now.restating_uj if unchanged else sum(w.residual_uj for w in named)
    off_counts = now.restating_counts if unchanged else 0
    settled = now.restating if unchanged else len(named)
    now.restating, now.restating_uj = now.restating - settled, now.restating_uj - off_uj
    now.restating_counts -= off_counts
    now.restating_windows = [] if unchanged else [w for w in now.restating_windows if w not in named]
    residual_uj, residual_counts = f"{kind}_residual_uj", f"{kind}_residual_counts"
    setattr(now, residual_uj, getattr(now, residual_uj) + off_uj)
    setattr(now, residual_counts, getattr(now, residual_counts) + off_counts)
    return now
