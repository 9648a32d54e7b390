"""`wattlog up`: sources, worker, warehouse and page of one node, in one process."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.event_loop import STOP_S, run_until_stopped
from cli.options import Data
from cli.output import errors_reported, note, step_finished
from cli.settings import load_settings


def up(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port of the API and the page; 0 picks a free one.")] = None,
) -> None:
    """Run everything that one node needs, until Ctrl-C: sources, receiver, worker, warehouse, API and page.

    Reads what wattlog.toml configures (`wattlog init` writes one), and the GPUs through NVML unless an exporter is
    configured. Without Kafka the event log is a file in --data, so that a restart loses nothing.

    Example: wattlog init && wattlog up
    """
    with errors_reported():
        from cli.up_run import UpRun
        from contracts.settings import settings_file

        settings = load_settings(data, quiet=True, api_port=port)
        if not settings_file().is_file():
            note(f"There is no {settings_file()}: `wattlog init` writes one. Going on with defaults.")
        own = settings.embedded_broker or not settings.warehouse_dsn
        run_until_stopped(UpRun(settings, step_finished, note).run(), stop_s=STOP_S if own else None)
