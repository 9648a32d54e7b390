"""CloudEvents that are requests of a model: a rule maps them to rows of tokens, which bear energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.errors import BadSetting
from contracts.events import TokenBatch, UsageBatch
from contracts.settings import Settings
from producers.receivers.cloudevents.meter_rules import MeterRule
from producers.receivers.cloudevents.request_rules import RequestRule, RequestRules
from producers.receivers.plugin import HttpConfig, build_route
from producers.receivers.request_items import ItemReader
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET
from tests.producers.runtime.receiver.listener import MANY, SENDS, Listener, event, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY

BY_KIND = RequestRule(
    event_type="prompt", tokens="$.tokens", kind="$.type", fields={"model": "$.model"}, workload="chat"
)
BY_CALL = RequestRule(
    event_type="completion",
    fields={"model": "$.model", "usage": "$.usage", "duration_ms": "$.latency_ms", "session_id": "$.thread"},
    workload="$.deployment",
)
CALL = {
    "model": "llama", "usage": {"prompt_tokens": 100, "completion_tokens": 20.0}, "latency_ms": 1_500, "thread": "s1",
    "deployment": "chat", "messages": [SECRET], "prompt": SECRET,
}  # fmt: skip
END = 1_704_067_200_001
Listen = Callable[..., Any]


@pytest.fixture
def listen(tmp_path: Path) -> Listen:
    @contextmanager
    def listen(*rules: RequestRule, meters: Any = (), **more: Any) -> Iterator[Listener]:
        options = HttpConfig(requests=rules or (BY_KIND, BY_CALL), meters=meters)
        route = build_route(options, environment(Settings(cluster="east")))
        with listening(tmp_path, events_route=route, recent=DeduplicationWindow(), **more) as listener:
            yield listener

    return listen


def call(id_: str = "e1", **more: Any) -> dict[str, Any]:
    return event(id_, type="completion", data=CALL | more)


def requests(listener: Listener) -> list[tuple[Any, ...]]:
    """(workload, tenant, model, id, start, end, prompt, completion) of each request on the log."""
    return [
        (
            event.workload, batch.tenants[batch.tenant[n]], batch.models[batch.model[n]], batch.request_id[n],
            int(batch.t_start_ms[n]), int(batch.t_end_ms[n]), int(batch.prompt_tokens[n]),
            int(batch.completion_tokens[n]),
        )
        for event in listener.broker.stored
        if isinstance(batch := event.batch, TokenBatch)
        for n in range(len(batch))
    ]  # fmt: skip


def meters(listener: Listener) -> list[str]:
    return [m for event in listener.broker.stored if isinstance(event.batch, UsageBatch) for m in event.batch.meter]


def test_an_event_of_a_call_is_a_request_and_nothing_else(listen: Listen) -> None:
    with listen() as listener:
        assert listener.post(call()).status_code == 202
        assert requests(listener) == [("chat", "customer-1", "llama", "e1", END - 1_500, END, 100, 20)]
        assert meters(listener) == []
        assert SECRET not in repr(listener.broker.stored)


def test_openmeters_events_count_the_tokens_of_one_kind_each(listen: Listen) -> None:
    sent = [
        event(str(n), type="prompt", data={"tokens": str(tokens), "model": "gpt4-turbo", "type": kind})
        for n, (kind, tokens) in enumerate([("input", 100), ("system", 7), ("output", 20)])
    ]
    with listen() as listener:
        assert listener.post(sent, MANY).status_code == 202
        assert [row[3:] for row in requests(listener)] == [
            ("0", END, END, 100, 0), ("1", END, END, 7, 0), ("2", END, END, 0, 20),
        ]  # fmt: skip
        unknown = listener.post(event("9", type="prompt", data={"tokens": 1, "model": "m", "type": "audio"}))
        assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "kind")


def test_an_event_that_is_sent_again_counts_once(listen: Listen) -> None:
    with listen() as listener:
        for body in ([call("a"), call("a")], [call("a"), call("b")]):
            assert listener.post(body, MANY).status_code == 202
        listener.post([call("a") | {"source": "service-1"}], MANY)  # Another source has ids of its own.
        assert [row[3] for row in requests(listener)] == ["a", "b", "a"]


def test_a_meter_of_the_same_type_counts_besides(listen: Listen) -> None:
    with listen(meters=[MeterRule(slug="calls", event_type="completion", aggregation="count")]) as listener:
        listener.post(call())
        assert (len(requests(listener)), meters(listener)) == (1, ["calls"])
        listener.post(event("e2", type="other"))
        assert meters(listener) == ["calls", "other"]


def test_a_tenants_own_token_pays_and_may_use_the_workload_of_the_rule(listen: Listen) -> None:
    with listen(BY_KIND, BY_CALL, key=KEY) as listener:
        data = {"tokens": 5, "model": "m", "type": "input"}
        listener.post(event("a", type="prompt", data=data), authorization=token(tenant="acme", scope=SENDS))
        assert [row[:2] for row in requests(listener)] == [("chat", "acme")]
        named = listener.post(call("b"), authorization=token(tenant="acme", scope=SENDS))
        assert named.json()["errors"][0]["field"] == "workload"


def test_a_wrong_event_is_refused_by_name_and_a_body_that_is_sent_again_counts_once(listen: Listen) -> None:
    with listen() as listener:
        for _ in range(2):
            answer = listener.post([call("a"), call("b", usage={"prompt_tokens": -1})], MANY)
            assert (answer.status_code, answer.json()["refused"], answer.json()["errors"][0]["index"]) == (202, 1, 1)
            assert [row[3] for row in requests(listener)] == ["a"]
        assert listener.post([call("a"), call("b")], MANY).content == b""
        assert [row[3] for row in requests(listener)] == ["a", "b"]


def test_an_event_that_is_a_request_and_a_quantity_counts_as_both_or_not_at_all(listen: Listen) -> None:
    meter = MeterRule(slug="ms", event_type="completion", value="$.n", unit="n")
    with listen(BY_CALL, meters=(meter,)) as listener:
        answer = listener.post([call("a", n=1), call("b"), call("c", n=1, usage={})], MANY)
        assert [error["index"] for error in answer.json()["errors"]] == [1, 2]
        assert [row[3] for row in requests(listener)] == ["a"]
        assert [e.batch.event_id for e in listener.broker.stored if isinstance(e.batch, UsageBatch)] == [("a",)]


@pytest.mark.parametrize(("scope", "index"), [("send:usage", 0), ("send:requests", 1)])
def test_an_event_that_its_sender_may_not_send_does_not_take_its_batch_along(
    listen: Listen, scope: str, index: int
) -> None:
    with listen(key=KEY) as listener:
        prompt = event("a", type="prompt", data={"tokens": 5, "type": "input", "model": "llama"})
        credential = token(tenant="customer-1", scope=scope)
        answer = listener.post([prompt, event("b", type="other")], MANY, authorization=credential)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert [error["index"] for error in answer.json()["errors"]] == [index]
        assert len(listener.broker.stored) == 1


def test_the_events_time_may_be_the_start(listen: Listen) -> None:
    rule = BY_CALL.model_copy(update={"time": "start"})
    with listen(rule) as listener:
        listener.post(call())
        assert [row[4:6] for row in requests(listener)] == [(END, END + 1_500)]
        late = listener.post(call("b", latency_ms=1) | {"time": "2026-11-01T00:01:03Z"})
        assert late.json()["errors"][0]["field"] in ("time", "end")


@pytest.mark.parametrize(
    "options",
    [
        {}, {"fields": {"x": "$.a", "usage": "$.u"}}, {"fields": {"tenant": "$.t", "usage": "$.u"}},
        {"fields": {"usage": "u"}}, {"tokens": "$.t"}, {"fields": {"usage": "$.u"}, "tenant": "acme"},
    ],
)  # fmt: skip
def test_an_invalid_rule_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RequestRule(event_type="e", **options)


def test_two_rules_of_one_type_are_refused() -> None:
    with pytest.raises(BadSetting, match="two rules"):
        RequestRules([BY_CALL, BY_CALL], ItemReader(cluster="c"))
