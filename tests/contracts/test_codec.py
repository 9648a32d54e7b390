"""Events to messages and back. Input that cannot be read raises BadEvent and no other error."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts import codec, packed, topics
from contracts.errors import BadEvent
from tests.contracts.batches import POWER, T0, TOKENS, USAGE, batches, event, names, same

BOTH = pytest.mark.parametrize("content_type", [codec.PACKED, codec.JSON])


@given(batches, st.sampled_from([codec.PACKED, codec.JSON]), st.integers(0, 10**18), st.integers(0, 10**14), names)
def test_an_event_survives_encoding_and_decoding(batch, content_type, epoch, seq, source):
    sent = event(batch, epoch=epoch, seq=seq, source=source)
    got = codec.decode(*codec.encode(sent, content_type=content_type))
    assert same(got.batch, sent.batch)
    assert (got.source, got.epoch, got.seq) == (source, epoch, seq)
    assert (got.cluster, got.workload) == (sent.cluster, sent.workload)


def test_the_headers_are_cloudevents_in_kafkas_binary_mode():
    headers, _ = codec.encode(event(POWER))
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"wattlog.power.v1"),
        ("ce_source", b"node/n1"),
        ("ce_id", b"1700000000000.3"),
        ("ce_subject", b"eu-1/llm/chat"),
        ("ce_time", b"2023-11-14T22:13:23.000Z"),
        ("content-type", b"application/vnd.wattlog.packed"),
    ]


def test_slashes_are_allowed_in_workloads_and_not_in_clusters():
    got = codec.decode(*codec.encode(event(POWER)))
    assert (got.cluster, got.workload) == ("eu-1", "llm/chat")


@pytest.mark.parametrize("batch", [POWER, TOKENS, USAGE])
def test_headers_are_read_as_pairs_or_as_a_mapping_in_any_order(batch):
    headers, value = codec.encode(event(batch))
    assert same(codec.decode(dict(headers), value).batch, batch)
    assert same(codec.decode(reversed(headers), value).batch, batch)


def test_foreign_headers_are_ignored_even_twice():
    headers, value = codec.encode(event(POWER))
    codec.decode([*headers, ("traceparent", b"a"), ("traceparent", b"b"), ("x", None)], value)


def test_a_content_type_may_have_parameters():
    headers, value = codec.encode(event(POWER), content_type=codec.JSON)
    codec.decode({**dict(headers), "content-type": b"application/json; charset=utf-8"}, value)


def test_json_may_leave_out_optional_fields():
    body = {
        "request_id": ["r"],
        "tenant": ["acme"],
        "model": ["m"],
        "t_start_ms": [T0],
        "t_end_ms": [T0 + 5],
        "prompt_tokens": [3],
        "completion_tokens": [4],
    }
    headers, _ = codec.encode(event(TOKENS), content_type=codec.JSON)
    batch = codec.decode(headers, json.dumps(body).encode()).batch
    assert (batch.t_first_ms.tolist(), batch.cached_tokens.tolist(), batch.statuses) == ([0], [0], ("ok",))


def test_a_newer_producer_may_add_fields_to_the_packed_body():
    headers, value = codec.encode(event(POWER))
    body = msgspec.msgpack.decode(value) | {"added_later": [1, 2]}
    assert same(codec.decode(headers, msgspec.msgpack.encode(body)).batch, POWER)


def test_equal_dictionaries_have_equal_look_up_keys():
    first, second = (codec.decode(*codec.encode(event(POWER))).batch.gpus_key for _ in range(2))
    assert first == second != b""


# -- input that cannot be read
# ------------------------------------------------------------------------------------------

# Description; the changed header or body; the named field; a word of the fix.
HEADERS = [
    ("no ce_type", {"ce_type": None}, "ce_type", "required"),
    ("empty ce_source", {"ce_source": b""}, "ce_source", "required"),
    ("unknown type", {"ce_type": b"wattlog.heat.v1"}, "ce_type", "wattlog.power.v1"),
    ("unknown version", {"ce_type": b"wattlog.power.v2"}, "ce_type", "wattlog.power.v1"),
    ("unknown content type", {"content-type": b"text/xml"}, "content-type", "application/json"),
    ("no sequence", {"ce_id": b"17"}, "ce_id", "EPOCH.SEQ"),
    ("negative sequence", {"ce_id": b"17.-1"}, "ce_id", "EPOCH.SEQ"),
    ("a sequence that is no number", {"ce_id": b"17.x"}, "ce_id", "EPOCH.SEQ"),
    ("digits of another script", {"ce_id": "17.٣".encode()}, "ce_id", "EPOCH.SEQ"),
    ("an epoch that is too long", {"ce_id": b"1" * 20 + b".1"}, "ce_id", "EPOCH.SEQ"),
    ("no workload", {"ce_subject": b"eu-1"}, "ce_subject", "cluster/workload"),
    ("an empty cluster", {"ce_subject": b"/w"}, "ce_subject", "cluster/workload"),
    ("an empty workload", {"ce_subject": b"eu-1/"}, "ce_subject", "cluster/workload"),
    ("a subject that is too long", {"ce_subject": b"c/" + b"w" * 254}, "ce_subject", "253"),
    ("a subject that does not print", {"ce_subject": b"c/w\n"}, "ce_subject", "printable"),
    ("a source that is too long", {"ce_source": b"s" * 1025}, "ce_source", "1024"),
    ("no UTF-8", {"ce_source": b"\xff"}, "headers", "UTF-8"),
]


@pytest.mark.parametrize(("changed", "field", "mend"), [c[1:] for c in HEADERS], ids=[c[0] for c in HEADERS])
def test_a_bad_header_is_refused_by_name(changed, field, mend):
    headers, value = codec.encode(event(POWER))
    with pytest.raises(BadEvent) as caught:
        codec.decode({**dict(headers), **changed}, value)
    assert caught.value.field == field
    assert mend in caught.value.fix


@pytest.mark.parametrize("name", ["ce_type", "ce_id", "ce_source", "ce_subject", "content-type"])
def test_a_repeated_header_of_the_contract_is_ambiguous(name):
    headers, value = codec.encode(event(POWER))
    with pytest.raises(BadEvent, match="send this header once") as caught:
        codec.decode([*headers, (name, b"other")], value)
    assert caught.value.field == name


def test_a_tombstone_is_refused():
    headers, _ = codec.encode(event(POWER))
    with pytest.raises(BadEvent, match="tombstone"):
        codec.decode(headers, None)


def test_a_message_without_headers_is_refused():
    for none in (None, [], {}):
        with pytest.raises(BadEvent, match="ce_type"):
            codec.decode(none, b"")


DEEP = 200_000
HALF = {"node": "n", "gpus": [], "gpu": b"", "t0_ms": b"1234567", "t1_ms": b"", "energy_uj": b"", "method": b""}
ROW = {"node": "n", "gpu_uuid": ["g"], "hardware": ["h"], "t0_ms": [1], "t1_ms": [2], "energy_uj": [3]}


def row(**changed: object) -> bytes:
    """A JSON body of one interval."""
    return json.dumps(ROW | changed).encode()


BODIES = [
    ("empty", codec.PACKED, b""),
    ("not msgpack", codec.PACKED, b"\xc1"),
    ("of another type", codec.PACKED, msgspec.msgpack.encode([1, 2])),
    ("an array that claims to be huge", codec.PACKED, b"\x81\xa5meter\xdd\xff\xff\xff\xff"),
    ("an unknown field, nested for ever", codec.PACKED, b"\x81\xa1b" + b"\x91" * DEEP + b"\xc0"),
    ("a dictionary, nested for ever", codec.PACKED, b"\x81\xa4gpus" + b"\x91" * DEEP + b"\xc0"),
    ("a column of half a number", codec.PACKED, msgspec.msgpack.encode(HALF)),
    ("not JSON", codec.JSON, b"{"),
    ("JSON with an unknown field", codec.JSON, row(methods=[])),
    ("JSON with a number beyond 64 bits", codec.JSON, row(t1_ms=[99999999999999999999])),
    ("JSON with a fraction", codec.JSON, row(energy_uj=[1.5])),
    ("JSON with a text for a number", codec.JSON, row(energy_uj=["1"])),
    ("JSON, nested for ever", codec.JSON, b'{"node":' + b"[" * DEEP),
]


@pytest.mark.parametrize(("content_type", "value"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_a_body_that_does_not_fit_is_refused(content_type, value):
    headers, _ = codec.encode(event(POWER), content_type=content_type)
    with pytest.raises(BadEvent) as caught:
        codec.decode(headers, value)
    assert caught.value.field == "value"


@pytest.mark.parametrize(
    ("changed", "field", "value"),
    [
        ({"hardware": ["h", "h"]}, "hardware", 2),
        ({"t0_ms": []}, "gpu", 1),
        ({"t1_ms": []}, "t1_ms", 0),
        ({"method": ["counter", "counter"]}, "method", 2),
        ({"method": ["guessed"]}, "method[0]", "guessed"),
    ],
)
def test_a_json_column_that_does_not_fit_is_named(changed, field, value):
    headers, _ = codec.encode(event(POWER), content_type=codec.JSON)
    with pytest.raises(BadEvent) as caught:
        codec.decode(headers, row(**changed))
    assert (caught.value.field, caught.value.value) == (field, value)


COLUMNS = [(POWER, c) for c in ("gpu", "t1_ms", "energy_uj", "method", "busy_ms")] + [
    (TOKENS, c)
    for c in (
        "tenant", "model", "request_id", "t_first_ms", "t_end_ms", "prompt_tokens", "cached_tokens",
        "completion_tokens", "status", "session_id", "trace_id",
    )
]  # fmt: skip


@pytest.mark.parametrize(("batch", "name"), COLUMNS, ids=[c for _, c in COLUMNS])
@BOTH
def test_a_short_column_is_named_with_its_length(batch, name, content_type):
    headers, value = codec.encode(event(batch), content_type=content_type)
    body = json.loads(value) if content_type == codec.JSON else msgspec.msgpack.decode(value)
    for field in [name] if name in body else ["gpu_uuid", "hardware"]:
        body[field] = body[field][: len(body[field]) // 2]
    with pytest.raises(BadEvent, match="every column needs 2 rows") as caught:
        codec.decode(headers, json.dumps(body).encode() if content_type == codec.JSON else packed.pack(body))
    assert (caught.value.field, caught.value.value) == (name, 1)


def test_encoding_checks_the_batch():
    with pytest.raises(BadEvent, match="owner"):
        codec.encode(event(replace(POWER, owner="__idle__")))


types = st.sampled_from([t.encode() for t in (*topics.JOINED, topics.USAGE)])
kinds = st.sampled_from([codec.PACKED.encode(), codec.JSON.encode()])


def survives(headers, value) -> None:
    try:
        codec.decode(headers, value)
    except BadEvent as error:
        assert str(error)


@given(types, kinds, st.binary(max_size=200))
@example(b"wattlog.power.v1", codec.PACKED.encode(), b"\x80")
def test_arbitrary_bytes_never_raise_anything_but_bad_event(type_, kind, value):
    survives(
        [("ce_type", type_), ("content-type", kind), ("ce_id", b"1.1"), ("ce_source", b"s"), ("ce_subject", b"c/w")],
        value,
    )


@given(
    st.lists(
        st.tuples(
            st.text(max_size=8) | st.sampled_from(["ce_type", "ce_id", "content-type", "ce_subject", "ce_source"]),
            st.none() | st.binary(max_size=30),
        )
    ),
    st.binary(max_size=20),
)
def test_arbitrary_headers_never_raise_anything_but_bad_event(headers, value):
    survives(headers, value)


@given(batches, st.sampled_from([codec.PACKED, codec.JSON]), st.data())
def test_a_flipped_byte_never_raises_anything_but_bad_event(batch, content_type, data):
    headers, value = codec.encode(event(batch), content_type=content_type)
    at = data.draw(st.integers(0, len(value) - 1))
    survives(headers, value[:at] + bytes([data.draw(st.integers(0, 255))]) + value[at + 1 :])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=24),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(types, st.data())
def test_any_value_in_any_field_never_raises_anything_but_bad_event(type_, data):
    batch = {topics.POWER: POWER, topics.TOKENS: TOKENS, topics.USAGE: USAGE}[type_.decode()]
    headers, value = codec.encode(event(batch))
    body = msgspec.msgpack.decode(value)
    for name in data.draw(st.lists(st.sampled_from(sorted(body)), max_size=3)):
        body[name] = data.draw(values)
    survives(headers, msgspec.msgpack.encode(body))


def test_the_dictionary_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(packed, "_CACHE_ENTRIES", 2)
    cache: dict[bytes, object] = {}
    for raw in (b"1", b"2", b"3", b"4" * 20_000):
        assert packed._cached(cache, raw, len) == len(raw)
    assert list(cache) == [b"3"]
