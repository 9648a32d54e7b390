"""The event `gen_ai.client.inference.operation.details`: a call without another report counts, and none twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.events import TokenBatch
from contracts.settings import Settings
from producers.gateways.deployments import Deployment
from producers.receivers.otlp_signals.operation_details import DETAILS
from producers.receivers.otlp_signals.plugin import OtlpConfig, build_logs, build_metrics
from producers.receivers.otlp_signals.rules import SignalRules
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.receiver.door import SenderRules
from producers.runtime.receiver.routes import open_routes
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET, as_json, span
from tests.producers.receivers.otlp_signals.messages import END_NS, GENAI, JSON, NS, PROTOBUF, logs, record
from tests.producers.runtime.receiver.listener import NOW_MS, Listener, listening

TRACE, CALL, AGENT = "5b" * 16, "0e" * 8, "aa" * 8
"""Ids of `record`'s trace and span, and of an agent around it."""
CALL_DETAILS: dict[str, Any] = {
    "event.name": ..., "gen_ai.operation.name": "chat", "gen_ai.request.model": "llama",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "llama-3.1-8b", "gen_ai.response.id": "chatcmpl-1", "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20, "gen_ai.usage.cache_read.input_tokens": 30, "gen_ai.conversation.id": "s1",
    "gen_ai.input.messages": SECRET, "gen_ai.output.messages": SECRET,
}  # fmt: skip
RESOURCE = {"service.name": "shop", "wattlog.tenant": "acme"}
Listen = Callable[..., Any]


def details(**more: Any) -> Any:
    """The event as OpenTelemetry's SDK writes it; some versions put its name into an attribute."""
    event = record(CALL_DETAILS | more, body="")
    if more.get("event.name", ...) is ...:
        event.event_name = DETAILS
    return event


def call(id: str = CALL, parent: str = AGENT, **attributes: Any) -> dict[str, Any]:
    times = {"start": END_NS - 900 * NS, "end": END_NS}
    return span(attributes, id=id, trace=TRACE, parent=parent) | times


def agent(prompt: int = 100, completion: int = 20, parent: str = "") -> dict[str, Any]:
    own = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": prompt,
           "gen_ai.usage.output_tokens": completion}  # fmt: skip
    return call(AGENT, parent, **own) | {"start": END_NS - 1_000 * NS, "kind": 1}


@pytest.fixture
def listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listen:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    (tmp_path / "wattlog.toml").write_text("")

    @contextmanager
    def listen(names: Any = (DETAILS,), rules: Any = None, **more: Any) -> Iterator[Listener]:
        chat = Deployment(workload="chat", model="llama*")
        options = OtlpConfig(logs=names, rules=rules or SignalRules(), deployments=(chat,))
        here = environment(Settings(cluster="east", data=tmp_path))
        [spans] = [route for route in open_routes(here) if route.path == "/v1/traces"]
        routes = [build_metrics(options, here), build_logs(options, here), spans]
        with listening(tmp_path, intakes=routes, recent=DeduplicationWindow(), **more) as listener:
            yield listener

    return listen


def post(listener: Listener, path: str, body: bytes, content_type: str = PROTOBUF) -> Any:
    return listener.client.post(path, content=body, headers={"content-type": content_type})


def send(listener: Listener, *records: Any, content_type: str = PROTOBUF) -> Any:
    body = logs(*records, resource=RESOURCE, content_type=content_type, scope="opentelemetry.genai")
    return post(listener, "/v1/logs", body, content_type)


def rows(listener: Listener) -> list[tuple[Any, ...]]:
    """(tenant, model, end, prompt, cached, completion) of each request on the log."""
    return [
        (
            b.tenants[b.tenant[n]], b.models[b.model[n]], int(b.t_end_ms[n]), int(b.prompt_tokens[n]),
            int(b.cached_tokens[n]), int(b.completion_tokens[n]),
        )
        for event in listener.broker.stored if isinstance(b := event.batch, TokenBatch) for n in range(len(b))
    ]  # fmt: skip


