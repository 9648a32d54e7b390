"""CloudEvents over HTTP: OpenMeter's forms, the meters of each event, and refusals, one by one and by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.errors import BadSetting
from contracts.units import rfc3339
from producers.receivers.cloudevents.meter_rules import MeterRule, MeterRules, path
from producers.runtime.receiver.door import SenderRules
from tests.producers.runtime.receiver.listener import (
    JSON,
    MANY,
    NOW_MS,
    ONE,
    SECRET,
    Listener,
    event,
    listening,
    token,
)
from tests.support.examples import examples

RULES = [
    MeterRule(
        slug="request_seconds", event_type="request", value="$.duration_seconds", unit="s",
        group_by={"method": "$.method", "route": "$.route"},
    ),
    MeterRule(slug="prompt_tokens", event_type="prompt", value="$.usage.prompt", unit="tokens"),
    MeterRule(slug="prompts", event_type="prompt", aggregation="count", group_by={"model": "$.model", "who": "subject"},
              workload="$.deployment"),
]  # fmt: skip


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path, rules=RULES) as listener:
        yield listener


def wrong(answer: Any) -> dict[str, Any]:
    """The first wrong value that a problem names."""
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    error: dict[str, Any] = answer.json()["errors"][0]
    return error


def test_an_event_of_openmeters_documents_is_accepted_and_becomes_a_row(listener: Listener) -> None:
    answer = listener.post(event(), ONE)
    assert (answer.status_code, answer.content) == (202, b"")
    assert listener.broker.rows == [{
        "meter": "request_seconds", "unit": "s", "quantity": "12", "tenant": "customer-1", "t0_ms": 1_704_067_200_001,
        "origin": "service-0", "event_id": "00001", "session_id": "", "trace_id": "", "step": "",
        "dimensions": {"method": "GET", "route": "/hello"}, "workload": "external",
    }]  # fmt: skip


def test_a_row_is_sent_on_the_usage_topic_from_the_receivers_own_source(listener: Listener) -> None:
    listener.post(event())
    [sent] = listener.broker.stored
    assert (sent.source, sent.cluster, sent.seq) == ("cloudevents-usage://c1/n1/external", "c1", 0)
    assert topics.USAGE.startswith("wattlog.usage")


def test_a_batch_becomes_one_message_per_workload(listener: Listener) -> None:
    assert listener.post([event("1"), event("2"), event("3")], MANY).status_code == 202
    assert [row["event_id"] for row in listener.broker.rows] == ["1", "2", "3"]
    assert len(listener.broker.stored) == 1


@pytest.mark.parametrize("body", [event(), [event(), event("2")]], ids=["one", "array"])
def test_plain_json_is_one_event_or_an_array(listener: Listener, body: Any) -> None:
    assert listener.post(body, "application/json; charset=utf-8").status_code == 202
    assert len(listener.broker.rows) == (len(body) if isinstance(body, list) else 1)


def test_in_binary_mode_attributes_are_headers_and_the_body_is_the_data(listener: Listener) -> None:
    headers = {
        "ce-specversion": "1.0", "ce-type": "request", "ce-source": "caf%C3%A9", "ce-id": "7", "ce-subject": "acme",
        "ce-time": "2024-01-01T00:00:00Z", "Content-Type": JSON,
    }  # fmt: skip
    answer = listener.client.post("/api/v1/events", content=b'{"duration_seconds": 0.25}', headers=headers)
    assert answer.status_code == 202
    [row] = listener.broker.rows
    assert (row["origin"], row["tenant"], row["quantity"]) == ("café", "acme", "0.25")


def test_openmeters_python_client_accepts_the_response(tmp_path: Path) -> None:
    with listening(tmp_path, accepted_status=204) as listener:
        assert listener.post(event()).status_code == 204


def test_a_body_may_be_compressed(listener: Listener) -> None:
    body = gzip.compress(json.dumps(event()).encode())
    assert listener.post(body, content_encoding="gzip").status_code == 202


def test_an_event_may_count_on_several_meters_under_one_identity(listener: Listener) -> None:
    data = {"usage": {"prompt": 1234}, "model": "llama", "deployment": "chat", "session_id": "s1", "step": "plan"}
    listener.post(
        event(type="prompt", data=data, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    )
    tokens, prompts = sorted(listener.broker.rows, key=lambda row: row["meter"])
    assert (tokens["meter"], tokens["quantity"], tokens["unit"]) == ("prompt_tokens", "1234", "tokens")
    assert (prompts["meter"], prompts["quantity"], prompts["unit"]) == ("prompts", "1", "events")
    assert prompts["dimensions"] == {"model": "llama", "who": "customer-1"}
    assert {(r["origin"], r["event_id"]) for r in (tokens, prompts)} == {("service-0", "00001")}
    assert (prompts["session_id"], prompts["step"]) == ("s1", "plan")
    assert prompts["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert {tokens["workload"], prompts["workload"]} == {"external", "chat"}


def test_a_type_without_a_meter_counts_one_on_a_meter_of_its_name(listener: Listener) -> None:
    listener.post(event(type="api-calls"))
    [row] = listener.broker.rows
    assert (row["meter"], row["quantity"], row["unit"], row["dimensions"]) == ("api-calls", "1", "events", {})


def test_a_type_without_a_meter_may_be_refused(tmp_path: Path) -> None:
    with listening(tmp_path, rules=RULES, unknown="refuse") as listener:
        assert wrong(listener.post(event(type="api-calls")))["field"] == "type"


def test_an_event_without_a_time_has_its_time_of_arrival(listener: Listener) -> None:
    body = event()
    del body["time"]
    listener.post(body)
    assert listener.broker.rows[0]["t0_ms"] == NOW_MS


def test_a_number_keeps_its_digits(listener: Listener) -> None:
    text = b'{"type":"request","id":"1","source":"s","data":{"duration_seconds":12345678901234567890.123456789012}}'
    assert listener.post(text).status_code == 202
    assert listener.broker.rows[0]["quantity"] == "12345678901234567890.123456789012"


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"id": ""}, "id", "''"),
        ({"id": None}, "id", "None"),
        ({"id": 7}, "id", "7"),
        ({"source": "a\nb"}, "source", "'a\\nb'"),
        ({"type": "x" * 254}, "type", "xxx"),
        ({"specversion": "0.3"}, "specversion", "'0.3'"),
        ({"time": "yesterday"}, "time", "'yesterday'"),
        ({"time": "2024-01-01T00:00:00"}, "time", "2024"),
        ({"time": 1_704_067_200}, "time", "1704067200"),
        ({"time": "1969-12-31T23:59:59Z"}, "time", "1969"),
        ({"time": "2100-01-01T00:00:00Z"}, "time", "2100"),
        ({"subject": ["a"]}, "subject", "['a']"),
        ({"subject": "__idle__"}, "tenant", "'__idle__'"),
        ({"data_base64": "aGk="}, "data_base64", "binary"),
        ({"data": {}}, "data.duration_seconds", "None"),
        ({"data": "text"}, "data.duration_seconds", "None"),
        ({"data": {"duration_seconds": "many"}}, "data.duration_seconds", "'many'"),
        ({"data": {"duration_seconds": True}}, "data.duration_seconds", "True"),
        ({"data": {"duration_seconds": -1}}, "data.duration_seconds", "-1"),
        ({"data": {"duration_seconds": "NaN"}}, "data.duration_seconds", "NaN"),
        ({"data": {"duration_seconds": 10**20}}, "data.duration_seconds", "1000"),
        ({"data": {"duration_seconds": 1, "method": {}}}, "data.method", "{}"),
        ({"data": {"duration_seconds": 1, "route": "x" * 254}}, "data.route", "xxx"),
    ],
)
def test_one_wrong_event_is_refused_with_place_field_value_and_fix_and_the_others_count(
    listener: Listener, change: dict[str, Any], field: str, value: str
) -> None:
    answer = listener.post([event("1"), event("2", **change), event("3")], MANY)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["refused"]) == (202, 2, 1)
    [error] = answer.json()["errors"]
    assert (error["index"], error["field"]) == (1, field)
    assert value in error["value"]
    assert len(error["value"]) <= 80
    assert error["detail"]
    assert [row["event_id"] for row in listener.broker.rows] == ["1", "3"]
    assert listener.count("left_out_rows_total", route="/api/v1/events") == 1


def test_a_single_wrong_event_refuses_the_request(listener: Listener) -> None:
    error = wrong(listener.post(event("1", source="")))
    assert (error["index"], error["field"]) == (0, "source")
    assert listener.count("rejected_total", route="/api/v1/events", reason="invalid-value") == 1


def test_an_event_that_is_too_old_does_not_take_its_batch_along(tmp_path: Path) -> None:
    now = {"time": rfc3339(NOW_MS)}
    with listening(tmp_path, rules=RULES, door=SenderRules(max_age_ms=60_000)) as listener:
        answer = listener.post([event("1", **now), event("2", time=rfc3339(NOW_MS - 61_000)), event("3", **now)], MANY)
        assert (answer.status_code, answer.json()["accepted"], answer.json()["refused"]) == (202, 2, 1)
        [error] = answer.json()["errors"]
        assert (error["index"], error["field"], "max_age_ms" in error["detail"]) == (1, "time", True)
        assert [row["event_id"] for row in listener.broker.rows] == ["1", "3"]


def test_a_body_that_is_sent_again_after_a_refusal_repeats_the_identities_of_its_rows(listener: Listener) -> None:
    body = [event("1"), event("2", source="")]
    first, again = listener.post(body, MANY), listener.post(body, MANY)
    assert first.json() == again.json()
    assert {(row["origin"], row["event_id"]) for row in listener.broker.rows} == {("service-0", "1")}


def test_a_refusal_has_a_body_where_an_accepted_request_has_none(tmp_path: Path) -> None:
    with listening(tmp_path, rules=RULES, accepted_status=204) as listener:
        answer = listener.post([event("1"), event("2", source="")], MANY)
        assert (answer.status_code, answer.json()["errors"][0]["index"]) == (202, 1)


@pytest.mark.parametrize(
    "bad",
    [b"NaN", b'{"data":1e99999999999999999999}', b'{"id":"\xff"}', b'"\\ud800"', b"[" * 3_000 + b"]" * 3_000, b"{,}"],
    ids=["NaN", "exponent", "bytes", "surrogate", "depth", "syntax"],
)
def test_an_event_that_is_no_json_does_not_take_its_batch_along(listener: Listener, bad: bytes) -> None:
    body = b"[%s,%s,%s]" % (json.dumps(event("1")).encode(), bad, json.dumps(event("3")).encode())
    answer = listener.post(body, MANY)
    assert [error["index"] for error in answer.json()["errors"]] == [1]
    assert [row["event_id"] for row in listener.broker.rows] == ["1", "3"]


def test_a_part_that_is_nested_too_deeply_does_not_take_its_event_along(listener: Listener) -> None:
    deep = b'{"x":' * 3_000 + b"1" + b"}" * 3_000
    body = json.dumps(event("1", deep="?")).encode().replace(b'"?"', deep)
    assert listener.post(b"[%s,%s]" % (body, json.dumps(event("2")).encode()), MANY).content == b""
    assert [row["event_id"] for row in listener.broker.rows] == ["1", "2"]


def test_the_log_names_a_refused_event_without_its_values(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    listener.post([event("1"), event("2", subject=["a secret"])], MANY)
    assert "[1].subject" in caplog.text
    assert "secret" not in caplog.text


def test_an_event_counts_on_all_of_its_meters_or_on_none(listener: Listener) -> None:
    listener.post([event("1"), event("2", type="prompt", data={"usage": {"prompt": 1}, "model": {}})], MANY)
    assert [row["event_id"] for row in listener.broker.rows] == ["1"]


def test_an_event_for_another_tenant_does_not_take_its_batch_along(tmp_path: Path) -> None:
    with listening(tmp_path, rules=RULES, key=SECRET) as listener:
        body = [event("1", tenant="acme"), event("2", tenant="globex")]
        answer = listener.post(body, MANY, authorization=token(tenant="acme"))
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert "globex" in answer.json()["errors"][0]["detail"]
        assert [row["tenant"] for row in listener.broker.rows] == ["acme"]


def test_up_to_twenty_wrong_events_are_named(listener: Listener) -> None:
    answer = listener.post([event(str(n), source="") for n in range(30)], MANY)
    assert [e["index"] for e in answer.json()["errors"]] == list(range(20))
    assert "and 29 more" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"[" * 5000, b"[" * 3000 + b"]" * 3000, b"null", b"[]", b"7", b'"\\ud800"', b"[1]",
        b'{"x":1e99999999999999999999}', b'{"data":-1e-99999999999999999999}', b'{"data":1e999999}', b'{"data":NaN}',
        b'{"data":%s}' % (b"9" * 5_000), b'{"id":"\xff"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_type", [ONE, MANY, JSON])
def test_a_body_that_is_no_event_is_refused(listener: Listener, body: bytes, content_type: str) -> None:
    assert listener.post(body, content_type).status_code == 422
    assert listener.broker.tries == 0


def test_too_many_events_are_refused(listener: Listener) -> None:
    answer = listener.post([event(str(n)) for n in range(101)], MANY)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:wattlog:problem:too-many-events")


def test_large_batches_are_divided_into_messages_of_kafkas_size(tmp_path: Path) -> None:
    with listening(tmp_path, rules=RULES, max_events=1000) as listener:
        data = {"duration_seconds": 1, "method": "GET", "route": "é" * 253}
        assert listener.post([event(f"{n:0>253}", source="s" * 253, data=data) for n in range(600)], MANY).is_success
        assert len(listener.broker.rows) == 600
        assert len(listener.broker.stored) > 1
        assert listener.broker.numbers() == {
            ("cloudevents-usage://c1/n1/external", NOW_MS): list(range(len(listener.broker.stored)))
        }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)
    | st.dictionaries(st.sampled_from(["duration_seconds", "method", "usage", "prompt", "session_id", ""]), inner),
    max_leaves=6,
)  # fmt: skip
NAMES = ["specversion", "id", "source", "type", "time", "subject", "tenant", "data", "traceparent", "data_base64"]
ALMOST = st.dictionaries(st.sampled_from(NAMES), JSON_VALUES).map(lambda changes: event() | changes)


BODIES = st.binary(max_size=200) | (JSON_VALUES | ALMOST | st.lists(ALMOST, max_size=3)).map(json.dumps).map(str.encode)


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(body=BODIES, content_type=st.sampled_from([ONE, MANY, JSON]))
def test_any_body_has_rows_or_is_refused(listener: Listener, body: bytes, content_type: str) -> None:
    before = len(listener.broker.rows)
    answer = listener.post(body, content_type)
    assert answer.status_code in (202, 422)
    assert (answer.status_code == 202) == (len(listener.broker.rows) > before)


@given(st.integers(4_290, 4_400))
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
def test_numbers_of_thousands_of_digits_are_refused(listener: Listener, digits: int) -> None:
    body = b'{"type":"request","id":"1","source":"s","data":{"duration_seconds":%s}}' % (b"9" * digits)
    assert listener.post(body).status_code == 422


@pytest.mark.parametrize(
    ("text", "steps"),
    [("$", ()), ("$.a", ("a",)), ("$.a.b-c[3]", ("a", "b-c", 3)), ("$['a b'].c", ("a b", "c"))],
)
def test_a_path_is_read(text: str, steps: tuple[str | int, ...]) -> None:
    assert path(text) == steps


@pytest.mark.parametrize("text", ["", "a", "$.", "$..a", "$.a[*]", "$.a[?(@.b)]", "$.a b", "$[-1]", "x$.a"])
def test_an_invalid_path_is_refused_when_the_configuration_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        path(text)


@pytest.mark.parametrize(
    "options",
    [{}, {"value": "$.a"}, {"unit": "s"}, {"value": "$.a", "unit": "s", "tenant": "acme"},
     {"aggregation": "count", "value": "$.a"}, {"value": "$.a", "unit": "s", "group_by": {"x": "a"}}],
)  # fmt: skip
def test_an_invalid_meter_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        MeterRule(slug="m", event_type="e", **options)


def test_two_meters_of_one_name_and_type_are_refused() -> None:
    rule = MeterRule(slug="m", event_type="e", aggregation="count")
    with pytest.raises(BadSetting, match="two meters"):
        MeterRules([rule, rule], workload="w")
