"""Conservation, checked again in SQL from what is stored, over any period: `wattlog audit`.

It trusts nothing that the stream job computed but the rows themselves. Residuals are sums of absolute differences at
the finest grain, so that two errors never cancel. Workers may write meanwhile: windows beyond their partition's mark
are left out, a late fact that may not be restated yet is told apart, and what looks wrong is looked at twice where the
caller is patient. What is not there at all (events, GPU time) is `warehouse.audit.completeness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from time import sleep
from typing import Any, Literal

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.audit.completeness import (  # fmt: skip
    Coverage,
    GpuCoverage,
    GpuGap,
    SequenceGap,
    SilentProducer,
    producers,
)
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import Time

WORST = 20
"""How many of each kind are named."""
SPAN_ROWS = 5_000_000
"""Rows that one step of the audit goes through; an hour is the least."""
DAYS_AT_ONCE = 31
"""Days that are compared with their hours in one step."""
SPILL_BYTES = 500_000_000
"""Memory of a step's aggregation or sort, beyond which ClickHouse goes on on disk."""
_END_MS = 7_258_118_400_000  # 2200-01-01
_BOUNDED = {"max_bytes_before_external_group_by": SPILL_BYTES, "max_bytes_before_external_sort": SPILL_BYTES}

Kept = Literal["all", "none"]
"""Which single requests workers store: `Settings.requests`."""
Span = tuple[int, int]
Look = Callable[[], "Audit"]
"""One part of the audit, which may be looked at again."""
Progress = Callable[[int, int], None]
"""Told of rows gone through, and of all."""


@dataclass(frozen=True, slots=True, order=True)
class UnbalancedWindow:
    """A window of a workload whose measured energy is not what its ledger rows say."""

    residual_uj: int
    window_start_ms: int
    cluster: str
    workload: str


@dataclass(frozen=True, slots=True, order=True)
class StrayWindow:
    """A final window of a workload with rows of an ownership before the one that finalised it."""

    window_start_ms: int
    cluster: str
    workload: str


@dataclass(slots=True)
class Audit:
    """What the books say of a period. Energies in integer microjoules. Lists name the worst, at most WORST of each.

    `measured_uj` is the sum of facts, the three after it of the ledger's final rows. `residual_uj` sums
    |measured - active - idle - unallocated| over windows, workloads and hardware types. `token_residual_tokens` and
    `request_residual` do the same for tokens and requests (and failures) per tenant and model, `request_residual_uj`
    for single requests' joules and their tenants' rows (over `request_windows`, whose requests are all stored still; in
    `request_windows_partly` some were not kept, and the others may not sum to more). `requests` is the setting that was
    asked with: with `none`, windows may lack those of late messages.
    `hour_residual_uj` and `hour_residual_counts` (tokens, work, requests) for the hours against their windows,
    `day_residual_uj` and `day_residual_counts` for the days against their hours.

    `restating_windows` differ by `restating_uj` because late facts of theirs were stored and are about to be restated,
    or are hours or days that are about to be computed anew: no residual, unless they stood just so when looked at
    again. `stray_windows` hold rows that a worker wrote after it had lost the partition.

    `windows_without_work` drew energy and did nothing, `windows_without_energy` did work on GPUs that nobody metered:
    told, never judged. `coverage_ratio` is covered time over expected time, summed over GPUs (`completeness.Coverage`).
    """

    windows: int = 0
    measured_uj: int = 0
    active_uj: int = 0
    idle_uj: int = 0
    unallocated_uj: int = 0
    residual_uj: int = 0
    unbalanced: int = 0
    token_residual_tokens: int = 0
    request_residual: int = 0
    requests: Kept = "all"
    request_windows: int = 0
    request_windows_partly: int = 0
    request_residual_uj: int = 0
    hours: int = 0
    hours_without_windows: int = 0
    hour_residual_uj: int = 0
    hour_residual_counts: int = 0
    days: int = 0
    day_residual_uj: int = 0
    day_residual_counts: int = 0
    restating: int = 0
    restating_uj: int = 0
    strays: int = 0
    windows_without_work: int = 0
    windows_without_energy: int = 0
    producer_runs: int = 0
    runs_with_gaps: int = 0
    sequence_gaps: int = 0
    duplicates: int = 0
    silent_producers: int = 0
    gpus: int = 0
    gpus_with_gaps: int = 0
    uncovered_ms: int = 0
    coverage_ratio: float = 1.0
    first_window: Time | None = None
    last_window_end: Time | None = None
    unbalanced_windows: list[UnbalancedWindow] = field(default_factory=list)
    restating_windows: list[UnbalancedWindow] = field(default_factory=list)
    stray_windows: list[StrayWindow] = field(default_factory=list)
    gaps_by_producer: list[SequenceGap] = field(default_factory=list)
    silent: list[SilentProducer] = field(default_factory=list)
    gpu_gaps: list[GpuGap] = field(default_factory=list)
    least_covered: list[GpuCoverage] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """No residual anywhere, and no row of a worker that had lost its partition."""
        return not (
            self.residual_uj
            or self.token_residual_tokens
            or self.request_residual
            or self.request_residual_uj
            or self.hour_residual_uj
            or self.hour_residual_counts
            or self.day_residual_uj
            or self.day_residual_counts
            or self.strays
        )

    @property
    def ok(self) -> bool:
        """Balanced, and nothing lost on the log. Coverage is told, not judged: a GPU may be off."""
        return self.balanced and not self.sequence_gaps

    @property
    def complete(self) -> bool:
        """`ok`, every GPU covered from its first to its last window, and every producer heard to the end."""
        return self.ok and not self.uncovered_ms and not self.silent_producers


