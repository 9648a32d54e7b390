"""`wattlog demo`: the full pipeline on one machine, on a SIMULATED fleet."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.event_loop import STOP_S, run_until_stopped
from cli.options import Data, Json
from cli.output import errors_reported, print_json, stderr, step_finished
from cli.settings import load_settings

if TYPE_CHECKING:
    from cli.demo_run import DemoResult
    from cli.log_feed import FeedProgress


def demo(
    data: Data = None,
    leave: Annotated[bool, typer.Option("--exit", help="Exit after the first ledger, with status 0.")] = False,
    as_json: Json = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same ledger, hash for hash.", min=0)] = 1,
    port: Annotated[int | None, typer.Option(help="Port of the API and the page; 0 picks a free one.")] = None,
) -> None:
    """See a ledger that balances, on one machine, from a SIMULATED fleet.

    Starts the full pipeline in this process: an in-process Kafka broker, a Faust worker, ClickHouse (chdb), the API and
    a page. It stores four SIMULATED months, streams ten minutes of 48 GPUs, and prints the ledger. Then it streams on,
    live, until Ctrl-C. The ledger in --data can be queried afterwards: `wattlog chargeback`, `forecast`, `explain`.

    Example: wattlog demo --exit --json | jq .residual_uj
    """
    with errors_reported():
        from cli.demo_run import DemoRun

        settings = load_settings(data, quiet=True, api_port=port, kafka_bootstrap="embedded", warehouse_dsn="")
        display = _Display(as_json=as_json, leave=leave, data=data)
        run_until_stopped(DemoRun(settings, seed, display, leave=leave).run(), stop_s=STOP_S)


class _Display:
    """Prints the demo's steps on stderr and its result on stdout."""

    def __init__(self, *, as_json: bool, leave: bool, data: Path | None) -> None:
        self._as_json, self._leave, self._data = as_json, leave, data

    def step(self, text: str) -> None:
        step_finished(text)

    def result(self, result: DemoResult, address: str, planted: tuple[str, ...]) -> None:
        if self._as_json:
            print_json(result.as_json())
            return
        out = Console(highlight=False)
        _print_ledger(out, result, planted)
        _print_next_steps(out, address, leave=self._leave, data=self._data)

    def live(self, sent: FeedProgress) -> None:
        from contracts.units import rfc3339

        if sys.stderr.isatty():
            stderr.print(f"  live, SIMULATED: {rfc3339(sent.newest_ms)}  {sent.rows} rows sent since", end="\r")


def _print_ledger(out: Console, result: DemoResult, planted: tuple[str, ...]) -> None:
    from contracts.units import joules

    table = Table(title="Ledger of ten minutes, SIMULATED fleet", title_justify="left", show_footer=True)
    total_uj = sum(r.energy_uj for r in result.tenants)
    costs = [r.cost for r in result.tenants if r.cost is not None]
    table.add_column("tenant", footer="total")
    table.add_column("tokens", justify="right", footer=f"{sum(r.tokens for r in result.tenants):,}")
    table.add_column("energy, kJ", justify="right", footer=f"{joules(total_uj) / 1000:,.3f}")
    table.add_column("J/token", justify="right")
    table.add_column("charge", justify="right", footer=f"{sum(costs):.6f}")
    for r in result.tenants:
        ratio = "" if r.joules_per_token is None else f"{r.joules_per_token:.4f}"
        charge = "no price" if r.cost is None else f"{r.cost:f} {r.currency}"
        table.add_row(r.tenant, f"{r.tokens:,}", f"{joules(r.energy_uj) / 1000:,.3f}", ratio, charge)
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


def _print_next_steps(out: Console, address: str, *, leave: bool, data: Path | None) -> None:
    where = f" --data {data}" if data else ""
    program = _program()
    if leave:
        out.print(f"\nNext: [bold]{program} explain globex-chat --window latest{where}[/bold]", soft_wrap=True)
        out.print(
            f"      [bold]{program} chargeback{where}[/bold], [bold]{program} forecast{where}[/bold], "
            f"[bold]{program} anomalies{where}[/bold]",
            soft_wrap=True,
        )
        return
    out.print(f"\npage  {address}/\nAPI   {address}/v1/chargeback   (OpenAPI: {address}/openapi.json)", soft_wrap=True)
    out.print(f"\nNext: [bold]curl '{address}/v1/explain?tenant=globex-chat'[/bold]", soft_wrap=True)
    out.print(
        "The stream continues at ten times the speed of time. Ctrl-C ends it; "
        f"then [bold]{program} chargeback{where}[/bold] and the other commands work.",
        soft_wrap=True,
    )


def _program() -> str:
    """Return what to type for this program: its name, or its path if the shell would not find it (`make demo`)."""
    path = Path(sys.argv[0])
    return str(path) if path.name == "wattlog" and shutil.which("wattlog") is None else "wattlog"
