"""Decodes OTLP's traces, in protobuf or JSON, to spans with the few attributes that are needed. Pure.

Nothing else (messages, prompts, tool arguments) is stored; in JSON it is not even decoded. Of events, only names and
times are read.
"""

from __future__ import annotations

from contracts.errors import BadInput, BadSetting
from producers.gateways.otel import otlp_json, otlp_protobuf
from producers.gateways.otel.spans import DecodedSpans, SpanSelection

MAX_SPANS = 65_536
"""Spans in one message."""


def decode_spans(body: bytes, selection: SpanSelection, *, json: bool) -> DecodedSpans:
    """Decode an ExportTraceServiceRequest. Raises BadInput if it is none, or has too many spans."""
    decoded = otlp_json.decode(body, selection) if json else otlp_protobuf.decode(body, selection)
    if len(decoded.spans) > MAX_SPANS:
        raise BadInput("spans", len(decoded.spans), f"send at most {MAX_SPANS} spans at once")
    return decoded


def need_protobuf() -> None:
    """Raise BadSetting if the messages of OTLP are not installed. The agent on a node does not need them."""
    try:
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError as error:
        raise BadSetting("produce", "otel", f"needs {error.name}: pip install 'wattlog[ingest]'") from None


def is_json(body: bytes) -> bool:
    """Return whether a message without a header is JSON. One in protobuf begins with 0x0a."""
    return body[:1] == b"{"
