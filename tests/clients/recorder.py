"""A proxy between an exporter and the receiver: it keeps the spans, and what the receiver answered."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import IO, Any

import httpx
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from producers.gateways.otel.genai import GenAIReader, SpanRules

MAX_TEXT_CHARS = 400
"""Characters of a text that is kept. The attributes that are read hold names and counts."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # So that closing it waits for the answers under way.


class Recorder:
    """The proxy. `refused` spans, and the messages of answers, are those so far."""

    def __init__(self, target: str) -> None:
        self.refused, self.messages = 0, list[str]()
        self._target, self._spans = target, list[Any]()
        self._selection = GenAIReader(SpanRules()).selection
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = _body(self.rfile, self.headers)
                plain = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                answer = recorder.forward(plain, self.headers["content-type"])
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers.get("content-type", "text/plain"))
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/traces"

    def __enter__(self) -> Recorder:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forward(self, body: bytes, content_type: str) -> httpx.Response:
        """Send a body on to the receiver, and keep it with the answer."""
        answer = httpx.post(self._target, content=body, headers={"content-type": content_type}, timeout=30)
        if "json" in content_type:
            self._spans += json.loads(body)["resourceSpans"]
            partial = answer.json().get("partialSuccess", {})
            refused, message = int(partial.get("rejectedSpans", 0)), partial.get("errorMessage", "")
        else:
            self._spans += MessageToDict(ExportTraceServiceRequest.FromString(body))["resourceSpans"]
            success = ExportTraceServiceResponse.FromString(answer.content).partial_success
            refused, message = success.rejected_spans, success.error_message
        self.refused += refused
        self.messages += [message] if message else []
        return answer

    def as_json(self) -> str:
        """Return the spans as a message in OTLP's JSON, with what is read of them."""
        message = {"resourceSpans": [
            {"resource": {"attributes": self._attributes(one.get("resource", {}))}, "scopeSpans": [
                {"scope": {"name": scope.get("scope", {}).get("name", "")}, "spans": [
                    self._span(span) for span in scope["spans"]]}
                for scope in one["scopeSpans"]]}
            for one in self._spans]}  # fmt: skip
        return json.dumps(message, indent=1) + "\n"

    def _span(self, span: dict[str, Any]) -> dict[str, Any]:
        names = ("kind", "startTimeUnixNano", "endTimeUnixNano")
        ids = {name: _hexadecimal(span[name]) for name in ("traceId", "spanId", "parentSpanId") if span.get(name)}
        events = [{"name": e["name"], "timeUnixNano": e["timeUnixNano"]} for e in span.get("events", [])
                  if e.get("name") in self._selection.events]  # fmt: skip
        status = {"status": {"code": span["status"]["code"]}} if span.get("status", {}).get("code") else {}
        fields = {name: span[name] for name in names if name in span}
        return {
            **ids,
            **fields,
            "attributes": self._attributes(span),
            **({"events": events} if events else {}),
            **status,
        }

    def _attributes(self, holder: dict[str, Any]) -> list[Any]:
        return [
            pair for pair in holder.get("attributes", [])
            if self._selection.has(pair["key"]) and len(str(pair["value"].get("stringValue", ""))) <= MAX_TEXT_CHARS
        ]  # fmt: skip


def _body(stream: IO[bytes], headers: Mapping[str, str]) -> bytes:
    """Return the body of a request. That of Node's exporters comes in chunks."""
    if headers.get("transfer-encoding") != "chunked":
        return stream.read(int(headers["content-length"]))
    chunks = []
    while size := int(stream.readline().partition(b";")[0], 16):
        chunks.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(chunks)


def _hexadecimal(text: str) -> str:
    """Return an id in hexadecimal digits. Protobuf's own JSON has it in base64."""
    is_hexadecimal = len(text) in (16, 32) and all(digit in "0123456789abcdefABCDEF" for digit in text)
    return text if is_hexadecimal else base64.b64decode(text).hex()
