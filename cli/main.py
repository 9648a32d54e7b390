"""The `wattlog` command.

Commands import what they need when they run: the image of a node's agent has no warehouse, API or stream worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

from cli.anomalies import anomalies
from cli.audit import audit
from cli.bill import bill
from cli.bills import bills
from cli.book import book
from cli.chargeback import chargeback
from cli.close import close
from cli.config import config
from cli.demo import demo
from cli.doctor import doctor
from cli.efficiency import efficiency
from cli.explain import explain
from cli.export import export
from cli.fleet import fleet
from cli.forecast import forecast
from cli.init import init
from cli.key import key
from cli.latency import latency
from cli.migrate import migrate
from cli.price import price
from cli.produce import produce
from cli.receipt import receipt
from cli.reconcile import reconcile
from cli.reference import GROUPS, ReferenceGroup
from cli.reopen import reopen
from cli.replay_azure import azure
from cli.replay_csv import csv
from cli.replay_mlperf import mlperf
from cli.replay_plugin import ReplayGroup
from cli.replay_prometheus import prometheus
from cli.requests import requests
from cli.serve import serve
from cli.session import session
from cli.sessions import sessions
from cli.sql import sql
from cli.stream import stream
from cli.tenant_user import tenant_user
from cli.up import up
from cli.usage import usage

RUN, ASK, BILL, EDIT, CHECK = "Run", "Ask the ledger", "Bill", "Edit reference data", "Check"
COMMANDS: Mapping[str, tuple[Callable[..., Any], ...]] = {
    RUN: (demo, init, up, produce, stream, serve, migrate),
    ASK: (
        chargeback,
        usage,
        session,
        sessions,
        requests,
        receipt,
        fleet,
        efficiency,
        latency,
        anomalies,
        forecast,
        reconcile,
        explain,
        sql,
    ),
    BILL: (bills, bill, close, reopen),
    CHECK: (doctor, config),
}
"""Commands by panel, in the order of `wattlog --help`."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="An energy ledger for AI inference fleets: every joule to a tenant, balanced to the microjoule.\n\n"
    "Try it: [bold]wattlog demo[/bold]. Then ask: [bold]wattlog chargeback[/bold], "
    "[bold]wattlog explain TENANT[/bold], [bold]wattlog forecast[/bold]. "
    "Settings: [bold]wattlog config[/bold]. Problems: [bold]wattlog doctor[/bold].",
)
replay = typer.Typer(
    cls=ReplayGroup,
    no_args_is_help=True,
    help="Replay a recording through the topics, the worker and the tables, and show its part of the ledger.\n\n"
    "Uses the embedded broker unless WATTLOG_KAFKA_BOOTSTRAP names a real one. "
    "docs/replay.md has the columns and rules.",
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for command in (mlperf, azure, csv, prometheus):
    replay.command()(command)
app.add_typer(replay, name="replay", rich_help_panel=RUN)
app.add_typer(audit, name="audit", rich_help_panel=ASK)
for name, text in GROUPS.items():
    help_ = f"{text}\n\ndocs/reference-data.md describes the files."
    app.add_typer(typer.Typer(cls=ReferenceGroup, no_args_is_help=True, help=help_), name=name, rich_help_panel=EDIT)
app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(price)
app.add_typer(book, name="book", rich_help_panel=BILL)
app.add_typer(export, name="export", rich_help_panel=BILL)
app.add_typer(key, name="key", rich_help_panel=CHECK)
app.add_typer(tenant_user, name="tenant-user", rich_help_panel=CHECK)


def main() -> None:
    """Run the console script."""
    app()