CALL_ROW = ("acme", "llama-3.1-8b", END_NS // NS, 100, 30, 20)


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize("name", [..., DETAILS], ids=["field", "attribute"])
def test_an_event_without_its_span_is_a_request(listen: Listen, content_type: str, name: Any) -> None:
    with listen() as listener:
        answer = send(listener, details(**{"event.name": name}), content_type=content_type)
        assert answer.status_code == 200
        assert rows(listener) == [CALL_ROW]
        [event] = listener.broker.stored
        assert (event.workload, event.batch.session_id, event.batch.provider) == ("chat", ("s1",), ("openai",))
        assert SECRET not in repr(event)


def test_nothing_counts_until_the_event_is_named_and_the_answer_says_so(listen: Listen) -> None:
    with listen(names=()) as listener:
        answer = send(listener, details(), content_type=JSON).json()
        assert f"{DETAILS} can count, if produce.otlp.logs names them" in answer["partialSuccess"]["errorMessage"]
        assert rows(listener) == []


BODIES: dict[str, Callable[[Listener], Any]] = {
    "event": lambda listener: send(listener, details()),
    "call": lambda listener: post(listener, "/v1/traces", as_json([call()], RESOURCE), JSON),
}


ORDERS = [*permutations(("event", "call", "agent")), ("event", "agent"), ("agent", "event")]


@pytest.mark.parametrize("outer", ["", "cc" * 8], ids=["root", "inner"])
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_an_event_beside_its_span_and_an_agent_counts_once_in_any_order(
    listen: Listen, order: tuple[str, ...], outer: str
) -> None:
    with listen() as listener:
        for name in order:
            if name == "agent":
                post(listener, "/v1/traces", as_json([agent(parent=outer)], RESOURCE), JSON)
            else:
                assert BODIES[name](listener).status_code == 200
        assert [row[3:] for row in rows(listener)] == [(100, 30, 20)]


def test_an_agent_in_the_message_of_a_call_that_an_event_reported_does_not_count(listen: Listen) -> None:
    with listen() as listener:
        send(listener, details())
        post(listener, "/v1/traces", as_json([call(), call("0f" * 8), agent(200, 40)], RESOURCE), JSON)
        assert [row[3:] for row in rows(listener)] == [(100, 30, 20), (100, 30, 20)]


def test_an_event_that_is_sent_again_counts_once(listen: Listen) -> None:
    with listen() as listener:
        for _ in range(2):
            send(listener, details(), details())
        assert rows(listener) == [CALL_ROW]


def test_events_outside_of_any_span_are_known_by_the_id_of_their_answer(listen: Listen) -> None:
    events = [details(**{"gen_ai.response.id": text}) for text in ("chatcmpl-1", "chatcmpl-2", ...)]
    for event in events:
        event.ClearField("span_id")
        event.ClearField("trace_id")
    with listen() as listener:
        for _ in range(2):
            send(listener, *events)
        assert rows(listener) == [CALL_ROW] * 3


def test_one_bad_event_does_not_take_its_batch_along(listen: Listen) -> None:
    bad = details(**{"gen_ai.usage.input_tokens": -1})
    bad.span_id = b"\x01" * 8
    old = details()
    old.span_id, old.time_unix_nano = b"\x02" * 8, END_NS - 10**13
    with listen(door=SenderRules(max_age_ms=60_000)) as listener:
        answer = send(listener, bad, details(), old, content_type=JSON).json()["partialSuccess"]
        assert answer["rejectedLogRecords"] == "2"
        assert rows(listener) == [CALL_ROW]


def test_an_event_without_counts_is_refused_by_name(listen: Listen) -> None:
    with listen() as listener:
        event = details(**{name: ... for name in CALL_DETAILS if "usage" in name})
        answer = send(listener, event, content_type=JSON).json()["partialSuccess"]
        assert (answer["rejectedLogRecords"], "gen_ai.usage.input_tokens" in answer["errorMessage"]) == ("1", True)


def test_an_event_of_a_call_that_failed_is_a_failure(listen: Listen) -> None:
    with listen() as listener:
        send(listener, details(**{"error.type": "timeout", **{n: ... for n in CALL_DETAILS if "usage" in n}}))
        [event] = listener.broker.stored
        assert event.batch.statuses == ("timeout",)


def test_events_of_a_service_that_is_not_named_do_not_count(listen: Listen) -> None:
    with listen(rules=SignalRules(services=("other",))) as listener:
        send(listener, details())
        assert rows(listener) == []
        assert listener.count("skipped_rows_total", route="/v1/logs", why="service") == 1


def test_the_counter_of_the_same_calls_cannot_be_named_beside_it() -> None:
    with pytest.raises(ValidationError, match="name one of the two"):
        OtlpConfig(logs=(DETAILS,), metrics=(GENAI,))


def test_an_event_from_the_future_is_refused(listen: Listen) -> None:
    event = details()
    event.time_unix_nano = (NOW_MS + 60_000) * NS
    with listen() as listener:
        assert send(listener, event, content_type=JSON).json()["partialSuccess"]["rejectedLogRecords"] == "1"
