"""`wattlog replay`: recordings through the same topics, worker and tables as a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cli.options import Data, Json, err, errors_told, load_settings
from cli.output import print_json
from cli.run import until_stopped

if TYPE_CHECKING:
    from contracts.settings import Settings
    from producers.recordings import Recording

app = typer.Typer(
    no_args_is_help=True,
    help="Feed a recording through the topics, the worker and the tables, and show what the ledger says of it.\n\n"
    "Against the embedded broker unless WATTLOG_KAFKA_BOOTSTRAP names a real one. "
    "docs/replay.md has the columns and rules.",
)

Speed = Annotated[
    float, typer.Option(help="Event time per wall time: 60 is a minute a second; 0 as fast as possible.", min=0)
]
Cluster = Annotated[str, typer.Option(help="Cluster that the rows are filed under.")]
Offset = Annotated[str, typer.Option(help="Zone of stamps that name none: +HH:MM or -HH:MM.")]
Worker = Annotated[
    bool,
    typer.Option(
        "--worker/--no-worker", help="Run a worker in this process, or leave it to `wattlog stream` elsewhere."
    ),
]


@app.command()
def mlperf(
    directory: Annotated[Path, typer.Argument(help="Folder with mlperf_log_detail.txt and spl.txt.")],
    cluster: Cluster = "mlperf",
    utc_offset: Offset = "+00:00",
    power_utc_offset: Annotated[str | None, typer.Option(help="Zone of spl.txt, if its machine kept another.")] = None,
    edges: Annotated[
        str, typer.Option(help="`readings`: from the first to the last reading inside the run, as MLPerf does; "
                               "`interpolated`: to the very stamps.")
    ] = "readings",
    speed: Speed = 0,
    worker: Worker = True,
    data: Data = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """An MLPerf power run: the wall meter's log beside MLPerf's own. Gives J/token over [power_begin, power_end)."""
    with errors_told():
        from producers.recordings import mlperf as read

        settings = load_settings(data, quiet=True)
        recording = read(
            directory, cluster=cluster, utc_offset=utc_offset, power_utc_offset=power_utc_offset, edges=edges,  # type: ignore[arg-type]
            close_ms=_close_ms(settings),
        )  # fmt: skip
        _replay(settings, recording, speed=speed, worker=worker, as_json=as_json)


@app.command()
def azure(
    file: Annotated[
        Path, typer.Argument(help="An Azure LLM inference trace: TIMESTAMP, ContextTokens, GeneratedTokens.")
    ],
    cluster: Cluster = "azure",
    tenants: Annotated[
        int, typer.Option(help="So many tenants share the requests, by a hash of the line number.", min=1)
    ] = 8,
    speed: Speed = 0,
    worker: Worker = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """A real request trace with a power model of stated coefficients: its energy is SIMULATED, its requests are not."""
    with errors_told():
        from producers.recordings import azure as read

        settings = load_settings(data, quiet=True)
        recording = read(file, cluster=cluster, tenants=tenants, close_ms=_close_ms(settings))
        _replay(settings, recording, speed=speed, worker=worker, as_json=as_json)


@app.command()
def csv(
    tokens: Annotated[
        Path, typer.Option(help="Requests: start, end, tenant, model, prompt_tokens, completion_tokens ...")
    ],
    power: Annotated[
        Path, typer.Option(help="Power: time, gpu and power_w or energy_mj ...; or nvidia-smi's own CSV.")
    ],
    cluster: Cluster = "csv",
    workload: Annotated[str, typer.Option(help="Workload of rows that name none.")] = "csv",
    node: Annotated[str, typer.Option(help="Node of rows that name none.")] = "csv",
    gpu: Annotated[str, typer.Option(help="GPU of rows that name none.")] = "gpu-0",
    hardware: Annotated[str, typer.Option(help="Hardware of rows that name none.")] = "unknown",
    owner: Annotated[str, typer.Option(help="Tenant that pays when the workload is idle.")] = "",
    utc_offset: Offset = "+00:00",
    speed: Speed = 0,
    worker: Worker = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Your own recordings. A malformed row is reported, goes to the dead-letter topic, and the rest goes on."""
    with errors_told():
        from producers.recordings import csv_recording as read

        settings = load_settings(data, quiet=True)
        recording = read(
            tokens, power, cluster=cluster, workload=workload, node=node, gpu=gpu, hardware=hardware, owner=owner,
            utc_offset=utc_offset, close_ms=_close_ms(settings),
        )  # fmt: skip
        _replay(settings, recording, speed=speed, worker=worker, as_json=as_json)


def _close_ms(settings: Settings) -> int:
    """How far past its end a recording's heartbeats must reach for its last window to become final."""
    return settings.lateness_ms + settings.skew_ms + settings.window_ms


def _replay(settings: Settings, recording: Recording, *, speed: float, worker: bool, as_json: bool) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cli.replaying import replay
    from contracts.errors import LedgerError

    answer: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    async def work() -> None:
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("rows", total=recording.rows)
            answer.update(
                await replay(
                    settings, recording, speed=speed, worker=worker,
                    told=lambda text: err.print(f"[green]✓[/green] {text}", soft_wrap=True),
                    progress=lambda rows: bar.update(task, completed=rows),
                )
            )  # fmt: skip

    until_stopped(work())
    if not answer:
        raise typer.Exit(130)
    if as_json:
        print_json(answer)
    else:
        _show(Console(highlight=False), recording, answer)
    if answer["residual_uj"]:
        raise LedgerError(f"the ledger does not balance: residual {answer['residual_uj']} uJ; run `wattlog audit`")


def _show(out: Console, recording: Recording, answer: dict[str, Any]) -> None:
    from contracts.units import joules

    simulated = "  [bold]SIMULATED energy[/bold]" if answer["simulated"] else ""
    out.print(f"[bold]{recording.name}[/bold]{simulated}")
    per = answer["joules_per_token"]
    edges = f", and {joules(answer['edges_uj']):,.3f} J at the window's edges" if answer["edges_uj"] else ""
    rows = {
        "window": f"[{answer['window_start']}, {answer['window_end']})",
        "requests": f"{answer['requests']:,}",
        "tokens": f"{answer['prompt_tokens']:,} prompt, {answer['completion_tokens']:,} completion",
        "energy": f"{joules(answer['energy_uj']):,.3f} J" + edges,
        "J/token": "no tokens" if per is None else f"{per:.6f}",
        "residual": f"{answer['residual_uj']} µJ",
        "dead letters": str(answer["dead_letters"]),
        "ledger sha256": answer["ledger_sha256"],
    }
    for name, value in rows.items():
        out.print(f"  {name:14} {value}", soft_wrap=True)
    for name, value in answer["references"].items():
        out.print(f"  recorded: {name} {value}", soft_wrap=True)
    for note in answer["notes"]:
        out.print(f"  note: {note}", soft_wrap=True)
    for bad in answer["bad_rows"]:
        out.print("  dead letter: ", end="")
        out.print(bad, soft_wrap=True, markup=False)
