"""Commands that run something: demo, produce, stream, serve, migrate."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.options import Data, Json, err, errors_told, load_settings
from cli.output import print_json

if TYPE_CHECKING:
    from cli.demo import Result
    from cli.feed import Sent

PANEL = "Run"


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (demo, produce, stream, serve, migrate):
        app.command(rich_help_panel=PANEL)(command)


def until_stopped(work: Any) -> None:
    """Run a coroutine until it ends, or SIGINT or SIGTERM asks it to: then it is cancelled, and cleans up."""

    async def main() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


def demo(
    data: Data = None,
    leave: Annotated[bool, typer.Option("--exit", help="End after the first ledger, with exit status 0.")] = False,
    as_json: Json = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same ledger, hash for hash.", min=0)] = 1,
    port: Annotated[int | None, typer.Option(help="Port of the API and the page; 0 picks a free one.")] = None,
) -> None:
    """See a ledger that balances, on one machine, from a SIMULATED fleet.

    Brings up the whole line in this process: an in-process Kafka broker, a Faust worker, ClickHouse (chdb), the API
    and a page; lays down four SIMULATED months; streams ten minutes of 48 GPUs; shows the ledger. It then goes on,
    live, until Ctrl-C. What it leaves in --data can be asked afterwards: `wattlog chargeback`, `forecast`, `explain`.

    Example: wattlog demo --exit --json | jq .residual_uj
    """
    with errors_told():
        from cli.demo import Demo

        settings = load_settings(data, quiet=True, api_port=port, kafka_bootstrap="embedded", warehouse_dsn="")
        out = Console(highlight=False)

        def show(result: Result, address: str, planted: tuple[str, ...]) -> None:
            if as_json:
                print_json(result.as_json())
            else:
                _show_demo(out, result, address, planted, leave=leave, data=data)

        def tick(text: str) -> None:
            err.print(f"[green]✓[/green] {text}", soft_wrap=True)

        until_stopped(Demo(settings, seed, tick, show, _live).run(leave=leave))


def _live(sent: Sent) -> None:
    from contracts.units import rfc3339

    if sys.stderr.isatty():
        err.print(f"  live, SIMULATED: {rfc3339(sent.newest_ms)}  {sent.rows} rows sent since", end="\r")


def _show_demo(
    out: Console, result: Result, address: str, planted: tuple[str, ...], *, leave: bool, data: object
) -> None:
    from contracts.units import joules

    table = Table(title="Ledger of ten minutes, SIMULATED fleet", title_justify="left", show_footer=True)
    total = sum(r.energy_uj for r in result.tenants)
    costs = [r.cost for r in result.tenants if r.cost is not None]
    table.add_column("tenant", footer="total")
    table.add_column("tokens", justify="right", footer=f"{sum(r.tokens for r in result.tenants):,}")
    table.add_column("energy, kJ", justify="right", footer=f"{joules(total) / 1000:,.3f}")
    table.add_column("J/token", justify="right")
    table.add_column("charge", justify="right", footer=f"{sum(costs):.6f}")
    for r in result.tenants:
        per = "" if r.joules_per_token is None else f"{r.joules_per_token:.4f}"
        charge = "no price" if r.cost is None else f"{r.cost} {r.currency}"
        table.add_row(r.tenant, f"{r.tokens:,}", f"{joules(r.energy_uj) / 1000:,.3f}", per, charge)
    out.print(table)
    a = result.audit
    out.print("measured = active + idle + unallocated")
    out.print(
        f"{a.measured_uj:,} = {a.active_uj:,} + {a.idle_uj:,} + {a.unallocated_uj:,} µJ, "
        f"[bold]residual {a.residual_uj} µJ[/bold]",
        soft_wrap=True,
    )
    out.print(f"ledger sha256 {result.ledger_sha256}\n", soft_wrap=True)
    for note in planted:
        out.print(f"planted in the history: {note}", soft_wrap=True)
    where = f" --data {data}" if data else ""
    me = _program()
    if leave:
        out.print(f"\nNext: [bold]{me} explain globex-chat --window latest{where}[/bold]", soft_wrap=True)
        out.print(
            f"      [bold]{me} chargeback{where}[/bold], [bold]{me} forecast{where}[/bold], "
            f"[bold]{me} anomalies{where}[/bold]",
            soft_wrap=True,
        )
        return
    out.print(f"\npage  {address}/\nAPI   {address}/v1/chargeback   (OpenAPI: {address}/openapi.json)", soft_wrap=True)
    out.print(f"\nNext: [bold]curl '{address}/v1/explain?tenant=globex-chat'[/bold]", soft_wrap=True)
    out.print(
        "The stream goes on, ten times as fast as time. Ctrl-C ends it; "
        f"then [bold]{me} chargeback{where}[/bold] and the rest work.",
        soft_wrap=True,
    )


def _program() -> str:
    """What to type for this program: its name, or its path where a shell would not find it (after `make demo`)."""
    given = Path(sys.argv[0])
    return str(given) if given.name == "wattlog" and shutil.which("wattlog") is None else "wattlog"


def produce(
    source: Annotated[str, typer.Argument(help="What to read: see --list.", show_default=False)] = "",
    list_: Annotated[bool, typer.Option("--list", help="Name the producers and end.")] = False,
    backfill: Annotated[float, typer.Option(help="simulated only: start so many minutes ago.", min=0)] = 0.0,
    speed: Annotated[float, typer.Option(help="simulated only: how fast a backfill runs.", min=0.1)] = 60.0,
    seed: Annotated[int, typer.Option(help="simulated only: which fleet.", min=0)] = 1,
) -> None:
    """Read a node's energy (or simulate a fleet) and publish it to Kafka, until SIGINT or SIGTERM.

    Example: WATTLOG_KAFKA_BOOTSTRAP=localhost:9092 WATTLOG_CLUSTER=c1 WATTLOG_WORKLOAD=llama wattlog produce nvml
    """
    with errors_told():
        from contracts.errors import BadSetting
        from producers import registry
        from producers.runtime.runner import stop_on_signals

        if list_:
            for name, summary in registry.names().items():
                typer.echo(f"{name:12} {summary}")
            return
        if not source:
            raise BadSetting("source", source, f"name one of {', '.join(registry.names())}, or ask --list")
        settings = load_settings()
        simulated = {"speed": speed, "seed": seed, "backfill_ms": round(backfill * 60_000)}
        options = simulated if source == "simulated" else {}
        registry.produce(source, settings, stop_on_signals(), **options)


def stream(
    data: Data = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Go on although the log lost messages that were not read; the audit shows it."
        ),
    ] = False,
) -> None:
    """Run one worker: read the log, attribute, store the ledger; store usage. Several share the partitions.

    Needs WATTLOG_KAFKA_BOOTSTRAP, and WATTLOG_WAREHOUSE_DSN unless it is the only process on the embedded warehouse.

    Example: WATTLOG_KAFKA_BOOTSTRAP=localhost:9092 WATTLOG_WAREHOUSE_DSN=http://localhost:8123/wattlog wattlog stream
    """
    with errors_told():
        from cli.embedded import worker_until_stopped

        until_stopped(worker_until_stopped(load_settings(data), accept_loss=accept_loss))


def serve(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
) -> None:
    """Serve the API and the page over the warehouse.

    Without a key it listens on loopback only; set WATTLOG_API_JWT_KEY to serve others.
    """
    with errors_told():
        from cli.embedded import serve_until_stopped

        until_stopped(serve_until_stopped(load_settings(data, api_port=port), lambda text: err.print(text)))


def migrate(
    data: Data = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Lay down the simulated fleet's prices, tenants and idle floors too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the warehouse's tables and Kafka's topics up to date. Safe to run again."""
    with errors_told():
        from cli.opening import open_warehouse
        from producers.runtime.publisher import kafka_config
        from streams.kafka_admin import ensure_topics
        from streams.startup import prepare_warehouse

        settings = load_settings(data)
        with open_warehouse(settings) as warehouse:
            applied = prepare_warehouse(warehouse, durable=settings.durable or None)
            if simulated:
                from cli.simulation import lay_reference

                lay_reference(warehouse, settings)
            where = warehouse.where
        topics = [] if settings.embedded_broker else ensure_topics(settings, kafka_config(settings))
        if as_json:
            print_json({"warehouse": where, "migrations": applied, "topics": topics})
            return
        typer.echo(f"{where}: {', '.join(applied) or 'up to date'}")
        if not settings.embedded_broker:
            typer.echo(f"{settings.kafka_bootstrap}: {', '.join(topics) or 'topics are there'}")
