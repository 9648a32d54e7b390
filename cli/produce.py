"""`wattlog produce`: runs a producer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.output import errors_reported
from cli.settings import load_settings

PARTS = {
    "SERVER": "Inference servers that `servers` reads: `server` of [[produce.servers.at]]",
    "ROUTE": "Routes of `http`",
    "BINDING": "Sources of bindings: `source` of [produce.bindings]",
    "RECORDING": "Recordings that `wattlog replay` replays",
}
"""Plug-ins that a producer or another command uses, by the name of their kind."""


def produce(
    source: Annotated[str, typer.Argument(help="Name of the producer: see --list.", show_default=False)] = "",
    list_: Annotated[bool, typer.Option("--list", help="List the producers and their plug-ins, and exit.")] = False,
    backfill: Annotated[float, typer.Option(help="simulated only: start this many minutes ago.", min=0)] = 0.0,
    speed: Annotated[float, typer.Option(help="simulated only: speed of the backfill.", min=0.1)] = 60.0,
    seed: Annotated[int, typer.Option(help="simulated only: seed of the fleet.", min=0)] = 1,
) -> None:
    """Read a node's energy (or simulate a fleet) and publish it to Kafka, until SIGINT or SIGTERM.

    Example: WATTLOG_KAFKA_BOOTSTRAP=localhost:9092 WATTLOG_CLUSTER=c1 WATTLOG_WORKLOAD=llama wattlog produce nvml
    """
    with errors_reported():
        from contracts.errors import BadSetting
        from producers import registry
        from producers.api import PRODUCERS, Kind
        from producers.runtime.runner import run, stop_on_signals

        if list_:
            for plugin in registry.plugins(*PRODUCERS):
                typer.echo(f"{plugin.name:12} {plugin.summary}")
            for kind, use in PARTS.items():
                typer.echo(f"\n{use}")
                for plugin in registry.plugins(Kind[kind]):
                    typer.echo(f"  {plugin.name:12} {plugin.summary}")
            return
        if not source:
            raise BadSetting("source", source, f"name one of {', '.join(registry.names())}, or ask --list")
        settings = load_settings()
        simulated = {"speed": speed, "seed": seed, "backfill_ms": round(backfill * 60_000)}
        arguments: dict[str, Any] = simulated if source == "simulated" else {}
        run(source, settings, stop_on_signals(), **arguments)
