"""`wattlog stream`: runs one stream worker."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.event_loop import run_until_stopped
from cli.options import Data
from cli.output import errors_reported
from cli.settings import load_settings


def stream(
    data: Data = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Continue although the log lost messages that were not read; the audit shows them."
        ),
    ] = False,
) -> None:
    """Run one worker: read the log, attribute energy, and store the ledger and usage. Several workers share partitions.

    Needs WATTLOG_KAFKA_BOOTSTRAP, and WATTLOG_WAREHOUSE_DSN unless it is the only process on the embedded warehouse.

    Example: WATTLOG_KAFKA_BOOTSTRAP=localhost:9092 WATTLOG_WAREHOUSE_DSN=http://localhost:8123/wattlog wattlog stream
    """
    with errors_reported():
        from cli.embedded import worker_until_stopped

        run_until_stopped(worker_until_stopped(load_settings(data), accept_loss=accept_loss))
