"""Feeds of `wattlog produce http` and its routes: bodies, pieces of bodies, encodings, heads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from contracts.settings import Settings
from producers.api import ParsedRequest, ReceivedRequest, Route
from producers.receivers.cloudevents import events
from producers.receivers.otlp_signals.plugin import OtlpConfig, build_logs, build_metrics
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.receiver.routes import open_routes
from tests.producers.conformance import ERRORS, VALUES, Feed, Outcome, Piece, refusals
from tests.producers.frame import environment
from tests.producers.gateways.payloads import as_json, payload, span
from tests.producers.receivers.otlp_signals.messages import CLAUDE, counter, logs, metrics, record
from tests.producers.runtime.receiver.listener import NOW_MS, event, listening

MARK = b"raise"
"""Body whose parsing raises the exception of a piece."""
EVENT = "claude_code.api_request"


def request(id_: str) -> dict[str, Any]:
    """Return an item of `/v1/requests`."""
    return {
        "id": id_, "tenant": "acme", "model": "llama", "start": NOW_MS - 5_000, "duration_ms": 1_000,
        "prompt_tokens": 1, "completion_tokens": 2,
    }  # fmt: skip


def _parse(route: Route, piece: Piece, request: ReceivedRequest, trial: DeduplicationTrial) -> ParsedRequest:
    if request.body == MARK:
        piece.read()
    return route.parse(request, trial)


def _body(route: str, id_: str) -> bytes:
    """Return a body of one good item."""
    if route == "otlp":
        return as_json([span(id=f"00000000000000{id_}", parent="")])
    if route == "otlp-metrics":
        return metrics(counter({"input": 1}, id=id_), content_type="application/json")
    if route == "otlp-logs":
        return logs(record(request_id=id_, cost_usd=...), content_type="application/json")
    if route == "requests":
        return json.dumps(request(id_)).encode()
    return json.dumps(payload(id=id_) if route == "litellm" else event(id_)).encode()


_ARRAYS = {"otlp": b"spans", "otlp-metrics": b"metrics", "otlp-logs": b"logRecords"}


def _items(route: str, content: bytes) -> bytes:
    """Return a body of a good item and a bad one."""
    good = _body(route, "a9")
    if route in _ARRAYS:
        array = b'"%s": [' % _ARRAYS[route]
        return good.replace(array, b"%s%s, " % (array, content))
    return b"[%s, %s]" % (good, content)


def _run(name: str, place: str, piece: Piece, folder: Path) -> Outcome:
    kind = "cloudevents" if name == "http" else name
    here = environment(Settings(cluster="c1", data=folder))
    signals = build_metrics(OtlpConfig(metrics=(CLAUDE,)), here), build_logs(OtlpConfig(logs=(EVENT,)), here)
    routes = [*signals, *(route for route in open_routes(here) if route.kind not in ("otlp-metrics", "otlp-logs"))]
    routes = [replace(route, parse=partial(_parse, route, piece)) for route in routes]
    [route] = [route for route in routes if route.kind == kind]
    json_type = next(t for t in route.bodies if "json" in t and "batch" not in t)
    headers: Mapping[str, str] = {"Content-Type": json_type}
    read = events.read_event

    def read_event(content: Any, *args: Any) -> Any:
        if content == MARK.decode():
            piece.read()
        return read(content, *args)

    with (
        patch.object(events, "read_event", read_event),
        listening(folder, intakes=[r for r in routes if r.kind != "cloudevents"]) as listener,
    ):

        def post(content: bytes, headers: Mapping[str, str] = headers) -> Any:
            return listener.client.post(route.path, content=content, headers=headers)

        assert post(_body(kind, "a1")).status_code in (200, 202)
        bad = piece.content
        if piece.is_error:  # An event of CloudEvents is read alone, so it has to be JSON.
            bad = b'"%s"' % MARK if name == "cloudevents" else MARK
        if place == "encoding":
            answer = post(bad, {**headers, "Content-Encoding": "gzip"})
        elif place == "media type":
            answer = post(_body(kind, "a8"), {"Content-Type": bad[:40].decode("latin-1").replace("\x00", "") or "x"})
        else:
            answer = post(_items(kind, bad) if place == "item" else bad)
        assert answer.status_code < 500
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        beside = 1 if place == "item" and answer.status_code < 400 else 0
        assert post(_body(kind, "a2")).status_code in (200, 202)
        amount = sum(len(e.batch) for e in listener.broker.stored)
        return Outcome(amount - beside, 2, refusals(listener.registry))


_LATIN = {name: content for name, content in VALUES.items() if name not in ("encoding", "control")}
"""Pieces that a header can hold."""
FEEDS = {
    "http": [
        Feed("encoding", partial(_run, "http", "encoding"), "request", VALUES, {}),
        Feed("media type", partial(_run, "http", "media type"), "request", _LATIN, {}),
    ],
    **{
        name: [
            Feed("body", partial(_run, name, "body"), "request", VALUES, ERRORS),
            Feed("item", partial(_run, name, "item"), "request", VALUES, {}, ("objects",) * (name in _ARRAYS)),
        ]
        for name in ("cloudevents", "litellm", *_ARRAYS, "requests")
    },
}
