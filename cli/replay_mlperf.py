"""`wattlog replay mlperf`: replays an MLPerf power run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Data, Json
from cli.output import errors_reported
from cli.replay import RecordingCluster, Replace, Speed, UtcOffset, Worker, close_ms, run_replay
from cli.settings import load_settings


def mlperf(
    directory: Annotated[Path, typer.Argument(help="Folder with mlperf_log_detail.txt and spl.txt.")],
    cluster: RecordingCluster = "mlperf",
    utc_offset: UtcOffset = "+00:00",
    power_utc_offset: Annotated[
        str | None, typer.Option(help="Time zone of spl.txt, if its machine had another one.")
    ] = None,
    edges: Annotated[
        str,
        typer.Option(
            help="`readings`: from the first to the last reading inside the run, as MLPerf does; "
            "`interpolated`: to the exact stamps."
        ),
    ] = "readings",
    speed: Speed = 0,
    worker: Worker = True,
    replace: Replace = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Replay an MLPerf power run: the log of the wall meter beside MLPerf's own.

    Gives J/token over [power_begin, power_end).
    """
    with errors_reported():
        from producers.runtime.runner import open_recording

        settings = load_settings(data, quiet=True)
        recording = open_recording(
            "mlperf",
            settings,
            directory,
            cluster=cluster,
            utc_offset=utc_offset,
            power_utc_offset=power_utc_offset,
            edges=edges,
            close_ms=close_ms(settings),
        )
        run_replay(settings, recording, speed=speed, worker=worker, as_json=as_json, replace=replace)
