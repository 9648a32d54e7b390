"""Malformed pieces: a line, payload or span that cannot be read is refused and counted, and its neighbours are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from contracts.errors import BadInput
from producers.gateways.deployments import Deployments
from producers.gateways.litellm.callback_folder import CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import SECRET, T0, as_json, as_protobuf, payload, span
from tests.support.clocks import clock_at

NOW = T0 + 60_000
DEEP = b"[" * 3_000 + b"]" * 3_000
MALFORMED = {
    "nested 3,000 deep": b'{"prompt": %s}' % DEEP,
    "a number that overflows": b'{"prompt_tokens": 1e99999999999999999999}',
    "NaN": b'{"prompt_tokens": NaN}',
    "an integer of 5,000 digits": b'{"prompt_tokens": %s}' % (b"9" * 5_000),
    "invalid UTF-8": b'{"tenant": "\xff\xfe"}',
    "a lone surrogate": b'{"tenant": "\\ud800"}',
    "a text": b'"prompt"',
    "an array": b"[1]",
    "null": b"null",
    "cut off": b'{"tenant": "a',
    "no JSON": b"GET / HTTP/1.1",
    "a time out of range": b'{"tenant": "a", "model": "m", "start": "0001-01-01T00:00:00+23:59", "duration_ms": 1,'
    b' "prompt_tokens": 1, "completion_tokens": 1}',
    "a duration that overflows": b'{"tenant": "a", "model": "m", "start": 1700000000, "duration_ms": 1e308,'
    b' "prompt_tokens": 1, "completion_tokens": 1}',
}


def test_a_file_of_the_callback_that_cannot_be_read_does_not_stop_the_others_and_is_reported_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").mkdir()
    (tmp_path / b"b\xff.jsonl".decode(errors="surrogateescape")).write_bytes(_payload("0") + b"\n")
    (tmp_path / "c.jsonl").symlink_to("missing")
    (tmp_path / "d.jsonl").write_bytes(_payload("1") + b"\n")
    source = CallbackFolder(tmp_path, LiteLLMReader(LiteLLMRules()), Deployments([], "c"))
    first = source.collect(None, clock_at(NOW))
    (tmp_path / "d.jsonl").write_bytes(_payload("1") + b"\n" + _payload("2") + b"\n")
    second = source.collect(first.checkpoint, clock_at(NOW))
    ids = [list(item.batch.request_id) for collected in (first, second) for item in collected.batches]
    assert (ids, [len(first.refused), len(second.refused)]) == ([["1"], ["2"]], [2, 0])


def _payload(id_: str) -> bytes:
    return json.dumps(payload(id=id_)).encode()


@pytest.mark.parametrize("form", [b"[%s,%s , %s]", b"%s\n%s\n%s"], ids=["array", "lines"])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("piece", [MALFORMED[name] for name in MALFORMED if name not in ("cut off", "no JSON")])
def test_a_payload_does_not_spoil_the_body_that_it_is_posted_in(piece: bytes, place: int, form: bytes) -> None:
    pieces = [_payload("1"), _payload("2")]
    pieces.insert(place, piece)
    result = LiteLLMReader(LiteLLMRules()).body(form % tuple(pieces), DeduplicationWindow(), NOW)
    assert ([call.row.request_id for call in result.calls], len(result.refused)) == (["1", "2"], 1)


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[1", b'["a]', b"[{]}", b"[1] 2", b"]", b"{", b'{"a":', *MALFORMED.values()]
)
def test_a_body_without_a_payload_that_can_be_read_yields_no_call(body: bytes) -> None:
    try:
        result = LiteLLMReader(LiteLLMRules()).body(body, DeduplicationWindow(), NOW)
    except BadInput:
        return
    assert not result.calls and result.refused


@pytest.mark.parametrize(
    "more",
    [
        {"prompt_tokens": [1]}, {"prompt_tokens": {}}, {"prompt_tokens": "5"}, {"prompt_tokens": 1e300},
        {"model": {"x": 1}}, {"startTime": [1]}, {"startTime": "x" * 10_000}, {"endTime": 1e308}, {"status": [1],
        "id": 5},
        {"metadata": "text"}, {"metadata": [1]}, {"response": "text"}, {"hidden_params": 7},
        {"error_information": "text"},
        {"custom_llm_provider": "openai", "response_cost": "1e999999"}, {"response_cost": []},
        {"custom_llm_provider": "openai", "response_cost": "nan"}, {"response_cost": {"usd": 1}},
    ],
)  # fmt: skip
def test_a_field_of_any_type_raises_nothing_but_a_refusal(more: dict[str, Any]) -> None:
    result = LiteLLMReader(LiteLLMRules()).payloads([("p", payload(**more))], DeduplicationWindow(), NOW)
    assert len(result.calls) + len(result.refused) == 1


# -- spans -------------------------------------------------------------------------------------------------------------

IDS = ["eee19b7ec3c1b171", "eee19b7ec3c1b172", "eee19b7ec3c1b173"]
SPANS = [span(id=id_, parent="") for id_ in IDS]


def _read(body: bytes, *, as_text: bool) -> tuple[list[str], int]:
    result = GenAIReader(SpanRules()).read_message(body, DeduplicationWindow(), NOW, json=as_text)
    return sorted(call.identities[0].rpartition("/")[2] for call in result.calls), len(result.refused)


@pytest.mark.parametrize(
    ("text", "replacement"),
    [
        (b"llama-3.1-8b", b"llama-\xff\xfe1-8b"),
        (b"gen_ai.response.model", b"gen_ai.response\xffmodel"),
        (b"gen_ai.content.prompt", b"gen_ai.content\xffprompt"),
    ],
    ids=["value", "key", "event"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_invalid_utf_8_in_one_span_of_protobuf_refuses_that_span(text: bytes, replacement: bytes, place: int) -> None:
    parts = as_protobuf(SPANS).split(text)
    parts[place] += replacement + parts.pop(place + 1)
    assert _read(text.join(parts), as_text=False) == ([id_ for n, id_ in enumerate(IDS) if n != place], 1)


def test_invalid_utf_8_in_a_resource_refuses_its_spans() -> None:
    good, bad = as_protobuf(SPANS[:1]), as_protobuf(SPANS[1:], {"service.name": "shop!"}).replace(b"shop!", b"shop\xff")
    assert _read(good + bad, as_text=False) == (IDS[:1], 2)


def _field(number: int, content: bytes) -> bytes:
    """Return a field of protobuf that holds a text or a message."""
    size, length = len(content), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _with_attribute(value: bytes, place: str, key: bytes = b"gen_ai.input.messages") -> bytes:
    """Return a message of three spans, of which the second, or the resource, has this attribute too."""
    [resource_spans] = ExportTraceServiceRequest.FromString(as_protobuf(SPANS, {"service.name": "shop"})).resource_spans
    attribute = _field(1, key) + _field(2, value)
    extra = _field(9, attribute) if place == "span" else b""
    first, second, third = (one.SerializeToString() for one in resource_spans.scope_spans[0].spans)
    spans = b"".join(_field(2, one) for one in (first, second + extra, third))
    resource = resource_spans.resource.SerializeToString() + (_field(1, attribute) if place == "resource" else b"")
    return _field(1, _field(1, resource) + _field(2, spans))


@pytest.mark.parametrize("place", ["span", "resource"])
@pytest.mark.parametrize("levels", [10, 60, 120, 400])
def test_an_attribute_of_protobuf_that_is_nested_too_deeply_costs_no_span(levels: int, place: str) -> None:
    value = _field(1, SECRET.encode())
    for _ in range(levels):
        value = _field(5, _field(1, value))  # An array of one value.
    assert _read(_with_attribute(value, place), as_text=False) == (IDS, 0)


@pytest.mark.parametrize("place", ["span", "resource"])
def test_invalid_utf_8_in_an_attribute_that_is_not_read_costs_no_span(place: str) -> None:
    assert _read(_with_attribute(_field(1, b"abc\xffef"), place), as_text=False) == (IDS, 0)


def test_invalid_utf_8_in_an_attribute_that_is_read_refuses_its_span() -> None:
    body = _with_attribute(_field(1, b"\xff"), "span", b"gen_ai.response.model")
    assert _read(body, as_text=False) == ([IDS[0], IDS[2]], 1)


def test_a_malformed_resource_of_protobuf_costs_no_span_of_others() -> None:
    malformed = b"\x0a\x02\x0f\x01"  # A field of wire type 7.
    assert _read(malformed + as_protobuf(SPANS), as_text=False) == (IDS, 1)
    assert _read(as_protobuf(SPANS) + malformed, as_text=False) == (IDS, 1)


def test_a_message_of_protobuf_that_is_cut_off_yields_what_was_complete_or_is_refused() -> None:
    body = as_protobuf(SPANS)
    for end in range(1, len(body), 7):
        with pytest.raises(BadInput, match="is no ExportTraceServiceRequest in protobuf"):
            _read(body[:end], as_text=False)
    with pytest.raises(BadInput, match="is no ExportTraceServiceRequest in protobuf"):
        _read(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", as_text=False)


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": 5}, {"spanId": None}, {"attributes": {}}, {"attributes": [1]}, {"attributes": [{"key": 1}]},
        {"events": "x"}, {"status": 3}, {"kind": []}, {"startTimeUnixNano": [1]}, {"startTimeUnixNano": 1e300},
        {"endTimeUnixNano": "9" * 5_000}, {"startTimeUnixNano": "-5"}, {"traceId": "a" * 300}, {"spanId": "a\nb"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_malformed_span_of_json_is_refused_alone(change: dict[str, Any], place: int) -> None:
    message = json.loads(as_json(SPANS))
    message["resourceSpans"][0]["scopeSpans"][0]["spans"][place] |= change
    others = [id_ for n, id_ in enumerate(IDS) if n != place]
    assert _read(json.dumps(message).encode(), as_text=True) == (others, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message["resourceSpans"].insert(0, 5),
        lambda message: message["resourceSpans"].insert(0, {"scopeSpans": 5}),
        lambda message: message["resourceSpans"][0].update(resource=5),
        lambda message: message["resourceSpans"][0]["resource"]["attributes"].insert(0, {"key": 5}),
        lambda message: message["resourceSpans"][0]["scopeSpans"].insert(0, [5]),
        lambda message: message["resourceSpans"][0]["scopeSpans"][0].update(scope=5),
    ],
    ids=["a resource", "a resource's scopes", "its attributes", "an attribute", "a scope", "a scope's name"],
)  # fmt: skip
def test_a_malformed_resource_or_scope_of_json_costs_no_span_of_others(change: Callable[[Any], None]) -> None:
    message = json.loads(as_json(SPANS, {"service.name": "shop"}))
    change(message)
    assert _read(json.dumps(message).encode(), as_text=True) == (IDS, 1)


@pytest.mark.parametrize(
    "piece",
    [
        b"5",
        b'"text"',
        b"null",
        b"[1]",
        b'{"traceId": "\xff"}',
        b'{"kind": %s}' % (b"9" * 5_000),
    ],
)
def test_a_span_of_json_that_is_no_object_is_refused_alone(piece: bytes) -> None:
    body = as_json(SPANS)
    at = body.index(b'"spans": [') + len(b'"spans": [')
    assert _read(body[:at] + piece + b", " + body[at:], as_text=True) == (IDS, 1)


def test_an_attribute_that_is_nested_deeply_is_left_out_and_its_span_read() -> None:
    body = as_json(SPANS).replace(b'{"key": "gen_ai.prompt"', b'{"deep": %s, "key": "gen_ai.prompt"' % DEEP)
    assert _read(body, as_text=True) == (IDS, 0)


def test_a_lone_surrogate_in_a_text_that_is_not_needed_refuses_no_span() -> None:
    assert _read(as_json(SPANS).replace(SECRET.encode(), b"\\ud800", 1), as_text=True) == (IDS, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300, 2**62, "5", True, [1]], ids=str)
def test_a_count_of_any_value_refuses_its_span_alone(value: object) -> None:
    spans = [SPANS[0], span({"gen_ai.usage.input_tokens": value}, id=IDS[1], parent=""), SPANS[2]]
    ids, refused = _read(as_protobuf(spans), as_text=False)
    assert (ids, refused) in (([IDS[0], IDS[2]], 1), (IDS, 0))
