"""Decodes OTLP's traces, in protobuf or JSON, to spans with the few attributes that are needed. Pure.

Nothing else (messages, prompts, tool arguments) is stored; in JSON it is not even decoded. Of events, only names and
times are read.
"""

from __future__ import annotations

from contracts.errors import BadSetting
from producers.gateways.otel import otlp_json, otlp_protobuf
from producers.gateways.otel.spans import DecodedSpans, SpanSelection


def decode_spans(body: bytes, selection: SpanSelection, *, json: bool) -> DecodedSpans:
    """Decode an ExportTraceServiceRequest. Raises BadInput if it is none, or has too many spans."""
    return otlp_json.decode(body, selection) if json else otlp_protobuf.decode(body, selection)


def need_protobuf() -> None:
    """Raise BadSetting if the messages of OTLP are not installed. The agent on a node does not need them."""
    try:
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError as error:
        raise BadSetting("produce", "otel", f"needs {error.name}: pip install 'wattlog[ingest]'") from None


def is_json(body: bytes) -> bool:
    """Return whether a message without a header is JSON. One in protobuf begins with 0x0a."""
    return body[:1] == b"{"
