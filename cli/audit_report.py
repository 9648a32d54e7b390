"""Audit report for people: conservation first, then completeness. Lists name the worst cases and count the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli.boundary import PART_NAMES
from cli.output import stdout
from contracts.units import counted, rfc3339

if TYPE_CHECKING:
    from warehouse.audit.report import Audit

UNBALANCED, INCOMPLETE = 1, 3
"""Exit statuses of an audit, beside 0. Status 2 is an audit that could not run."""


def exit_status(audit: Audit, *, strict: bool) -> int:
    """Return the exit status: an unbalanced ledger is worse than an incomplete one."""
    if not audit.balanced:
        return UNBALANCED
    return INCOMPLETE if not (audit.complete if strict else audit.ok) else 0


def print_report(audit: Audit, *, strict: bool) -> None:
    """Print an audit on stdout."""
    out = stdout()
    out.print(
        f"measured [bold]{audit.measured_uj:,}[/bold] µJ = {audit.active_uj:,} active + {audit.idle_uj:,} idle "
        f"+ {audit.unallocated_uj:,} unallocated",
        soft_wrap=True,
    )
    style = "bold green" if audit.balanced else "bold red"
    out.print(
        f"[{style}]residual {audit.residual_uj:,} µJ[/{style}] over {counted(audit.windows, 'window')}; "
        f"{counted(audit.sequence_gaps, 'event')} lost on the log; {_coverage(audit)}",
        soft_wrap=True,
    )
    _parts(out, audit)
    _conservation(out, audit)
    _evidence(out, audit, "red" if strict else "yellow")
    _completeness(out, audit, "red" if strict else "yellow")
    _meters(out, audit, "red" if strict else "yellow")
    _partitions(out, audit, "red")
    _late(out, audit)
    _names(out, audit, "red" if strict else "yellow")
    _same_calls(out, audit, "red" if strict else "yellow")


def _coverage(audit: Audit) -> str:
    if not audit.gpus:
        return "no GPU measured on its own" if audit.meters else "no GPU measured"
    return f"{100 * audit.coverage_ratio:.2f} % of the GPUs' time covered"


def _parts(out: Console, audit: Audit) -> None:
    """Print the balance of each part of the energy, if there are several, and nodes whose parts do not fit."""
    if len(audit.parts) > 1:
        for part, of in audit.parts.items():
            out.print(
                f"{PART_NAMES[part]}: {of.measured_uj:,} µJ = {of.active_uj:,} active + {of.idle_uj:,} idle "
                f"+ {of.unallocated_uj:,} unallocated, residual {of.residual_uj:,} µJ",
                soft_wrap=True,
            )
    if audit.nodes_counted_twice:
        nodes = counted(audit.nodes_counted_twice, "node", "has", "have")
        out.print(f"[red]{nodes} energy that counts twice[/red]")
        _print_list(
            out, "red", audit.nodes_counted_twice, audit.double_counts,
            lambda n: f"{n.cluster}/{n.node}: {' and '.join(n.hardwares)} in {counted(n.windows, 'window')} of "
            f"{rfc3339(n.start)} to {rfc3339(n.end)}; publish one of them",
        )  # fmt: skip
    if audit.nodes_without_host:
        out.print(
            f"{counted(audit.nodes_without_host, 'node', 'has', 'have')} energy of GPUs alone, others of the same "
            "cluster have their host's or wall's too",
            soft_wrap=True,
        )
        _print_list(
            out, "default", audit.nodes_without_host, audit.without_host, lambda n: f"{n.cluster}/{n.node}"
        )  # fmt: skip


def _conservation(out: Console, audit: Audit) -> None:
    for name, meaning in _RESIDUALS:
        if value := getattr(audit, name):
            out.print(f"[red]{name} {value:,}: {meaning}[/red]", soft_wrap=True)
    for text in audit.bill_shortfalls:
        out.print(f"[red]{text}[/red]", soft_wrap=True)
    _print_list(
        out, "red", audit.unbalanced, audit.unbalanced_windows, lambda w: f"{_window(w)}: {w.residual_uj:,} µJ off"
    )
    if audit.strays:
        out.print(
            f"[red]{counted(audit.strays, 'final window', 'has', 'have')} rows of a worker that had lost its partition"
            "[/red]",
            soft_wrap=True,
        )
        _print_list(out, "red", audit.strays, audit.stray_windows, _window)
    if audit.restating:
        out.print(
            f"{counted(audit.restating, 'window', 'waits', 'wait')} for restatement, or for hours and days "
            f"({audit.restating_uj:,} µJ)",
            soft_wrap=True,
        )
        _print_list(out, "default", audit.restating, audit.restating_windows, _window)
    if audit.requests == "none":
        out.print(
            "single requests are not stored (WATTLOG_REQUESTS=none); "
            f"{counted(audit.request_windows, 'window', 'has', 'have')} all requests",
            soft_wrap=True,
        )
    for count, meaning in (
        (audit.request_windows_partly, "with only some requests, and only their part of the joules"),
        (audit.windows_without_work, "drew energy without doing work"),
        (audit.windows_without_energy, "did work on GPUs without measurements"),
    ):
        if count:
            out.print(f"{counted(count, 'window')} {meaning}", soft_wrap=True)


_RESIDUALS = (
    ("token_residual_tokens", "tokens counted and tokens in the ledger differ"),
    ("request_residual", "requests and failures counted and those in the ledger differ"),
    (
        "request_residual_uj",
        "the joules of single requests do not sum to their tenants' rows; if workers did not store requests for a "
        "time, audit again with WATTLOG_REQUESTS=none",
    ),
)


def _evidence(out: Console, audit: Audit, style: str) -> None:
    parts = ("counter", "integrated", "estimated")
    texts = [f"{getattr(audit, f'{part}_uj'):,} µJ {part} ({_time(getattr(audit, f'{part}_ms'))})" for part in parts]
    if audit.meters and not audit.gpus:
        out.print(f"evidence: {', '.join(text.partition(' (')[0] for text in texts)}", soft_wrap=True)
    elif audit.counter_ms or audit.integrated_ms or audit.estimated_ms:
        out.print(f"evidence: {', '.join(texts)}; {_time(audit.uncovered_ms)} without any, of GPU time", soft_wrap=True)
    if audit.estimated_ms:
        gpus = counted(audit.gpus_with_estimates, "GPU", "has", "have")
        out.print(f"{gpus} estimated energy", style=style)
        _print_list(
            out, style, audit.gpus_with_estimates, audit.estimated,
            lambda g: f"{g.cluster}/{g.node}/{g.gpu_uuid}: {g.estimated_uj:,} µJ in {_time(g.estimated_ms)}",
        )  # fmt: skip
    if audit.gpus_unbound:
        gpus = counted(audit.gpus_unbound, "GPU", "was", "were")
        out.print(f"{gpus} in no workload at all: unallocated", style=style)
        _print_list(
            out, style, audit.gpus_unbound, audit.unbound, lambda g: f"{g.cluster}/{g.node}/{g.gpu_uuid}"
        )  # fmt: skip
    if audit.nodes_silent:
        names = "node or cluster" if audit.nodes_silent == 1 else "nodes or clusters"
        out.print(f"{audit.nodes_silent:,} {names} fell silent", style=style)
        _print_list(
            out, style, audit.nodes_silent, audit.silent_nodes,
            lambda n: f"{n.cluster + '/' + n.node if n.node else 'cluster ' + n.cluster}: nothing measured since "
            f"{rfc3339(n.last_window_end)}, to {rfc3339(n.until)}",
        )  # fmt: skip


def _completeness(out: Console, audit: Audit, style: str) -> None:
    if audit.sequence_gaps:
        out.print(
            f"[red]{audit.runs_with_gaps:,} of {audit.producer_runs:,} producers' runs lack events[/red]",
            soft_wrap=True,
        )
        _print_list(
            out, "red", audit.runs_with_gaps, audit.gaps_by_producer,
            lambda g: f"{g.source} epoch {g.epoch} on {g.topic}: {g.received:,} of {g.expected:,} received, "
            f"{g.missing:,} missing, {g.duplicates:,} duplicates; last {rfc3339(g.last_event)}",
        )  # fmt: skip
    if audit.contested_messages:
        messages = counted(audit.contested_messages, "message", "is a dead letter", "are dead letters")
        out.print(f"[red]{messages}: another had the number[/red]", soft_wrap=True)
        _print_list(
            out, "red", audit.contested_runs, audit.contested,
            lambda c: f"{c.source} epoch {c.epoch} on {c.topic}: {counted(c.messages, 'message')} with numbers "
            f"{c.first_seq} to {c.last_seq}, of {rfc3339(c.first_event)} to {rfc3339(c.last_event)}",
        )  # fmt: skip
    if audit.silent_producers:
        out.print(f"[{style}]{counted(audit.silent_producers, 'producer')} fell silent[/{style}]", soft_wrap=True)
        _print_list(
            out, style, audit.silent_producers, audit.silent,
            lambda s: f"{s.source} on {s.topic}: nothing since {rfc3339(s.last_event)}, to {rfc3339(s.until)}",
        )  # fmt: skip
    if audit.idle_senders:
        out.print(
            f"{counted(audit.idle_senders, 'source')} without calls at the end: they send only when there are calls, "
            "so that is no finding",
            soft_wrap=True,
        )
        _print_list(
            out, "default", audit.idle_senders, audit.idle,
            lambda s: f"{s.source} on {s.topic}: its last call was at {rfc3339(s.last_event)}",
        )  # fmt: skip
    if audit.uncovered_ms:
        out.print(
            f"{audit.gpus_with_gaps:,} of {audit.gpus:,} GPUs were not measured for {_time(audit.uncovered_ms)} "
            f"in all, between their first and last window",
            style=style,
            soft_wrap=True,
        )
        _print_list(
            out, style, audit.gpus_with_gaps, audit.least_covered,
            lambda g: f"{g.cluster}/{g.node}/{g.gpu_uuid}: {100 * g.covered_ms / g.expected_ms:.2f} % covered, "
            f"{_time(g.missing_ms)} missing of {rfc3339(g.first_window)} to {rfc3339(g.last_window_end)}",
        )  # fmt: skip
        out.print("the longest gaps:")
        _print_list(
            out, style, len(audit.gpu_gaps), audit.gpu_gaps,
            lambda g: f"{_time(g.missing_ms)} from {rfc3339(g.start)} to {rfc3339(g.end)}: "
            f"{g.cluster}/{g.node}/{g.gpu_uuid}",
        )  # fmt: skip


def _meters(out: Console, audit: Audit, style: str) -> None:
    """Print what is missing of hosts and meters at the wall."""
    if audit.meters_uncovered_ms:
        out.print(
            f"{audit.meters_with_gaps:,} of {audit.meters:,} hosts and wall meters were not measured for "
            f"{_time(audit.meters_uncovered_ms)} in all",
            style=style,
            soft_wrap=True,
        )
        _print_list(
            out, style, audit.meters_with_gaps, audit.least_covered_meters,
            lambda m: f"{m.cluster}/{m.node}/{m.gpu_uuid}: {_time(m.missing_ms)} missing of "
            f"{rfc3339(m.first_window)} to {rfc3339(m.last_window_end)}",
        )  # fmt: skip
    if audit.meters_with_estimates:
        out.print(f"{audit.meters_with_estimates:,} hosts or wall meters have estimated energy", style=style)


def _partitions(out: Console, audit: Audit, style: str) -> None:
    """Print workloads whose events were on several partitions of the log."""
    if audit.workloads_split:
        out.print(
            f"{counted(audit.workloads_split, 'workload', 'was', 'were')} on several partitions of the log: some rows "
            "replaced others",
            style=style, soft_wrap=True,
        )  # fmt: skip
        _print_list(
            out, style, audit.workloads_split, audit.split_workloads,
            lambda w: f"{w.cluster}/{w.workload}: partitions {', '.join(map(str, w.partitions))} in "
            f"{counted(w.hours, 'hour')}; set the partitioner of each producer to murmur2_random",
        )  # fmt: skip


def _late(out: Console, audit: Audit) -> None:
    """Print windows that late requests changed long after them."""
    if audit.windows_restated_late:
        out.print(
            f"{counted(audit.windows_restated_late, 'window', 'was', 'were')} restated more than max_age_ms after the "
            "end: old bills changed",
            style="yellow", soft_wrap=True,
        )  # fmt: skip
        _print_list(
            out, "yellow", audit.windows_restated_late, audit.late_restatements,
            lambda w: f"{_window(w)}: {w.tokens_before:,} tokens became {w.tokens_after:,} by {w.late_requests:,} "
            f"requests of {', '.join(s or 'unnamed senders' for s in w.senders)}, the last stored {rfc3339(w.stored)}",
        )  # fmt: skip


def _names(out: Console, audit: Audit, style: str) -> None:
    """Print workloads with tokens and no GPU, and the line that would join each with its GPUs."""
    from warehouse.audit.names import sentence

    if audit.workloads_without_gpu:
        workloads = counted(audit.workloads_without_gpu, "workload", "has", "have")
        out.print(f"{workloads} tokens and no GPU: that cost is open", style=style)
        _print_list(
            out, style, audit.workloads_without_gpu, audit.names_apart,
            lambda w: f"{sentence(w)} ({counted(w.tokens, 'token')}, {counted(w.requests, 'request')})\n"
            + indent(w.join, "    "),
        )  # fmt: skip


def _same_calls(out: Console, audit: Audit, style: str) -> None:
    """Print pairs of senders that report the same calls, and what stops each."""
    from warehouse.audit.same_calls import same_calls_sentence

    if audit.senders_twice:
        pairs = counted(audit.senders_twice, "pair")
        out.print(f"{pairs} of senders with the same calls: their tokens count twice", style=style)
        _print_list(
            out, style, audit.senders_twice, audit.same_calls,
            lambda s: f"{same_calls_sentence(s)}\n" + indent(s.stop, "    "),
        )  # fmt: skip


MAX_LINES = 10
"""Lines of a list. `--json` has twice as many."""


def _print_list(out: Console, style: str, count: int, worst: Sequence[Any], line: Callable[[Any], str]) -> None:
    """Print the first of `worst`, and how many of all `count` cases are not listed."""
    listed = worst[:MAX_LINES]
    for case in listed:
        out.print("  " + line(case), style=style, markup=False, soft_wrap=True)
    if count > len(listed) > 0:
        out.print(f"  and {count - len(listed):,} more", style=style)


def _window(window: Any) -> str:
    return f"{rfc3339(window.window_start_ms)} {window.cluster}/{window.workload}"


def _time(ms: int) -> str:
    """Format a length of time in at most two units."""
    seconds = ms // 1000
    if seconds >= 86_400:
        return f"{seconds // 86_400:,} d {seconds % 86_400 // 3_600} h"
    if seconds >= 3_600:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{ms / 1000:g} s"
