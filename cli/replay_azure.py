"""`wattlog replay azure`: replays a request trace of Azure with a power model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Data, Json
from cli.output import errors_reported
from cli.replay import RecordingCluster, Replace, Speed, Worker, close_ms, run_replay
from cli.settings import load_settings


def azure(
    file: Annotated[
        Path, typer.Argument(help="An Azure LLM inference trace: TIMESTAMP, ContextTokens, GeneratedTokens.")
    ],
    cluster: RecordingCluster = "azure",
    tenants: Annotated[
        int, typer.Option(help="Number of tenants that share the requests, by a hash of the line number.", min=1)
    ] = 8,
    speed: Speed = 0,
    worker: Worker = True,
    replace: Replace = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Replay a real request trace with a power model of stated coefficients.

    Its energy is SIMULATED, its requests are not.
    """
    with errors_reported():
        from producers.runtime.runner import open_recording

        settings = load_settings(data, quiet=True)
        options = {"cluster": cluster, "tenants": tenants, "close_ms": close_ms(settings)}
        recording = open_recording("azure", settings, file, **options)
        run_replay(settings, recording, speed=speed, worker=worker, as_json=as_json, replace=replace)
