"""How an audit is shown to people: conservation first, then what is missing; the worst by name, and how many more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cli import output
from cli.options import err
from contracts.units import rfc3339

if TYPE_CHECKING:
    from warehouse.audit.conservation import Audit

UNBALANCED, INCOMPLETE = 1, 3
"""Exit statuses beside 0, and 2 for what could not be asked."""


def status(found: Audit, *, strict: bool) -> int:
    """What the books do not balance over outweighs what is missing from them."""
    if not found.balanced:
        return UNBALANCED
    return INCOMPLETE if not (found.complete if strict else found.ok) else 0


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr where that is a terminal, to be told of rows done and of all."""
    columns = (TextColumn("auditing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("audit", total=None)
        yield lambda done, rows: bar.update(task, completed=done, total=rows)


def show(found: Audit, *, strict: bool) -> None:
    """Print an audit on stdout."""
    out = output.stdout()
    out.print(
        f"measured [bold]{found.measured_uj:,}[/bold] µJ = {found.active_uj:,} active + {found.idle_uj:,} idle "
        f"+ {found.unallocated_uj:,} unallocated",
        soft_wrap=True,
    )
    style = "bold green" if found.balanced else "bold red"
    out.print(
        f"[{style}]residual {found.residual_uj:,} µJ[/{style}] over {found.windows:,} windows; "
        f"{found.sequence_gaps:,} events lost on the log; {100 * found.coverage_ratio:.2f} % of the GPUs' time covered",
        soft_wrap=True,
    )
    _conservation(out, found)
    _completeness(out, found, "red" if strict else "yellow")


def _conservation(out: Console, found: Audit) -> None:
    for name, what in _RESIDUALS:
        if value := getattr(found, name):
            out.print(f"[red]{name} {value:,}: {what}[/red]", soft_wrap=True)
    _named(out, "red", found.unbalanced, found.unbalanced_windows, lambda w: f"{_window(w)}: {w.residual_uj:,} µJ off")
    if found.strays:
        out.print(
            f"[red]{found.strays:,} final windows hold rows of a worker that had lost its partition[/red]",
            soft_wrap=True,
        )
        _named(out, "red", found.strays, found.stray_windows, _window)
    if found.restating:
        out.print(
            f"{found.restating:,} windows ({found.restating_uj:,} µJ) are being restated: their late facts are stored",
            soft_wrap=True,
        )
        _named(out, "default", found.restating, found.restating_windows, _window)
    if found.requests == "none":
        out.print(
            f"single requests are not kept (WATTLOG_REQUESTS=none); {found.request_windows:,} windows have all theirs",
            soft_wrap=True,
        )
    for count, what in (
        (found.request_windows_partly, "windows have some of their requests only, whose joules are a part of theirs"),
        (found.windows_without_work, "windows drew energy and did no work"),
        (found.windows_without_energy, "windows did work on GPUs that nobody metered"),
    ):
        if count:
            out.print(f"{count:,} {what}", soft_wrap=True)


_RESIDUALS = (
    ("token_residual_tokens", "tokens counted and tokens in the ledger differ"),
    ("request_residual", "requests and failures counted and those in the ledger differ"),
    (
        "request_residual_uj",
        "the joules of single requests do not sum to their tenants' rows; if workers did not keep them for a time, ask "
        "again with WATTLOG_REQUESTS=none",
    ),
    ("hour_residual_uj", "hours and the windows under them differ; bills read hours, and days made from them"),
    ("hour_residual_counts", "tokens, work or requests of hours and of the windows under them differ"),
    ("day_residual_uj", "days and the hours under them differ; bills read the days"),
    ("day_residual_counts", "tokens, work or requests of days and of the hours under them differ"),
)


def _completeness(out: Console, found: Audit, style: str) -> None:
    if found.sequence_gaps:
        out.print(
            f"[red]{found.runs_with_gaps:,} of {found.producer_runs:,} producers' runs lack events[/red]",
            soft_wrap=True,
        )
        _named(
            out, "red", found.runs_with_gaps, found.gaps_by_producer,
            lambda g: f"{g.source} epoch {g.epoch} on {g.topic}: {g.received:,} of {g.expected:,} came, "
            f"{g.missing:,} missing, {g.duplicates:,} twice; last {rfc3339(g.last_event)}",
        )  # fmt: skip
    if found.silent_producers:
        out.print(f"[{style}]{found.silent_producers:,} producers fell silent[/{style}]", soft_wrap=True)
        _named(
            out, style, found.silent_producers, found.silent,
            lambda s: f"{s.source} on {s.topic}: nothing since {rfc3339(s.last_event)}, to {rfc3339(s.until)}",
        )  # fmt: skip
    if found.uncovered_ms:
        out.print(
            f"{found.gpus_with_gaps:,} of {found.gpus:,} GPUs were not measured for {_time(found.uncovered_ms)} "
            f"in all, between their first and last window",
            style=style,
            soft_wrap=True,
        )
        _named(
            out, style, found.gpus_with_gaps, found.least_covered,
            lambda g: f"{g.cluster}/{g.node}/{g.gpu_uuid}: {100 * g.covered_ms / g.expected_ms:.2f} % covered, "
            f"{_time(g.missing_ms)} missing of {rfc3339(g.first_window)} to {rfc3339(g.last_window_end)}",
        )  # fmt: skip
        out.print("the longest gaps:")
        _named(
            out, style, len(found.gpu_gaps), found.gpu_gaps,
            lambda g: f"{_time(g.missing_ms)} from {rfc3339(g.start)} to {rfc3339(g.end)}: "
            f"{g.cluster}/{g.node}/{g.gpu_uuid}",
        )  # fmt: skip


SHOWN = 10
"""Lines of a list; `--json` has twice as many."""


def _named(out: Console, style: str, count: int, worst: Sequence[Any], line: Callable[[Any], str]) -> None:
    shown: Iterable[Any] = worst[:SHOWN]
    for one in shown:
        out.print("  " + line(one), style=style, markup=False, soft_wrap=True)
    if count > len(worst[:SHOWN]) > 0:
        out.print(f"  and {count - len(worst[:SHOWN]):,} more", style=style)


def _window(window: Any) -> str:
    return f"{rfc3339(window.window_start_ms)} {window.cluster}/{window.workload}"


def _time(ms: int) -> str:
    """A length of time in two units at most."""
    seconds = ms // 1000
    if seconds >= 86_400:
        return f"{seconds // 86_400:,} d {seconds % 86_400 // 3_600} h"
    if seconds >= 3_600:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{ms / 1000:g} s"
