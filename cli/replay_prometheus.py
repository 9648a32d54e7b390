"""`wattlog replay prometheus`: replays months of GPU energy out of Prometheus, Thanos, Mimir or VictoriaMetrics."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Data, Json
from cli.output import errors_reported, progress_bar, step_finished
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

BEARER = "WATTLOG_PROMETHEUS_BEARER"
_STEP_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def prometheus(
    url: Annotated[str, typer.Argument(help="Address of its HTTP API, without /api/v1: http://prometheus:9090.")],
    from_: Annotated[str, typer.Option("--from", help="First moment: RFC 3339 or a date, UTC.")],
    to: Annotated[str, typer.Option("--to", help="Last moment, not in the future.")],
    step: Annotated[str, typer.Option(help="Time between two readings: 30s, 1m. The scrape interval or more.")] = "1m",
    format_: Annotated[
        str, typer.Option("--format", help="Whose series: dcgm, nvidia_gpu_exporter, amd, triton, all_smi, kepler.")
    ] = "dcgm",
    match: Annotated[
        list[str] | None, typer.Option(help="Only series with this label: LABEL=VALUE, or != =~ !~. Repeatable.")
    ] = None,
    cluster: RecordingCluster = "prometheus",
    workload: Annotated[
        str, typer.Option(help="Workload of all GPUs, and of requests without one; without it GPUs are unallocated.")
    ] = "",
    workload_label: Annotated[str, typer.Option(help="Label that names the workload: exported_pod.")] = "",
    owner: Annotated[str, typer.Option(help="Tenant that pays.")] = "",
    owner_label: Annotated[str, typer.Option(help="Label that names the tenant: exported_namespace.")] = "",
    node_label: Annotated[str, typer.Option(help="Label that names the node, instead of the format's.")] = "",
    tokens: Annotated[
        Path | None, typer.Option(help="Requests as `replay csv` reads them: start, end, tenant, model, workload ...")
    ] = None,
    tenant: RequestTenant = "",
    model: RequestModel = "",
    utc_offset: UtcOffset = "+00:00",
    timezone: Timezone = "",
    start: TimeStart = "",
    bearer_file: Annotated[
        Path | None, typer.Option(help=f"File with a bearer token; without it, {BEARER} if set.")
    ] = None,
    user: Annotated[str, typer.Option(help="User of basic authentication.")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File with that user's password.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Further header: NAME=VALUE, such as X-Scope-OrgID=prod. Repeatable.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="Parameter of each query: NAME=VALUE, such as max_source_resolution=5m. Repeatable."),
    ] = None,
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Take answers with warnings.")] = False,
    speed: Speed = 0,
    worker: Worker = True,
    replace: Replace = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Replay months of GPU energy that Prometheus, Thanos, Mimir or VictoriaMetrics hold. Nothing is installed there.

    A replay that is killed continues where it was when it is started again.
    """
    with errors_reported():
        from producers.gpu.exporter_formats import PRESETS
        from producers.runtime.runner import open_recording

        settings = load_settings(data, quiet=True)
        _known("format", format_, tuple(PRESETS))
        question = {
            "exporter_format": PRESETS[format_], "start_ms": _time_ms("from", from_), "end_ms": _time_ms("to", to),
            "step_s": _step_s(step), "matchers": tuple(match or ()), "node_label": node_label,
            "workload_label": workload_label, "owner_label": owner_label, "parameters": _pairs("param", param or ()),
        }  # fmt: skip
        digest = hashlib.sha256(repr((url, allow_partial, question)).encode()).hexdigest()[:12]
        folder = settings.data / "history" / digest
        with progress_bar("moments", as_count=True) as progress:
            recording = open_recording(
                "prometheus", settings, url, **question, folder=folder, now_ms=time.time_ns() // 1_000_000,
                cluster=cluster, workload=workload, owner=owner, allow_partial=allow_partial, progress=progress,
                headers=_headers(bearer_file, user, password_file, header or ()), close_ms=close_ms(settings),
                tokens=tokens, tenant=tenant, model=model, utc_offset=utc_offset, timezone=timezone, start=start,
            )  # fmt: skip
        step_finished(f"history: {recording.rows} rows of {recording.name}")
        run_replay(settings, recording, speed=speed, worker=worker, as_json=as_json, replace=replace)
        shutil.rmtree(folder, ignore_errors=True)  # Only now: until then, it is what a replay continues from.


def _headers(bearer_file: Path | None, user: str, password_file: Path | None, further: Sequence[str]) -> dict[str, str]:
    """Return the headers of each question. Raises BadSetting where a secret cannot be read or two are given."""
    import os

    from contracts.errors import BadSetting

    bearer = _secret("bearer-file", bearer_file) if bearer_file else os.environ.get(BEARER, "")
    headers = _pairs("header", further)
    if user:
        if bearer_file or not password_file:
            raise BadSetting("user", user, "give --password-file with it, and no --bearer-file")
        pair = f"{user}:{_secret('password-file', password_file)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    for name, value in headers.items():
        if not (name.isascii() and value.isascii() and (name + value).isprintable()):
            raise BadSetting("header", name, "a header has printable ASCII characters only")
    return headers


def _secret(option: str, path: Path) -> str:
    from contracts.errors import BadSetting

    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(option, str(path), f"cannot be read: {error}") from None


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return NAME=VALUE options by name."""
    from contracts.errors import BadSetting

    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise BadSetting(option, name, "give NAME=VALUE")
        pairs[name] = value
    return pairs


def _known(option: str, value: str, values: Sequence[str]) -> None:
    from contracts.errors import BadSetting

    if value not in values:
        raise BadSetting(option, value, f"use one of {', '.join(values)}")


def _step_s(text: str) -> int:
    from contracts.errors import BadSetting

    match = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if not match:
        raise BadSetting("step", text, "give seconds, minutes or hours: 30s, 1m, 1h")
    return int(match[1]) * _STEP_S[match[2]]


def _time_ms(option: str, text: str) -> int:
    from contracts.errors import BadSetting
    from producers.recordings.text_lines import time_ms

    try:
        return time_ms(text)
    except ValueError as error:
        raise BadSetting(option, text, str(error)) from None
