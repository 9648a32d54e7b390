"""Feeds of `wattlog produce accesslog`, `litellm` and `otel`: a line, a field, a span, or a whole message."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer

from producers.api import PollResult
from producers.gateways.accesslog.lines import LineReader, LineRules
from producers.gateways.accesslog.source import AccessLog
from producers.gateways.deployments import Deployments
from producers.gateways.litellm.callback_folder import CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.gateways.otel.kafka_topic import SpansTopic
from producers.gateways.request_fields import RequestFields
from producers.runtime.batching import RequestRow
from producers.runtime.clock import Clock
from tests.producers.conformance import VALUES, Feed, Outcome, Piece, poll, refusals, token_rows
from tests.producers.gateways.payloads import NS, T0, as_json, payload, span
from tests.support.clocks import FakeClock
from tests.support.event_log import in_process_broker

MARK = "raise"
"""Tenant, or line, whose reading raises the exception of a piece."""
LATER_MS = T0 + 60_000


def _lines(place: str, piece: Piece, good: tuple[bytes, bytes], template: bytes) -> bytes:
    """Return a bad line between two good ones."""
    bad = MARK.encode() if piece.is_error else piece.content
    return b"\n".join([good[0], template.replace(b"7777", bad) if place == "field" else bad, good[1], b""])


def _outcome(source: Any, folder: Path, *, seconds: int = 2) -> Outcome:
    clock = FakeClock(end_ms=LATER_MS + 1_000 * seconds, now_ms=LATER_MS, epoch_ms=0)
    log, metrics = poll([source], folder, clock)
    names = sorted(id_.rpartition("/")[2] for id_, _ in token_rows(log))
    return Outcome(float(len(names)), 2, refusals(metrics))


class _Reader(LineReader):
    """Reader that raises for the line MARK."""

    def __init__(self, piece: Piece) -> None:
        super().__init__(LineRules(RequestFields()))
        self._piece = piece

    def read(self, line: bytes, default_id: str) -> RequestRow | str:
        if line == MARK.encode() and self._piece.is_error:
            self._piece.read()
        return super().read(line, default_id)


def _run_access_log(place: str, piece: Piece, folder: Path) -> Outcome:
    fields = {"tenant": "a", "model": "m", "start": T0, "end": T0 + 1, "prompt_tokens": 1, "completion_tokens": 2}
    good = json.dumps(fields | {"id": "1"}).encode(), json.dumps(fields | {"id": "2"}).encode()
    template = json.dumps(fields | {"prompt_tokens": 7777}).encode()
    path = folder / "access.log"
    path.write_bytes(_lines(place, piece, good, template))
    return _outcome(AccessLog(path, _Reader(piece), Deployments([], "c"), begin="start"), folder)


def _payer(piece: Piece, tenant: str) -> str:
    """Return the tenant that pays. Raises for MARK."""
    if tenant == MARK:
        piece.read()
    return tenant


def _run_litellm(place: str, piece: Piece, folder: Path) -> Outcome:
    calls = folder / "calls"
    calls.mkdir()
    marked = {"user_api_key_team_id": MARK} if piece.is_error else {}
    good = json.dumps(payload(id="1")).encode(), json.dumps(payload(id="2")).encode()
    template = json.dumps(
        payload(id="3", prompt_tokens=7777, metadata=marked, total_tokens=None, response=None)
    ).encode()
    (calls / "1.jsonl").write_bytes(
        b"\n".join([good[0], template, good[1], b""]) if piece.is_error else _lines(place, piece, good, template)
    )
    reader = LiteLLMReader(LiteLLMRules(), partial(_payer, piece))
    return _outcome(CallbackFolder(calls, reader, Deployments([], "c")), folder)


class _UntilRead(SpansTopic):
    """A topic that is read in one look of the loop until `messages` of it were."""

    def __init__(self, messages: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._left = messages

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        before = sum(self._position.values())
        result = super().collect(checkpoint, clock)
        self._left -= max(0, sum(self._position.values()) - before)
        return result._replace(more=self._left > 0)


TOPIC = "otlp_spans"


def _message(id_: str, tenant: str = "acme") -> bytes:
    return as_json([span({"wattlog.tenant": tenant}, id=id_, parent="")])


def _run_otel(place: str, piece: Piece, folder: Path) -> Outcome:
    good, marked = (_message("00000000000000a1"), _message("00000000000000a2")), _message("00000000000000a3", MARK)
    if piece.is_error:
        bad = marked
    elif place == "message":
        bad = piece.content
    else:
        bad = good[0].replace(b'"startTimeUnixNano": "%d"' % (T0 * NS), b'"startTimeUnixNano": %s' % piece.content)
    with in_process_broker() as broker:
        producer = Producer({"bootstrap.servers": broker, "log_level": 0})
        for body in (good[0], bad, good[1]):
            producer.produce(TOPIC, body, partition=0)
        assert producer.flush(10) == 0
        reader = GenAIReader(SpanRules(), partial(_payer, piece))
        config = {"bootstrap.servers": broker, "group.id": "x", "log_level": 0, "enable.auto.commit": False}
        source = _UntilRead(3, TOPIC, reader, Deployments([], "c"), lambda: Consumer(config), begin="start")
        with closing(source):
            return _outcome(source, folder, seconds=1)


_SHORT = {"long": b"x" * 2**19}
"""Protobuf takes it for a field that it does not know. A broker's limit of a message is a megabyte."""
_LINES = {
    **VALUES,
    "array": b"[1]", "no JSON": b"GET / HTTP/1.1",
    "time": b'{"tenant": "a", "model": "m", "start": "0001-01-01T00:00:00+23:59", "duration_ms": 1,'
    b' "prompt_tokens": 1, "completion_tokens": 1}',
    "duration": b'{"tenant": "a", "model": "m", "start": 1700000000, "duration_ms": 1e308,'
    b' "prompt_tokens": 1, "completion_tokens": 1}',
}  # fmt: skip
FEEDS = {
    "accesslog": [
        Feed("line", partial(_run_access_log, "line"), "file", _LINES),
        Feed("field", partial(_run_access_log, "field"), "file", errors={}),
    ],
    "litellm": [
        Feed("line", partial(_run_litellm, "line"), "file", _LINES),
        Feed("field", partial(_run_litellm, "field"), "file", VALUES, {}),
    ],
    "otel": [
        Feed("message", partial(_run_otel, "message"), "Kafka", {**VALUES, **_SHORT}, harmless=("long",)),
        Feed("span", partial(_run_otel, "span"), "Kafka", {**VALUES, **_SHORT}, {}),
    ],
}