def audit(
    reader: LedgerReader,
    period: Period | None = None,
    *,
    requests: Kept = "all",
    patience_s: float = 0.0,
    progress: Progress | None = None,
    wait: Callable[[float], None] = sleep,
) -> Audit:
    """Audit the windows that start in a period; None: all that are stored. For operators.

    Where something differs or is being restated, `patience_s` seconds later (0: never) that part is looked at again,
    and what is seen then counts; what is being restated still, and as it was, counts as a residual. `requests` says
    whether workers kept all single requests of the period.

    Sequence gaps cannot be placed in time: those of every producer's run that was heard from since `start_ms` count.
    Raises BadQuery for a period that is none.
    """
    start, end = (period.start, period.end) if period else (0, _END_MS)
    if not 0 <= start < end <= _END_MS:
        raise BadQuery("period", (start, end), "the start must lie before the end, both from 1970 to 2200")
    spans = list(_spans(reader, start, end))
    total = sum(rows for _, rows in spans)
    found, coverage, done = Audit(requests=requests), Coverage(WORST), 0
    doubtful: list[tuple[Look, Audit]] = []

    def judge(look: Look) -> None:
        part = look()
        if patience_s and (not part.balanced or part.restating):
            doubtful.append((look, part))
        else:
            _add(found, part)

    for span, rows in spans:
        judge(partial(_balance, reader, span, requests))
        for gpu in reader.ask("audit/gpu_coverage", settings=_BOUNDED, start_ms=span[0], end_ms=span[1], worst=WORST):
            coverage.add(gpu)
        done += rows
        if progress:
            progress(done, total)
    for span in _whole_days(spans):
        judge(partial(_days, reader, span, requests))
    if doubtful:
        wait(patience_s)
    for look, before in doubtful:
        _add(found, _still(before, look()))
    coverage.tell(found)
    producers(found, reader, start, end, WORST)
    return found


def _spans(reader: LedgerReader, start_ms: int, end_ms: int) -> Iterator[tuple[Span, int]]:
    """The period in steps of whole hours with at most SPAN_ROWS rows, and their rows; hours without rows are passed
    over."""
    first = last = rows = 0
    for hour in reader.ask("audit/rows_by_hour", start_ms=start_ms, end_ms=end_ms):
        if rows and rows + hour["rows"] > SPAN_ROWS:
            yield (max(first, start_ms), min(last, end_ms)), rows
            rows = 0
        first = first if rows else hour["hour_ms"]
        last, rows = hour["hour_ms"] + MS_PER_HOUR, rows + hour["rows"]
    if rows:
        yield (max(first, start_ms), min(last, end_ms)), rows


