"""`wattlog replay`: replays recordings through the same topics, worker and tables as a fleet.

Each kind of recording is a command of its own, `cli.replay_...`; they share these options and `run_replay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cli.event_loop import STOP_S, run_until_stopped
from cli.output import print_json, stderr, step_finished

if TYPE_CHECKING:
    from contracts.settings import Settings
    from producers.recordings.base import Recording

Speed = Annotated[
    float, typer.Option(help="Event time per wall time: 60 is a minute a second; 0 as fast as possible.", min=0)
]
RecordingCluster = Annotated[str, typer.Option(help="Cluster of the rows in the ledger.")]
UtcOffset = Annotated[str, typer.Option(help="Time zone of stamps without one: +HH:MM or -HH:MM.")]
Timezone = Annotated[
    str, typer.Option(help="Zone of stamps without one by name, such as Europe/Berlin, with its summer time.")
]
TimeStart = Annotated[str, typer.Option("--start", help="When relative times (elapsed_s, plain seconds) were 0.")]
RequestTenant = Annotated[str, typer.Option("--tenant", help="Tenant of requests without one.")]
RequestModel = Annotated[str, typer.Option("--model", help="Model of requests without one.")]
Worker = Annotated[
    bool,
    typer.Option(
        "--worker/--no-worker", help="Run a worker in this process, or leave it to `wattlog stream` elsewhere."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace the windows that another recording filled in this cluster.")
]


def close_ms(settings: Settings) -> int:
    """Return how far past its end a recording's heartbeats must reach to make its last window final."""
    return settings.lateness_ms + settings.skew_ms + settings.window_ms


def run_replay(
    settings: Settings, recording: Recording, *, speed: float, worker: bool, as_json: bool, replace: bool = False
) -> None:
    """Replay a recording with a progress bar, and print the summary. Raises LedgerError if it does not balance."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cli.replay_run import replay
    from contracts.errors import LedgerError

    summary: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    async def run() -> None:
        with Progress(*columns, console=stderr, transient=True) as bar:
            task = bar.add_task("rows", total=recording.rows)
            summary.update(
                await replay(
                    settings,
                    recording,
                    speed=speed,
                    worker=worker,
                    replace=replace,
                    step=step_finished,
                    progress=lambda rows: bar.update(task, completed=rows),
                )
            )

    run_until_stopped(run(), stop_s=STOP_S if settings.embedded_broker else None)
    if not summary:
        raise typer.Exit(130)
    if as_json:
        print_json(summary)
    else:
        _print_summary(Console(highlight=False), recording, summary)
    if summary["residual_uj"]:
        raise LedgerError(f"the ledger does not balance: residual {summary['residual_uj']} uJ; run `wattlog audit`")


def _joules_per_token(summary: dict[str, Any]) -> str:
    tokens = summary["prompt_tokens"] + summary["completion_tokens"]
    if not tokens:
        return "no tokens"
    if summary["joules_per_token"] is None:
        return "unmetered"
    unmetered = summary["unmetered_tokens"]
    return f"{summary['joules_per_token']:.6f}" + (f", {unmetered:,} of the tokens are unmetered" if unmetered else "")


def _print_summary(out: Console, recording: Recording, summary: dict[str, Any]) -> None:
    from contracts.units import joules

    simulated = "  [bold]SIMULATED energy[/bold]" if summary["simulated"] else ""
    out.print(f"[bold]{recording.name}[/bold]{simulated}")
    edges = f", and {joules(summary['edges_uj']):,.3f} J at the window's edges" if summary["edges_uj"] else ""
    rows = {
        "window": f"[{summary['window_start']}, {summary['window_end']})",
        "requests": f"{summary['requests']:,}",
        "tokens": f"{summary['prompt_tokens']:,} prompt, {summary['completion_tokens']:,} completion",
        "energy": f"{joules(summary['energy_uj']):,.3f} J" + edges,
        "J/token": _joules_per_token(summary),
        "residual": f"{summary['residual_uj']} µJ",
        "dead letters": str(summary["dead_letters"]),
        "ledger sha256": summary["ledger_sha256"],
    }
    for name, value in rows.items():
        out.print(f"  {name:14} {value}", soft_wrap=True)
    for name, value in summary["references"].items():
        out.print(f"  recorded: {name} {value}", soft_wrap=True)
    for note in summary["notes"]:
        out.print(f"  note: {note}", soft_wrap=True)
    for bad in summary["bad_rows"]:
        out.print("  dead letter: ", end="")
        out.print(bad, soft_wrap=True, markup=False)
