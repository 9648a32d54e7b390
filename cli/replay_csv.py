"""`wattlog replay csv`: replays a user's own recordings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Data, Json
from cli.output import errors_reported
from cli.replay import (
    RecordingCluster,
    Replace,
    RequestModel,
    RequestTenant,
    Speed,
    TimeStart,
    Timezone,
    UtcOffset,
    Worker,
    close_ms,
    run_replay,
)
from cli.settings import load_settings


def csv(
    power: Annotated[
        Path,
        typer.Option(help="Power: time, gpu, power_w or energy_mj ...; or nvidia-smi's own CSV. Also .gz, .zst."),
    ],
    tokens: Annotated[
        Path | None,
        typer.Option(help="Requests: start, end, tenant, model, prompt_tokens ...; without, all energy is idle."),
    ] = None,
    cluster: RecordingCluster = "csv",
    workload: Annotated[str, typer.Option(help="Workload of rows without one.")] = "csv",
    node: Annotated[str, typer.Option(help="Node of rows without one.")] = "csv",
    gpu: Annotated[str, typer.Option(help="GPU of rows without one.")] = "gpu-0",
    hardware: Annotated[str, typer.Option(help="Hardware of rows without one.")] = "unknown",
    owner: Annotated[str, typer.Option(help="Tenant that pays while the workload is idle.")] = "",
    tenant: RequestTenant = "",
    model: RequestModel = "",
    utc_offset: UtcOffset = "+00:00",
    timezone: Timezone = "",
    start: TimeStart = "",
    speed: Speed = 0,
    worker: Worker = True,
    replace: Replace = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Replay your own recordings.

    A malformed row is reported and goes to the dead-letter topic; the replay continues. What was assumed, corrected or
    estimated is in the notes at the end. A file that cannot be believed as it is, is refused before anything is sent.
    """
    with errors_reported():
        from producers.runtime.runner import open_recording

        settings = load_settings(data, quiet=True)
        recording = open_recording(
            "csv",
            settings,
            tokens,
            power,
            cluster=cluster,
            workload=workload,
            node=node,
            gpu=gpu,
            hardware=hardware,
            owner=owner,
            tenant=tenant,
            model=model,
            utc_offset=utc_offset,
            timezone=timezone,
            start=start,
            now_ms=time.time_ns() // 1_000_000,
            close_ms=close_ms(settings),
        )
        run_replay(settings, recording, speed=speed, worker=worker, as_json=as_json, replace=replace)
