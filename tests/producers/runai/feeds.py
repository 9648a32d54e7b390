"""Feeds of `wattlog produce runai`: a sample, a measurement, or the answer about one workload of two; and a list."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from contracts.settings import Settings
from producers.runai.metrics import RunAiMetrics
from producers.runai.plugin import RunAiConfig, api_of, source_of
from tests.producers.conformance import VALUES, Feed, Outcome, Piece, poll, quantity, refusals
from tests.producers.runai.stand_in import MINUTE_MS, START, ApiRequest, FakeRunAi, Reply
from tests.producers.runai.test_source import CONFIG
from tests.support.clocks import FakeClock

METER, WINDOWS = "cpu_usage_core_minutes", 5
MARKER = "THE-PIECE"


def _fault(place: str, piece: Piece, standin: FakeRunAi, request: ApiRequest) -> Reply | None:
    """Answer with the piece once; the answer is the usual one otherwise."""
    if place == "list":
        if request.path != "/api/v1/workloads" or request.params.get("deleted"):
            return None
    elif not (request.about_metrics and "/w0/" in request.path):
        return None
    standin.fault = lambda request: None
    content = piece.read()
    if place in ("answer", "list"):
        return Reply(200, content)
    body = standin._proper(request).body
    cpu = next(m for m in body["measurements"] if m["type"] == "CPU_USAGE_CORES")
    if place == "value":
        cpu["values"].append(dict(cpu["values"][-1], value=MARKER))
    else:
        body["measurements"].append(MARKER)
    return Reply(200, json.dumps(body).encode().replace(b'"%s"' % MARKER.encode(), content))


def _run(place: str, piece: Piece, folder: Path) -> Outcome:
    standin, clock = (
        FakeRunAi(workloads=2),
        FakeClock(START + (WINDOWS - 1) * MINUTE_MS + 40_000, now_ms=START, epoch_ms=0),
    )
    standin.fault = partial(_fault, place, piece, standin)
    config = RunAiConfig(**CONFIG | {"workload_metrics": ("CPU_USAGE_CORES",)})
    with api_of(config, clock, standin.transport()) as api:
        source = source_of(Settings(cluster="here"), config, api, RunAiMetrics(CollectorRegistry()))
        log, metrics = poll([source], folder, clock)
    others = [e for e in log.stored if (e.workload, int(e.batch.event_ms)) != ("job-0", START)]
    log.stored = others  # The first window of the workload that the piece is about is not among the good ones.
    return Outcome(quantity(log, METER), 2 * (2 * WINDOWS - 1), refusals(metrics))


_MEASUREMENTS = {
    **VALUES,
    **{piece: piece.encode() for piece in (
        "1", "[]", "{}", '{"type": 5}', '{"type": "CPU_USAGE_CORES", "values": [1]}',
        '{"type": "CPU_USAGE_CORES", "labels": {"a": 1}}', '{"type": "CPU_USAGE_CORES", "values": [{"value": [1]}]}',
    )},
}  # fmt: skip
_SAMPLES = {
    **VALUES,
    **{piece: piece.encode() for piece in ('"1e999999"', '"Infinity"', '"-1"', '"sNaN"', "1e300", "-1.5")},
}
FEEDS = {
    "runai": [
        *(Feed(place, partial(_run, place), "Run:ai") for place in ("answer", "list")),
        Feed("measurement", partial(_run, "measurement"), "Run:ai", _MEASUREMENTS, {}),
        Feed("value", partial(_run, "value"), "Run:ai", _SAMPLES, {}, ("null",)),
    ]
}