def _whole_days(spans: Sequence[tuple[Span, int]]) -> Iterator[Span]:
    """The days from the first span's to the last one's, in steps of at most DAYS_AT_ONCE."""
    first, last = (spans[0][0][0] // MS_PER_DAY, -(-spans[-1][0][1] // MS_PER_DAY)) if spans else (0, 0)
    for day in range(first, last, DAYS_AT_ONCE):
        yield day * MS_PER_DAY, min(day + DAYS_AT_ONCE, last) * MS_PER_DAY


def _days(reader: LedgerReader, span: Span, kept: Kept) -> Audit:
    """Days against their hours, all of which are at hand whatever the period cuts."""
    (days,) = reader.ask("audit/days", settings=_BOUNDED, start_ms=span[0], end_ms=span[1], worst=WORST)
    named = [_window(*window) for window in days.pop("restating_windows")]
    return Audit(requests=kept, restating_windows=named, **{name: int(value) for name, value in days.items()})


def _balance(reader: LedgerReader, span: Span, kept: Kept) -> Audit:
    """Conservation in one span."""
    part = Audit(requests=kept)

    def ask(name: str, start_ms: int = span[0], end_ms: int = span[1], **more: Any) -> dict[str, Any]:
        (row,) = reader.ask(name, settings=_BOUNDED, start_ms=start_ms, end_ms=end_ms, worst=WORST, **more)
        return {key: value if isinstance(value, list) else int(value) for key, value in row.items()}

    energy = ask("audit/energy")
    part.unbalanced_windows = [_window(*named) for named in energy.pop("worst")]
    part.restating_windows = [_window(*named) for named in energy.pop("restating_windows")]
    part.stray_windows = [StrayWindow(*named) for named in energy.pop("stray_windows")]
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
    # Whole hours only: of an hour that the period cuts, the windows outside are not at hand.
    first, last = -(-span[0] // MS_PER_HOUR) * MS_PER_HOUR, span[1] // MS_PER_HOUR * MS_PER_HOUR
    if first < last:
        hours = ask("audit/hours", first, last)
        part.hours, part.hours_without_windows = hours["hours"], hours["hours_without_windows"]
        part.hour_residual_uj, part.hour_residual_counts = hours["residual_uj"], hours["residual_counts"]
        part.restating, part.restating_uj = (
            part.restating + hours["restating"],
            part.restating_uj + hours["restating_uj"],
        )
        part.restating_windows += [_window(*named) for named in hours["restating_windows"]]
    return part


def _window(minus_uj: int, start_ms: int, cluster: str, workload: str) -> UnbalancedWindow:
    return UnbalancedWindow(-int(minus_uj), start_ms, cluster, workload)


def _still(before: Audit, now: Audit) -> Audit:
    """The second look. What was being restated then and stands just so now waits in vain: it is a residual."""
    stuck = sorted(set(before.restating_windows) & set(now.restating_windows))
    now.restating_windows = [w for w in now.restating_windows if w not in stuck]
    now.restating, now.unbalanced = now.restating - len(stuck), now.unbalanced + len(stuck)
    off_uj = sum(w.residual_uj for w in stuck)
    now.restating_uj, now.residual_uj = now.restating_uj - off_uj, now.residual_uj + off_uj
    now.unbalanced_windows += stuck
    return now


def _add(found: Audit, part: Audit) -> None:
    """Add a span to the whole."""
    for one in fields(Audit):
        mine, more = getattr(found, one.name), getattr(part, one.name)
        if isinstance(more, list):
            setattr(found, one.name, sorted([*mine, *more], reverse=one.name != "stray_windows")[:WORST])
        elif isinstance(more, int):
            setattr(found, one.name, mine + more)
