"""`wattlog replay prometheus`: GPUs' energy out of Prometheus, Thanos, Mimir or VictoriaMetrics."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from contracts.errors import BadInput
from contracts.topics import check_name
from producers.api import Environment, Kind, Plugin, RecordingReader
from producers.common.http_client import Pages
from producers.gpu.exporter_formats import ExporterFormat
from producers.recordings.base import Recording
from producers.recordings.csv_defaults import csv_defaults
from producers.recordings.prometheus.download import ChunkFolder, HistoryRange, download
from producers.recordings.prometheus.range_query import RangeClient
from producers.recordings.prometheus.recording import HistoryNames, history_recording
from producers.recordings.prometheus.requests import HistoryRequests
from producers.recordings.prometheus.samples import LabelNames
from producers.runtime.config import without_secrets

TIMEOUT_S = 60.0
MAX_STEP_S = 3_600
MAX_READINGS = 20_000_000


def prometheus_history(
    url: str, *, folder: Path, exporter_format: ExporterFormat, start_ms: int, end_ms: int, step_s: int, now_ms: int,
    cluster: str, close_ms: int, matchers: Sequence[str] = (), workload: str = "", owner: str = "",
    node_label: str = "", workload_label: str = "", owner_label: str = "", headers: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None, allow_partial: bool = False, tokens: Path | None = None,
    tenant: str = "", model: str = "", utc_offset: str = "+00:00", timezone: str = "", start: str = "",
    progress: Callable[[int, int], None] = lambda point, points: None, wait: Callable[[float], None] = time.sleep,
) -> Recording:  # fmt: skip
    """Download a history into `folder`, which holds nothing else, and return it as a recording.

    A download that was killed continues there. `progress` gets the moments downloaded so far, and all. `tokens` is a
    file of requests, as `replay csv` reads it with the options behind it. Raises BadInput for options that are wrong, a
    file without readable requests, or a history without energy; Unavailable where the server does not answer.
    """
    _check(url, start_ms, end_ms, step_s, now_ms)
    check_name("cluster", cluster)
    for field, name in (("workload", workload), ("owner", owner)):
        if name:
            check_name(field, name)
    requests = None
    if tokens:
        defaults = csv_defaults(
            cluster=cluster, workload=workload, tenant=tenant, model=model, utc_offset=utc_offset, timezone=timezone,
            start=start,
        )  # fmt: skip
        requests = HistoryRequests(tokens, defaults, start_ms, end_ms)
        requests.check()  # Before a download that may take hours.
    start_s = -(-start_ms // (1000 * step_s)) * step_s
    points = end_ms // 1000 // step_s - start_s // step_s + 1
    if not 2 <= points <= MAX_READINGS:
        raise BadInput("step", step_s, f"gives {points:,} readings of each GPU: give 2 to {MAX_READINGS:,}")
    history = HistoryRange(
        url=url, exporter=exporter_format, matchers=tuple(matchers),
        names=LabelNames(node_label, workload_label, owner_label), start_s=start_s, step_s=step_s, points=points,
    )  # fmt: skip
    chunks = ChunkFolder(folder)
    with Pages(timeout_s=TIMEOUT_S) as pages:
        client = RangeClient(
            url, pages, wait, random.random, headers=headers or {}, parameters=parameters or {},
            allow_partial=allow_partial,
        )  # fmt: skip
        download(client, history, chunks, progress)
    names = HistoryNames(cluster, workload, owner)
    return history_recording(history, chunks, names, close_ms=close_ms, warnings=client.warnings, requests=requests)


def _check(url: str, start_ms: int, end_ms: int, step_s: int, now_ms: int) -> None:
    if not url.startswith(("http://", "https://")):
        raise BadInput("url", url, "give http://HOST:PORT, with its path if it has one, without /api/v1")
    try:
        without_secrets(url)
    except ValueError as error:
        raise BadInput("url", "...", str(error)) from None
    if not 1 <= step_s <= MAX_STEP_S:
        raise BadInput("step", step_s, f"give 1 s to {MAX_STEP_S} s: the scrape interval or more")
    if not start_ms < end_ms:
        raise BadInput("to", end_ms, "must be later than --from")
    if end_ms > now_ms:
        raise BadInput("to", end_ms, "lies in the future")


def build(options: None, environment: Environment) -> RecordingReader:
    """Return the reader."""
    return prometheus_history


PLUGIN: Plugin[None, RecordingReader] = Plugin(
    "prometheus", Kind.RECORDING, "GPUs' energy out of Prometheus, Thanos, Mimir or VictoriaMetrics", build
)
