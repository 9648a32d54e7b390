"""OTLP's metrics and logs: what counts, once, by delta and cumulative counters, and what an exporter is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from pydantic import ValidationError

from contracts.events import TokenBatch, UsageBatch
from contracts.settings import Settings
from producers.gateways.deployments import Deployment
from producers.receivers.otlp_signals.plugin import OtlpConfig, build_logs, build_metrics
from producers.receivers.otlp_signals.rules import SignalRules
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.receiver.server import RequestLimits
from producers.runtime.series_totals import SeriesTotal, SeriesTotals, SeriesTrial
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET
from tests.producers.receivers.otlp_signals.messages import (
    API_REQUEST,
    CLAUDE,
    CUMULATIVE,
    END_NS,
    GENAI,
    JSON,
    NS,
    PROTOBUF,
    START_NS,
    counter,
    histogram,
    logs,
    metrics,
    record,
)
from tests.producers.runtime.receiver.listener import NOW_MS, Listener, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY

METRICS, LOGS = "/v1/metrics", "/v1/logs"
Listen = Callable[..., Any]
LLAMA = Deployment(workload="chat", model="llama*")


@pytest.fixture
def listen(tmp_path: Path) -> Listen:
    @contextmanager
    def listen(
        *, metrics: Any = (CLAUDE, GENAI), logs: Any = (), rules: Any = None, since_ns: int = START_NS, **more: Any
    ) -> Iterator[Listener]:
        options = OtlpConfig(metrics=metrics, logs=logs, rules=rules or SignalRules(), deployments=(LLAMA,))
        here = environment(Settings(cluster="east"))
        routes = [build_metrics(options, here), build_logs(options, here)]
        totals = SeriesTotals(since_ns)
        with listening(tmp_path, intakes=routes, recent=DeduplicationWindow(), totals=totals, **more) as listener:
            yield listener

    return listen


def post(listener: Listener, path: str, body: bytes, content_type: str = PROTOBUF, **headers: str) -> Any:
    return listener.client.post(path, content=body, headers={"content-type": content_type, **headers})


def rows(listener: Listener) -> list[tuple[Any, ...]]:
    """(workload, tenant, model, start, end, prompt, cached, completion, requests) of each row on the log."""
    return [
        (
            event.workload, batch.tenants[batch.tenant[n]], batch.models[batch.model[n]],
            int(batch.t_start_ms[n]), int(batch.t_end_ms[n]), int(batch.prompt_tokens[n]),
            int(batch.cached_tokens[n]), int(batch.completion_tokens[n]),
            1 if batch.requests is None else int(batch.requests[n]),
        )
        for event in listener.broker.stored
        if isinstance(batch := event.batch, TokenBatch)
        for n in range(len(batch))
    ]  # fmt: skip


def counts(listener: Listener) -> list[tuple[int, int, int]]:
    return [row[5:8] for row in rows(listener)]


def warning(answer: Any) -> tuple[int, str]:
    """Rejected items of an answer to an exporter, and its message."""
    assert answer.status_code == 200, answer.text
    partial = answer.json().get("partialSuccess", {}) if answer.headers["content-type"] == JSON else None
    if partial is not None:
        return int(partial.get("rejectedDataPoints", partial.get("rejectedLogRecords", 0))), partial.get(
            "errorMessage", ""
        )
    if answer.request.url.path == METRICS:
        success = ExportMetricsServiceResponse.FromString(answer.content).partial_success
        return success.rejected_data_points, success.error_message
    log_success = ExportLogsServiceResponse.FromString(answer.content).partial_success
    return log_success.rejected_log_records, log_success.error_message


START, END = START_NS // NS, END_NS // NS
TOKENS = {"input": 60, "output": 20, "cacheRead": 30, "cacheCreation": 10}
CHAT = {"input": (100, 2), "output": (20, 2)}


# -- metrics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_claude_codes_counter_is_one_row_of_all_kinds(listen: Listen, content_type: str) -> None:
    with listen() as listener:
        answer = post(listener, METRICS, metrics(counter(TOKENS), content_type=content_type), content_type)
        assert warning(answer) == (0, "")
        assert rows(listener) == [
            ("external/anthropic", "acme", "claude-sonnet", START, END, 100, 30, 20, 0),
        ]  # fmt: skip


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_a_histogram_stands_for_as_many_requests_as_it_has_values(listen: Listen, content_type: str) -> None:
    with listen() as listener:
        post(listener, METRICS, metrics(histogram(CHAT), content_type=content_type), content_type)
        assert rows(listener) == [("chat", "acme", "llama-3.1-8b", START, END, 100, 0, 20, 2)]


def test_totals_beside_input_and_output_are_not_counted_again(listen: Listen) -> None:
    with listen() as listener:
        answer = post(listener, METRICS, metrics(histogram({**CHAT, "total": (120, 2), "cached_input": (30, 2)})))
        assert warning(answer) == (0, "not counted: 1 (other)")
        assert counts(listener) == [(100, 30, 20)]


def test_nothing_counts_that_is_not_named(listen: Listen) -> None:
    with listen(metrics=()) as listener:
        rejected, message = warning(post(listener, METRICS, metrics(counter(TOKENS), histogram(CHAT))))
        assert (rejected, rows(listener)) == (0, [])
        assert f"{CLAUDE}, {GENAI} can count, if produce.otlp.metrics names them" in message
        assert "claude_code.api_request can count, if produce.otlp.logs" in warning(
            post(listener, LOGS, logs(record()))
        )[1]  # fmt: skip


def test_a_delta_that_is_sent_again_counts_once(listen: Listen) -> None:
    body = metrics(histogram(CHAT))
    with listen(limits=RequestLimits(ack_s=0.05)) as listener:
        listener.broker.silent = True
        assert post(listener, METRICS, body).status_code == 503
        listener.broker.silent = False
        listener.be_patient()
        assert warning(post(listener, METRICS, body)) == (0, "")
        post(listener, METRICS, metrics(histogram(CHAT, start=END_NS, end=END_NS + NS)))
        assert counts(listener) == [(100, 0, 20)] * 2


def test_a_cumulative_counter_counts_its_growth_through_a_restart_of_the_listener(listen: Listen) -> None:
    def sent(total: int, second: int, start: int = START_NS) -> bytes:
        grown = {"input": (total, total // 10), "output": (total // 5, total // 10)}
        return metrics(histogram(grown, temporality=CUMULATIVE, start=start, end=start + second * 1_000 * NS))

    with listen() as listener:
        post(listener, METRICS, sent(100, 10))
        post(listener, METRICS, sent(150, 20))
        post(listener, METRICS, sent(150, 20))  # A retry.
        post(listener, METRICS, sent(150, 30))  # Nothing grew.
        assert [(row[3] - START, row[4] - START, row[5], row[8]) for row in rows(listener)] == [
            (0, 10_000, 100, 10), (10_000, 20_000, 50, 5),
        ]  # fmt: skip
    with listen(since_ns=NOW_MS * NS) as again:
        post(again, METRICS, sent(170, 40))
        post(again, METRICS, sent(30, 5, start=START_NS + 41_000 * NS))  # Its process began again.
        assert [(row[3] - START, row[4] - START, row[5]) for row in rows(again)] == [
            (30_000, 40_000, 20), (41_000, 46_000, 30),
        ]  # fmt: skip


def test_a_cumulative_counter_that_began_before_the_listener_only_begins(listen: Listen) -> None:
    with listen(since_ns=START_NS + 1) as listener:
        body = metrics(histogram(CHAT, temporality=CUMULATIVE))
        assert warning(post(listener, METRICS, body)) == (0, "not counted: 2 (begins)")
        more = {"input": (130, 3), "output": (20, 2)}
        post(listener, METRICS, metrics(histogram(more, temporality=CUMULATIVE, end=END_NS + NS)))
        assert counts(listener) == [(30, 0, 0)]


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (counter(TOKENS, temporality=0), "DELTA or CUMULATIVE"), (counter(TOKENS, monotonic=False), "not monotonic"),
        (counter({"input": 1.5}), "whole number"), (counter({"input": -1}), "whole number"),
        (counter({"input": float("nan")}), "whole number"), (counter({"input": 5}, end=0), "Unix nanoseconds"),
        (counter({"input": 5}, end=START_NS - 1), "not before the start"),
        (counter({"input": 5}, end=END_NS + 60_000 * NS), "future"), (counter({"input": 2**40}), "more tokens"),
    ],
)  # fmt: skip
def test_a_point_that_cannot_be_counted_is_rejected_with_the_reason(listen: Listen, metric: Any, reason: str) -> None:
    with listen() as listener:
        rejected, message = warning(post(listener, METRICS, metrics(metric, histogram(CHAT))))
        assert rejected == 1
        assert reason in message
        assert counts(listener) == [(100, 0, 20)]
        assert listener.count("left_out_rows_total", route=METRICS) == 1


def test_only_named_services_count(listen: Listen) -> None:
    with listen(rules=SignalRules(services=("gateway-*",))) as listener:
        assert warning(post(listener, METRICS, metrics(counter({"input": 5})))) == (0, "not counted: 1 (service)")
        resource = {"service.name": "gateway-7", "wattlog.tenant": "globex"}
        post(listener, METRICS, metrics(counter({"input": 5}), resource=resource))
        assert [row[1] for row in rows(listener)] == ["globex"]


def test_a_tenants_token_pays_and_a_client_cannot_name_another_on_a_point(listen: Listen) -> None:
    with listen(key=KEY) as listener:
        denied = post(listener, METRICS, metrics(counter({"input": 5})), authorization=token(tenant="globex"))
        assert denied.status_code == 403
        body = metrics(counter({"input": 5}, **{"wattlog.tenant": "initech"}), resource={})
        for _ in range(2):  # The second is a copy: a point counts once.
            post(listener, METRICS, body, authorization=token(tenant="globex"))
        assert [row[1] for row in rows(listener)] == ["globex"]


def test_two_ways_of_one_product_are_refused() -> None:
    with pytest.raises(ValidationError, match="counts what `logs` count"):
        OtlpConfig(metrics=(CLAUDE,), logs=("claude_code.api_request",))
    with pytest.raises(ValidationError, match="there are: gen_ai"):
        OtlpConfig(metrics=("tokens",))


# -- logs --------------------------------------------------------------------------------------------------------------

EVENT = "claude_code.api_request"


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_claude_codes_event_is_a_call_with_its_price(listen: Listen, content_type: str) -> None:
    with listen(metrics=(), logs=(EVENT,)) as listener:
        assert warning(post(listener, LOGS, logs(record(), content_type=content_type), content_type)) == (0, "")
        assert rows(listener) == [
            ("external/anthropic", "acme", "claude-sonnet", END - 1_500, END, 100, 30, 20, 1),
        ]  # fmt: skip
        [spend] = [event.batch for event in listener.broker.stored if isinstance(event.batch, UsageBatch)]
        assert (spend.meter, spend.quantity) == (("external_spend",), ("0.01",))
        [tokens] = [event.batch for event in listener.broker.stored if isinstance(event.batch, TokenBatch)]
        assert (tokens.session_id, tokens.trace_id, tokens.request_id) == (("s1",), ("5b" * 16,), ("req_1",))


def test_an_event_that_is_sent_again_counts_once_with_or_without_an_id(listen: Listen) -> None:
    with listen(metrics=(), logs=(EVENT,)) as listener:
        body = logs(record(), record(request_id=...), record(request_id=..., **{"event.sequence": 4}))
        for _ in range(2):
            assert warning(post(listener, LOGS, body)) == (0, "")
        assert len(rows(listener)) == 3


def test_other_records_do_not_count(listen: Listen) -> None:
    prompt = record({"event.name": "user_prompt", "prompt": SECRET}, body="claude_code.user_prompt")
    with listen(metrics=(), logs=(EVENT,)) as listener:
        answer = post(listener, LOGS, logs(prompt, record(), record({"event.name": "tool_result"}, body=SECRET * 40)))
        assert warning(answer) == (0, "not counted: 2 (other)")
        assert len(rows(listener)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input_tokens": ...}, "input_tokens"), ({"output_tokens": "x"}, "output_tokens"),
        ({"input_tokens": -1}, "input_tokens"), ({"duration_ms": "long"}, "duration_ms"), ({"end": 0}, "timeUnixNano"),
        ({"end": END_NS + 60_000 * NS}, "future"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_counted_is_rejected_with_the_reason(
    listen: Listen, change: dict[str, Any], reason: str
) -> None:
    with listen(metrics=(), logs=(EVENT,)) as listener:
        rejected, message = warning(post(listener, LOGS, logs(record(), record(request_id="req_2", **change))))
        assert (rejected, reason in message) == (1, True)
        assert len(rows(listener)) == 1


def test_a_price_that_cannot_be_read_costs_no_tokens(listen: Listen) -> None:
    with listen(metrics=(), logs=(EVENT,)) as listener:
        post(listener, LOGS, logs(record(cost_usd="free")))
        assert counts(listener) == [(100, 30, 20)]


def test_events_of_gemini_cli_and_codex_are_counted_by_their_own_conventions(listen: Listen) -> None:
    gemini = record(
        {
            "event.name": "gemini_cli.api_response", "model": "gemini-pro", "input_token_count": 100,
            "output_token_count": 15, "cached_content_token_count": 30, "thoughts_token_count": 5, "duration_ms": 9,
        },
        body="API response from gemini-pro.",
    )  # fmt: skip
    codex = {
        "event.name": "codex.sse_event", "event.kind": "response.completed", "model": "gpt", "input_token_count": 100,
        "cached_token_count": 30, "output_token_count": 20, "reasoning_token_count": 5,
    }  # fmt: skip
    created = record(codex | {"event.kind": "response.created"}, body="")
    with listen(metrics=(), logs=("gemini_cli.api_response", "codex.sse_event")) as listener:
        assert warning(post(listener, LOGS, logs(gemini, record(codex, body=""), created))) == (
            0, "not counted: 1 (other)",
        )  # fmt: skip
        assert sorted((row[0], *row[5:8]) for row in rows(listener)) == [
            ("external/google", 100, 30, 20), ("external/openai", 100, 30, 20),
        ]  # fmt: skip


CODEX: dict[str, Any] = {
    "event.kind": "response.completed", "model": "gpt", "input_token_count": "100", "cached_token_count": "30",
    "output_token_count": "20", "reasoning_token_count": "5", "cache_write_token_count": 10, "tool_token_count": 120,
}  # fmt: skip
CODEX_RESOURCE = {"service.name": "codex_cli_rs", "wattlog.tenant": "acme"}


@pytest.mark.parametrize(
    "names", [("codex.sse_event", None), ("codex.websocket_event", None), ("codex.websocket_event", "")]
)
def test_codexs_two_records_of_one_answer_count_once(listen: Listen, names: tuple[str, str | None]) -> None:
    # One has the name of the event, the other one its counts.
    named = record({"event.name": names[0], "event.kind": "response.completed", "model": "gpt"}, body="")
    counted = record(CODEX | ({} if names[1] == "" else {"event.name": names[0]}), body="")
    with listen(metrics=(), logs=("codex.sse_event",)) as listener:
        answer = post(listener, LOGS, logs(named, counted, resource=CODEX_RESOURCE))
        assert warning(answer) == (0, "not counted: 1 (other)")
        assert counts(listener) == [(100, 30, 20)]


def test_tokens_that_geminis_tools_read_are_part_of_the_prompt(listen: Listen) -> None:
    attributes = {
        "event.name": "gemini_cli.api_response", "model": "gemini", "input_token_count": 80, "tool_token_count": 20,
        "output_token_count": 15, "thoughts_token_count": 5, "cached_content_token_count": 30,
    }  # fmt: skip
    with listen(metrics=(), logs=("gemini_cli.api_response",)) as listener:
        post(listener, LOGS, logs(record(attributes, body="")))
        assert counts(listener) == [(100, 30, 20)]


def test_counts_of_events_and_metrics_that_are_not_read_are_named(listen: Listen) -> None:
    other = record({"event.name": "acme.answer", "prompt_token_count": 7}, body="")
    with listen(metrics=(GENAI,), logs=(EVENT,)) as listener:
        assert "'acme.answer' has counts of tokens that are not read" in warning(post(listener, LOGS, logs(other)))[1]
        turn = metrics(counter({"input": 7}, name="codex.turn.token_usage", kind="token_type"))
        assert "'codex.turn.token_usage' has counts of tokens that are not read" in warning(
            post(listener, METRICS, turn)
        )[1]  # fmt: skip
        unknown = metrics(histogram({**CHAT, "frobnicated": (7, 1)}))
        assert warning(post(listener, METRICS, unknown))[1] == "not counted: 1 (unknown_kind)"
        assert counts(listener) == [(100, 0, 20)]


@pytest.mark.parametrize("kind", ["cached_input", "cache_read", "input_cache_read", "input_cached"])
def test_kinds_of_tokens_are_read_by_their_words(listen: Listen, kind: str) -> None:
    with listen() as listener:
        post(listener, METRICS, metrics(histogram({**CHAT, kind: (30, 2)})))
        assert counts(listener) == [(100, 30, 20)]


# -- malformed, and no text of a prompt --------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [(METRICS, metrics(counter(TOKENS))), (LOGS, logs(record()))])
def test_one_malformed_item_costs_no_other(listen: Listen, path: str, body: bytes) -> None:
    with listen(metrics=(CLAUDE,) if path == METRICS else (), logs=() if path == METRICS else (EVENT,)) as listener:
        both = body + body.replace(b"claude-sonnet", b"claude-\xff\xffnnet")
        assert warning(post(listener, path, both))[0] == 1
        assert len(rows(listener)) == 1
        for malformed in (b"\xff", b"x", body[:-3]):
            assert post(listener, path, malformed).status_code in (200, 422)
        for wrong in (b"[]", b"{", b'{"resourceMetrics": 1, "resourceLogs": [7]}', b"[" * 9_000):
            assert post(listener, path, wrong, JSON).status_code in (200, 422)
        assert len(rows(listener)) == 1


def test_no_text_of_a_prompt_is_stored_logged_or_answered(
    listen: Listen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bad = record(API_REQUEST, request_id="r2", input_tokens=SECRET, body=SECRET)
    with listen(metrics=(GENAI,), logs=(EVENT,)) as listener:
        for content_type in (PROTOBUF, JSON):
            records = (record(body=SECRET, **{"event.name": EVENT}), bad, record(body=SECRET * 20))
            answers = [
                post(listener, LOGS, logs(*records, content_type=content_type), content_type),
                post(listener, METRICS, metrics(histogram(CHAT, note=SECRET), content_type=content_type), content_type),
                post(listener, LOGS, logs(*records, content_type=content_type)[:-9], content_type),
                post(listener, METRICS, metrics(histogram({SECRET: (1, 1)}, note=SECRET))),
            ]
            assert SECRET not in "".join(answer.text for answer in answers)
        assert rows(listener)
        assert SECRET not in repr(listener.broker.stored)
    assert SECRET not in caplog.text
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


# -- totals ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.booleans()), max_size=20))
def test_the_growth_of_a_counter_sums_to_what_its_processes_counted(steps: list[tuple[int, bool, bool]]) -> None:
    totals, counted, grown, total, start_ns = SeriesTotals(), 0, 0, 0, 1
    for time, (more, restarts, stores) in enumerate(steps, 2):
        if restarts:
            total, start_ns = 0, time
        total, counted = total + more, counted + more
        trial = SeriesTrial(totals)
        growth = trial.growth(7, SeriesTotal(start_ns, time, total))
        grown += growth.total if growth else 0
        totals.apply(trial.changes)
        if stores:  # A new run goes on from what was stored.
            parts = totals.changed_parts()
            totals = SeriesTotals(10**6)
            totals.load(parts)
            totals.apply(trial.changes)
    assert grown == counted
