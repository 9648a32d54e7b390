"""`POST /v1/requests`: fields by name, good items beside bad ones, duplicates, tenants, and no text of a prompt."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.callers import ANYBODY
from contracts.events import REQUEST_COLUMNS, TOKEN_COLUMNS, TokenBatch
from contracts.settings import Settings
from producers.api import Route
from producers.gateways.deployments import Deployment
from producers.receivers.request_options import RequestsConfig
from producers.receivers.requests.plugin import build
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.receiver.server import RequestLimits
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET
from tests.producers.runtime.receiver.listener import NOW_MS, SENDS, Listener, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY

JSON, LINES = "application/json", "application/x-ndjson"
PATH = "/v1/requests"
START = NOW_MS - 5_000
GOOD: dict[str, Any] = {
    "id": "r1", "tenant": "acme", "model": "llama", "start": START, "end": START + 3_000, "prompt_tokens": 100,
    "completion_tokens": 20,
}  # fmt: skip
Listen = Callable[..., Any]


def route(**options: Any) -> Route:
    rules = (Deployment(workload="chat", model="llama*"),)
    return build(RequestsConfig(**{"deployments": rules, **options}), environment(Settings(cluster="east")))


@pytest.fixture
def listen(tmp_path: Path) -> Listen:
    @contextmanager
    def listen(options: Any = None, **more: Any) -> Iterator[Listener]:
        with listening(tmp_path, intakes=[route(**(options or {}))], recent=DeduplicationWindow(), **more) as listener:
            yield listener

    return listen


def item(**more: Any) -> dict[str, Any]:
    return {name: value for name, value in (GOOD | more).items() if value is not ...}


def post(listener: Listener, body: Any, content_type: str = JSON, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    return listener.client.post(PATH, content=content, headers=sent)


def rows(listener: Listener) -> list[dict[str, Any]]:
    """Each request on the log by column, with its place."""
    result = []
    for event in listener.broker.stored:
        batch = event.batch
        assert isinstance(batch, TokenBatch)
        result += [
            {
                "place": f"{event.cluster}/{event.workload}", "tenant": batch.tenants[batch.tenant[n]],
                "model": batch.models[batch.model[n]], "status": batch.statuses[batch.status[n]],
                "id": batch.request_id[n], "start": int(batch.t_start_ms[n]), "first": int(batch.t_first_ms[n]),
                "end": int(batch.t_end_ms[n]), "session": batch.session_id[n] if batch.session_id else "",
            } | {c.name: int(batch.tokens(c.name)[n]) for c in TOKEN_COLUMNS}
            for n in range(len(batch))
        ]  # fmt: skip
    return result


def ids(listener: Listener) -> list[str]:
    return [row["id"] for row in rows(listener)]


def test_one_request_is_on_the_log_when_it_is_accepted(listen: Listen) -> None:
    with listen() as listener:
        answer = post(listener, item(session_id="s1", cached_tokens=30, to_first_ms=500))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicates": 0, "refused": 0})
        [row] = rows(listener)
        counts = {"prompt_tokens": 100, "cached_tokens": 30, "completion_tokens": 20}
        assert row == {
            "place": "east/chat", "tenant": "acme", "model": "llama", "status": "ok", "id": "r1", "start": START,
            "first": START + 500, "end": START + 3_000, "session": "s1",
        } | {c.name: counts.get(c.name, 0) for c in TOKEN_COLUMNS}  # fmt: skip
        assert listener.broker.stored[0].source.startswith("requests-tokens://east/")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps([item(id="a"), item(id="b")]), JSON),
        ("\n".join(json.dumps(item(id=i)) for i in "ab"), LINES),
        ("\r\n\r\n".join(json.dumps(item(id=i)) for i in "ab") + "\n", "application/jsonl"),
        (json.dumps([item(id="a"), item(id="b")], indent=2), JSON),
        ("\ufeff" + json.dumps([item(id="a"), item(id="b")]), JSON),
        ("\ufeff" + "\n".join(json.dumps(item(id=i)) for i in "ab"), LINES),
    ],
)
def test_many_requests_come_as_an_array_or_as_lines(listen: Listen, body: str, content_type: str) -> None:
    with listen() as listener:
        assert post(listener, body.encode(), content_type).json()["accepted"] == 2
        assert ids(listener) == ["a", "b"]


def test_good_items_beside_bad_ones_count_and_the_answer_names_the_bad_ones(listen: Listen) -> None:
    body = [item(id="a"), item(id="b", prompt_tokens=-1), item(id="a"), item(id="c", model=...), 7, item(id="d")]
    with listen() as listener:
        answer = post(listener, body)
        assert answer.status_code == 202
        assert answer.json() == {
            "accepted": 2, "duplicates": 1, "refused": 3, "duplicate_items": [{"index": 2, "request_id": "a"}],
            "errors": [
                {"index": 1, "field": "prompt_tokens", "value": "-1", "detail": "give a whole number, 0 to 2^31-1",
                 "pointer": "/1/prompt_tokens"},
                {"index": 3, "field": "model", "value": "None", "detail": "is needed", "pointer": "/3/model"},
                {"index": 4, "field": "item", "value": "7", "detail": "give an object: one request", "pointer": "/4"},
            ],
        }  # fmt: skip
        assert ids(listener) == ["a", "d"]
        assert listener.count("left_out_rows_total", route=PATH) == 3


def test_a_line_that_is_no_json_costs_no_other_line(listen: Listen) -> None:
    body = b"\n".join(
        [json.dumps(item(id="a")).encode(), b'{"id": "b', b"[" * 9_000, json.dumps(item(id="c")).encode()]
    )
    with listen() as listener:
        assert [e["pointer"] for e in post(listener, body, LINES).json()["errors"]] == ["/1", "/2"]
        assert ids(listener) == ["a", "c"]


def test_a_body_of_bad_items_only_is_a_problem_that_names_each(listen: Listen) -> None:
    with listen() as listener:
        answer = post(listener, item(end=START - 1))
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
        assert answer.json()["errors"][0]["pointer"] == "/0/end"
        assert post(listener, b"").status_code == post(listener, b"[]").status_code == 422
        assert post(listener, b"[{},").status_code == 422
        assert rows(listener) == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"id": ...}, "request_id"), ({"id": "x" * 254}, "request_id"), ({"model": "a\nb"}, "model"),
        ({"model": ["llama"]}, "model"), ({"tenant": ...}, "tenant"), ({"tenant": "__idle__"}, "tenant"),
        ({"prompt_tokens": ...}, "prompt_tokens"), ({"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"prompt_tokens": "many"}, "prompt_tokens"), ({"completion_tokens": 2**31}, "completion_tokens"),
        ({"cached_tokens": 101}, "cached_tokens"), ({"total_tokens": 121}, "total_tokens"),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 20}}, "prompt_tokens"), ({"usage": [1]}, "usage"),
        ({"usage": {"cost": 1}}, "usage"), ({"start": ..., "end": ...}, "start"), ({"end": ...}, "end"),
        ({"start": "yesterday"}, "start"), ({"end": START + 7 * 3_600_000}, "end"), ({"end": NOW_MS + 60_000}, "end"),
        ({"duration_ms": 60_000}, "duration_ms"), ({"end": ..., "duration_ms": -1}, "duration_ms"),
        ({"first": START - 1}, "first"), ({"to_first_ms": 4_000}, "first"), ({"status": {"code": 1}}, "status"),
        ({"session_id": "x" * 254}, "session_id"), ({"workload": "x\n"}, "workload"), ({"cluster": "west"}, "cluster"),
        ({"workload": "w", "cluster": "a/b"}, "cluster"), ({"workload": "\u4e00" * 200}, "workload"),
        ({"model": "\u4e00" * 200}, "model"), ({"tenant": True}, "tenant"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(listen: Listen, wrong: dict[str, Any], field: str) -> None:
    with listen() as listener:
        answer = post(listener, [item(id="good"), item(**wrong)]).json()
        assert [error["field"] for error in answer["errors"]] == [field]
        assert ids(listener) == ["good"]


@pytest.mark.parametrize(
    ("times", "start_ms", "end_ms"),
    [
        ({"start": "2026-11-01T00:00:00.250Z", "end": "2026-11-01t01:00:01z"}, 1_793_491_200_250, 1_793_494_801_000),
        ({"start": START / 1000, "end": ..., "duration_s": 1.5}, START, START + 1_500),
        ({"start": ..., "end": START, "duration_ms": 1_500}, START - 1_500, START),
        ({"start": ..., "end": ..., "t_start_ms": START, "t_end_ms": START + 5}, START, START + 5),
        ({"duration_ms": 3_010}, START, START + 3_000),
    ],
)
def test_a_time_has_one_of_many_forms_and_a_duration_replaces_one(
    listen: Listen, times: dict[str, Any], start_ms: int, end_ms: int
) -> None:
    with listen(options={}, limits=None) as listener:
        later = {"end": START} if end_ms > NOW_MS else {}
        answer = post(listener, item(**times))
        if later:
            assert answer.json()["errors"][0]["field"] == "end"
            return
        assert [(row["start"], row["end"]) for row in rows(listener)] == [(start_ms, end_ms)]


def test_a_usage_object_of_an_api_is_taken_as_it_is(listen: Listen) -> None:
    usage = {"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 40}
    with listen() as listener:
        post(listener, item(prompt_tokens=..., completion_tokens=..., usage=usage))
        [row] = rows(listener)
        assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (100, 40, 20)


def test_every_declared_column_of_tokens_is_taken(listen: Listen) -> None:
    counts = {c.name: 1 for c in TOKEN_COLUMNS if c.part_of and c.name in RequestRow._fields}
    with listen() as listener:
        assert post(listener, item(**counts)).json() == {"accepted": 1, "duplicates": 0, "refused": 0}
        [row] = rows(listener)
        assert {name: row[name] for name in counts} == counts


def test_every_declared_text_is_taken_and_the_credential_is_the_sender(listen: Listen) -> None:
    texts = {"user": "u7", "application": "shop", "feature": "search", "provider": "own", "region": "eu",
             "endpoint": "chat", "priority": "high", "sender": "edge-1"}  # fmt: skip
    assert {c.name for c in REQUEST_COLUMNS if c.dimension} == texts.keys()
    with listen(key=KEY) as listener:
        for id_, claims in (("a", {"role": "gateway"}), ("b", {"tenant": "acme", "scope": SENDS})):
            body = item(id=id_, queue_ms=40, workload="chat" if id_ == "a" else ..., **texts)
            assert post(listener, body, authorization=token(**claims)).json()["accepted"] == 1
        first, second = (event.batch for event in listener.broker.stored)
        assert isinstance(first, TokenBatch)
        stored = {name: getattr(first, name)[0] for name in texts}
        assert len(stored["user"]) == 32  # A user is a keyed hash, whether the item names its workload or a rule does.
        assert stored == texts | {"user": stored["user"], "sender": "role:gateway"}
        assert second.user == (stored["user"],)  # type: ignore[union-attr]
        assert list(first.queue_ms if first.queue_ms is not None else ()) == [40]
        assert second.sender == ("tenant:acme",)  # type: ignore[union-attr]


def test_a_failed_request_needs_no_counts(listen: Listen) -> None:
    with listen() as listener:
        post(listener, item(prompt_tokens=..., completion_tokens=..., status=503))
        assert [(row["status"], row["prompt_tokens"]) for row in rows(listener)] == [("503", 0)]


def test_a_workload_may_be_named_and_else_a_rule_names_it(listen: Listen) -> None:
    sent = [item(id="a"), item(id="b", workload="w", cluster="west"), item(id="c", model="qwen")]
    with listen() as listener:
        post(listener, sent)
        assert {row["id"]: row["place"] for row in rows(listener)} == {
            "a": "east/chat", "b": "west/w", "c": "east/unmatched/qwen",
        }  # fmt: skip


# -- who pays ----------------------------------------------------------------------------------------------------------


def test_a_tenants_own_token_pays_for_each_item(listen: Listen) -> None:
    sent = [item(id="a", tenant=...), item(id="b"), item(id="c", tenant="globex"), item(id="d", workload="other")]
    with listen(key=KEY) as listener:
        answer = post(listener, sent, authorization=token(tenant="acme", scope=SENDS)).json()
        assert [(e["index"], e["field"]) for e in answer["errors"]] == [(2, "tenant"), (3, "workload")]
        assert [(row["id"], row["tenant"]) for row in rows(listener)] == [("a", "acme"), ("b", "acme")]


def test_a_token_of_several_tenants_names_one_for_each_item(listen: Listen) -> None:
    sent = [item(id="a"), item(id="b", tenant=...), item(id="c", tenant="initech"), item(id="d", tenant="globex")]
    with listen(key=KEY) as listener:
        answer = post(listener, sent, authorization=token(tenants=["acme", "globex"], scope=SENDS)).json()
        assert [(e["index"], e["field"]) for e in answer["errors"]] == [(1, "tenant"), (2, "tenant")]
        assert [(row["id"], row["tenant"]) for row in rows(listener)] == [("a", "acme"), ("d", "globex")]


def test_an_id_is_a_tenants_own(listen: Listen) -> None:
    with listen(key=KEY) as listener:
        for tenant in ("acme", "globex", "acme"):
            post(listener, item(tenant=...), authorization=token(tenant=tenant, scope=SENDS))
        assert [row["tenant"] for row in rows(listener)] == ["acme", "globex"]


def test_a_header_names_the_tenant_only_where_it_is_configured_and_its_sender_may(listen: Listen) -> None:
    header = {"x_llm_d_inference_fairness_id": "globex"}
    with listen(key=KEY) as listener:
        post(listener, item(id="a"), authorization=token(role="gateway"), **header)
        assert [row["tenant"] for row in rows(listener)] == ["acme"]
    options = {"tenant_header": "X-LLM-D-Inference-Fairness-Id"}
    with listen(options, key=KEY) as listener:
        post(listener, item(id="b", tenant=...), authorization=token(role="gateway"), **header)
        post(listener, item(id="c", tenant=...), authorization=token(tenant="acme", scope=SENDS), **header)
        assert [row["tenant"] for row in rows(listener)] == ["globex", "acme"]
        conflict = post(listener, item(id="d"), authorization=token(role="gateway"), **header)
        assert conflict.json()["errors"][0]["field"] == "tenant"


def test_a_request_without_a_tenant_is_paid_by_a_configured_one(listen: Listen) -> None:
    with listen({"otherwise": "shared"}) as listener:
        post(listener, item(tenant=...))
        assert [row["tenant"] for row in rows(listener)] == ["shared"]


# -- once, and only when it is stored ----------------------------------------------------------------------------------


def test_a_request_sent_again_without_an_answer_counts_once(listen: Listen) -> None:
    with listen(limits=RequestLimits(ack_s=0.05)) as listener:
        listener.broker.silent = True
        assert post(listener, [item(id="a"), item(id="b")]).status_code == 503
        listener.broker.silent = False
        listener.be_patient()
        answer = post(listener, [item(id="a"), item(id="b"), item(id="c")]).json()
        assert (answer["accepted"], answer["duplicates"]) == (1, 2)
        assert sorted(ids(listener)) == ["a", "b", "c"]
    with listen() as again:
        assert post(again, item(id="a")).json()["duplicates"] == 1
        assert rows(again) == []


def test_a_body_and_its_items_have_bounds(listen: Listen) -> None:
    with listen({"max_items": 2}, limits=RequestLimits(body_bytes=1_000)) as listener:
        assert post(listener, [item(id=str(n)) for n in range(3)]).status_code == 413
        assert post(listener, item(model="x" * 2_000)).status_code == 413
        assert rows(listener) == []


# -- no text of a prompt -----------------------------------------------------------------------------------------------


def test_no_text_of_a_prompt_is_stored_logged_or_answered(
    listen: Listen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = {
        "messages": [{"role": "user", "content": SECRET}], "prompt": SECRET, "choices": [{"text": SECRET}],
        "content": SECRET, "input": [SECRET], SECRET + " as a name": 1, "metadata": {"note": SECRET},
    }  # fmt: skip
    wrong = [{"prompt_tokens": SECRET}, {"start": SECRET}, {"status": [SECRET]}, {"usage": SECRET},
             {"tenant": [SECRET]}, {"duration_ms": SECRET}, {"model": SECRET * 20},
             {"usage": {"prompt_tokens": SECRET}}]  # fmt: skip
    with listen() as listener:
        listener.broker.silent = True  # So that everything stays on disk.
        bodies: list[Any] = [[item(**texts), *(item(id=str(n)) | w for n, w in enumerate(wrong))], SECRET, [SECRET]]
        answers = [post(listener, body) for body in bodies[1:]]
        answers.append(post(listener, json.dumps(item(**texts)).encode()[:-5]))
        listener.broker.silent = False
        accepted = post(listener, bodies[0])
        assert (accepted.json()["accepted"], accepted.json()["refused"]) == (1, len(wrong))
        assert accepted.json()["dropped_texts"] == ["choices", "content", "input", "messages", "prompt"]
        assert accepted.json()["unknown_fields"] == ["(a name of 32 characters)", "metadata"]
        assert SECRET not in "".join(answer.text for answer in [*answers, accepted])
        assert SECRET not in repr(listener.broker.stored)
        assert listener.broker.stored
    assert "it is dropped" in caplog.text
    assert SECRET not in caplog.text
    spool = sqlite3.connect(tmp_path / "http.db")
    assert SECRET not in "\n".join(spool.iterdump())
    spool.close()
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda c: st.lists(c, max_size=3)
    | st.dictionaries(st.sampled_from([*sorted(GOOD), "usage", "status", "workload", "first"]), c, max_size=6),
    max_leaves=12,
))  # fmt: skip
def test_any_item_is_accepted_or_refused_by_name(content: Any) -> None:
    from producers.api import ReceivedRequest
    from producers.runtime.deduplication import DeduplicationTrial
    from producers.runtime.receiver.problems import Rejected

    body = json.dumps([content, item()]).encode()
    sent = ReceivedRequest(body, JSON, {}, ANYBODY, NOW_MS)
    parsed = route().parse(sent, DeduplicationTrial(DeduplicationWindow()))
    assert not isinstance(parsed, Rejected)
    assert parsed.answer["accepted"] in (1, 2)
    for one in parsed.batches:
        one.batch.check()
