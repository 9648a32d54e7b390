"""`wattlog serve`: serves the API and its page."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.event_loop import STOP_S, run_until_stopped
from cli.options import Data
from cli.output import errors_reported, stderr
from cli.settings import load_settings


def serve(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
) -> None:
    """Serve the API and its page over the warehouse.

    Without a key it listens on loopback only. Set WATTLOG_API_JWT_KEY to serve other machines.
    """
    with errors_reported():
        from cli.api_server import serve_until_stopped

        settings = load_settings(data, api_port=port)
        serving = serve_until_stopped(settings, lambda text: stderr.print(text))
        run_until_stopped(serving, stop_s=None if settings.warehouse_dsn else STOP_S)
