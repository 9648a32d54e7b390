"""Lines of an access log as gateways write them: names, paths, units, filters, presets, and no text of a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.errors import BadInput
from contracts.events import TokenBatch
from producers.gateways.accesslog.lines import FILTERED, OTHER, LineReader, LineRules
from producers.gateways.accesslog.plugin import AccessLogConfig
from producers.gateways.accesslog.presets import PRESETS, line_rules
from producers.gateways.accesslog.source import AccessLog
from producers.gateways.deployments import Deployments
from producers.gateways.request_fields import RequestFields
from producers.runtime.batching import RequestRow
from tests.producers.gateways.payloads import SECRET
from tests.support.clocks import T0, clock_at

GOOD: dict[str, Any] = {
    "tenant": "acme", "model": "llama", "start": T0, "end": T0 + 3_000, "prompt_tokens": 100, "completion_tokens": 20,
}  # fmt: skip
LINES: dict[str, dict[str, Any]] = {
    "nginx": {
        "msec": f"{T0 // 1000 + 3}.000", "request_time": "3.000", "status": "200", "request_id": "r1",
        "remote_user": "acme", "model": "llama", "prompt_tokens": "100", "completion_tokens": "20",
        "upstream_header_time": "0.500",
    },
    "traefik": {
        "StartUTC": "2023-11-14T22:13:20.000000123Z", "Duration": 3_000_000_000, "DownstreamStatus": 200,
        "ClientUsername": "acme", "request_X-Request-Id": "r1",
        "ServiceURL": {"Scheme": "http", "Host": "10.0.0.5:8000"},
        "model": "llama", "prompt_tokens": "100", "completion_tokens": "20", "to_first_ms": 500,
    },
    "kong": {
        "started_at": T0, "latencies": {"request": 3_000, "proxy": 2_990}, "request": {"id": "r1", "uri": "/v1/chat"},
        "response": {"status": 200}, "consumer": {"username": "acme"},
        "ai": {"proxy": {
            "payload": {"request": SECRET}, "meta": {"request_model": "l", "response_model": "llama"},
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "time_to_first_token": 500},
        }},
    },
    "apisix": {
        "time_iso8601": "2023-11-14T22:13:23+00:00", "request_time": 3.0, "status": 200, "apisix_request_id": "r1",
        "consumer_name": "acme", "request_type": "ai_stream", "llm_model": "llama", "llm_prompt_tokens": "100",
        "llm_completion_tokens": "20", "llm_time_to_first_token": "500",
    },
    "envoy-ai-gateway": {
        "start_time": "2023-11-14T22:13:20.000Z", "duration": 3_000, "response_code": 200, "x-request-id": "r1",
        "tenant": "acme", "gen_ai.request.model": "llama", "gen_ai.response.model": None, "to_first_ms": "500",
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
    },
    "llm-d": {
        "start_time": "2023-11-14T22:13:20.000Z", "duration": 3_000, "response_code": 200, "x-request-id": "r1",
        "x-llm-d-inference-fairness-id": "acme", "model": "llama", "prompt_tokens": 100, "completion_tokens": 20,
        "to_first_s": 0.5,
    },
}  # fmt: skip
"""One request as each gateway logs it."""


def read(rules: LineRules | None = None, otherwise: str = "", **more: Any) -> RequestRow | str:
    line = {k: v for k, v in (GOOD | more).items() if v is not ...}
    return LineReader(rules or LineRules(RequestFields()), otherwise).read(json.dumps(line).encode(), "f-0")


def read_preset(name: str, **more: Any) -> RequestRow | str:
    line = {k: v for k, v in (LINES[name] | more).items() if v is not ...}
    return LineReader(PRESETS[name]).read(json.dumps(line).encode(), "f-0")


def counts(row: RequestRow | str) -> tuple[int, int, int]:
    assert isinstance(row, RequestRow)
    return row.prompt_tokens, row.cached_tokens, row.completion_tokens


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_the_gateways_own_names(name: str) -> None:
    row = read_preset(name)
    assert isinstance(row, RequestRow)
    assert row._replace(api_base="", route="", provider="", sender="") == RequestRow(
        tenant="acme", model="llama", request_id="r1", t_start_ms=T0, t_first_ms=T0 + 500, t_end_ms=T0 + 3_000,
        prompt_tokens=100, cached_tokens=0, completion_tokens=20,
    )  # fmt: skip


def test_a_plug_in_of_an_older_kong_logs_under_its_own_name() -> None:
    usage = {"prompt_token": 100, "completion_token": 20, "total_tokens": 120}
    row = read_preset("kong", ai={"ai-proxy": {"usage": usage, "meta": {"response_model": "llama"}}})
    assert counts(row) == (100, 0, 20)


def test_zeros_of_apisix_stand_for_unknown_counts() -> None:
    with pytest.raises(BadInput, match="usage"):
        read_preset("apisix", llm_prompt_tokens="0", llm_completion_tokens="0")
    assert read_preset("apisix", request_type="traditional_http", llm_prompt_tokens="0") == OTHER


def test_names_of_the_options_replace_those_of_the_preset() -> None:
    rules = line_rules("kong", RequestFields(tenant=("team",)), {})
    line = json.dumps(LINES["kong"] | {"team": "globex"}).encode()
    row = LineReader(rules).read(line, "f-0")
    assert isinstance(row, RequestRow)
    assert (row.tenant, row.prompt_tokens) == ("globex", 100)


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="there are: nginx, traefik, kong"):
        AccessLogConfig(preset="haproxy")


@pytest.mark.parametrize(
    "line",
    [
        {"gen_ai.usage.input_tokens": 100}, {"gen_ai": {"usage": {"input_tokens": 100}}},
        {"gen_ai.usage": {"input_tokens": 100}}, {"gen_ai": {"usage.input_tokens": 100}},
    ],
)  # fmt: skip
def test_a_key_may_hold_dots_or_objects_may_be_nested(line: dict[str, Any]) -> None:
    rules = LineRules(RequestFields(prompt_tokens=("gen_ai.usage.input_tokens",)))
    assert counts(read(rules, prompt_tokens=..., **line)) == (100, 0, 20)


@pytest.mark.parametrize("path", ["steps[1].tokens", "steps.1.tokens", "$.steps[1].tokens"])
def test_a_path_leads_into_arrays(path: str) -> None:
    rules = LineRules(RequestFields(prompt_tokens=(path,)))
    assert counts(read(rules, prompt_tokens=..., steps=[{"tokens": 1}, {"tokens": 7}])) == (7, 0, 20)


@pytest.mark.parametrize(
    ("times", "start_ms", "end_ms"),
    [
        ({"start": T0 * 1_000, "end": T0 * 1_000 + 2_500_000}, T0, T0 + 2_500),
        ({"start": T0 * 1_000_000, "end": T0 * 1_000_000 + 2_500_000_000}, T0, T0 + 2_500),
        ({"start": f"{T0 // 1000}.250", "end": ..., "duration_s": "2.5"}, T0 + 250, T0 + 2_750),
        ({"start": "2023-11-14t22:13:20z", "end": ..., "duration_us": 2_500_000}, T0, T0 + 2_500),
        ({"start": "14/Nov/2023:23:13:20 +0100", "end": ..., "duration_ns": 2_500_000_000}, T0, T0 + 2_500),
        ({"start": ..., "end": "[14/Nov/2023:22:13:20 +0000]", "duration_s": 2.5}, T0 - 2_500, T0),
        ({"start": T0, "end": ..., "duration_ms": "2.5s"}, T0, T0 + 2_500),
        ({"start": "2023-11-14 22:13:20.250", "end": ..., "duration_ms": "1m30s"}, T0 + 250, T0 + 90_250),
    ],
)
def test_times_and_durations_have_many_units(times: dict[str, Any], start_ms: int, end_ms: int) -> None:
    row = read(**times)
    assert isinstance(row, RequestRow)
    assert (row.t_start_ms, row.t_end_ms) == (start_ms, end_ms)


@pytest.mark.parametrize(
    ("usage", "right"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 30}},
         (100, 30, 20)),
        ({"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 30}}, (100, 30, 20)),
        ({"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10},
         (100, 30, 20)),
        ({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 30},
         (100, 30, 20)),
        ({"prompt_tokens": 70, "completion_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 30},
         (100, 30, 20)),
        ({"promptTokenCount": 100, "candidatesTokenCount": 15, "thoughtsTokenCount": 5, "cachedContentTokenCount": 30},
         (100, 30, 20)),
        ({"inputTokens": 70, "outputTokens": 20, "totalTokens": 120, "cacheReadInputTokens": 30}, (100, 30, 20)),
        ({"prompt_eval_count": 100, "eval_count": 20}, (100, 0, 20)),
        ({"promptTokens": 100, "completionTokens": 20, "totalTokens": 120}, (100, 0, 20)),
        ({"inputTokens": 100, "outputTokens": 20, "totalTokens": 120, "cachedInputTokens": 30}, (100, 30, 20)),
        ({"inputTokens": {"total": 100, "noCache": 70, "cacheRead": 30}, "outputTokens": {"total": 20, "text": 20}},
         (100, 30, 20)),
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0)),
        ({"prompt_tokens": "100", "completion_tokens": 20.0}, (100, 0, 20)),
        ('{"prompt_tokens":100,"completion_tokens":20}', (100, 0, 20)),
    ],
)  # fmt: skip
def test_a_usage_object_of_any_api_is_counted_right(usage: object, right: tuple[int, int, int]) -> None:
    assert counts(read(prompt_tokens=..., completion_tokens=..., usage=usage)) == right


def test_the_total_says_that_a_prompt_was_counted_without_its_cached_tokens() -> None:
    assert counts(read(prompt_tokens=5, cached_tokens=30, total_tokens=55)) == (35, 30, 20)


def test_more_cached_tokens_than_the_prompt_are_corrected_and_counted(tmp_path: Path) -> None:
    assert counts(read(prompt_tokens=5, cached_tokens=30, total_tokens=25)) == (5, 5, 20)
    result = _collect(tmp_path / "a.log", json.dumps(GOOD | {"cached_tokens": 101}).encode())
    assert dict(result.corrected) == {"cached_above_prompt": 1}


def test_apisix_leaves_anthropics_cached_tokens_out_of_the_prompt() -> None:
    cached = {"llm_cache_read_input_tokens": 30, "llm_cache_creation_input_tokens": "10"}
    assert counts(read_preset("apisix", llm_model="claude-sonnet", **cached)) == (140, 30, 20)
    assert counts(read_preset("apisix", **cached)) == (100, 30, 20)
    # APISIX 13662: the total of a native stream is its output only.
    streamed = {"llm_model": "claude-sonnet", "llm_total_tokens": 20, **cached}
    assert counts(read_preset("apisix", **streamed)) == (140, 30, 20)
    # A total that APISIX sums up itself does not say whether the cache is part of the prompt.
    assert counts(read_preset("apisix", llm_model="claude-sonnet", llm_total_tokens=120, **cached)) == (140, 30, 20)


def test_the_last_of_several_attempts_of_nginx_served_the_request() -> None:
    attempts = {"upstream_addr": "10.0.0.5:8000, 10.0.0.6:8000", "upstream_header_time": "0.100, 0.250"}
    row = read_preset("nginx", **attempts)
    assert isinstance(row, RequestRow)
    assert (row.api_base, row.t_first_ms, row.prompt_tokens) == ("10.0.0.6:8000", 0, 100)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"to_first_ms": "soon"}, "field_left_out"), ({"first": "later"}, "field_left_out"),
        ({"queue_ms": -1}, "field_left_out"), ({"cached_tokens": "many"}, "count_left_out"),
        ({"usage": {"completion_tokens_details": {"reasoning_tokens": -5}}}, "count_left_out"),
    ],
)  # fmt: skip
def test_a_bad_field_beside_the_tokens_is_left_out_and_counted(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    result = _collect(tmp_path / "a.log", json.dumps(GOOD | change).encode())
    assert (result.refused, dict(result.corrected)) == ([], {why: 1})


def test_cache_writes_and_reasoning_of_envoys_log_are_read() -> None:
    row = read_preset(
        "envoy-ai-gateway",
        **{"gen_ai.usage.cache_creation_input_tokens": 10, "gen_ai.usage.reasoning_tokens": 5},
    )
    assert isinstance(row, RequestRow)
    assert (row.cache_write_tokens, row.reasoning_tokens, row.prompt_tokens) == (10, 5, 100)


def test_dimensions_and_the_time_in_the_queue_are_read() -> None:
    row = read(LineRules(RequestFields(user=("uid",))), uid="u7", endpoint="chat", priority=3, queue_s="0.25", user="x")
    assert isinstance(row, RequestRow)
    assert (row.user, row.endpoint, row.priority, row.queue_ms) == ("u7", "chat", "3", 250)
    assert read()._replace(user="").queue_ms == -1  # type: ignore[union-attr]


def test_a_mark_of_utf_8_before_the_first_line_is_no_failure() -> None:
    row = LineReader(LineRules(RequestFields())).read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "f-0")
    assert counts(row) == (100, 0, 20)


def test_a_line_of_another_request_is_no_failure() -> None:
    page = {"prompt_tokens": ..., "completion_tokens": ..., "model": ...}
    assert read(**page) == OTHER
    assert read(**page | {"model": "-", "prompt_tokens": "-", "status": 404}) == OTHER


def test_a_model_without_counts_is_refused_because_its_tokens_would_be_lost() -> None:
    with pytest.raises(BadInput, match="prompt_tokens"):
        read(prompt_tokens=..., completion_tokens=...)


def test_a_failed_request_without_counts_has_none() -> None:
    row = read(prompt_tokens=..., completion_tokens="-", status=503)
    assert isinstance(row, RequestRow)
    assert (counts(row), row.status) == ((0, 0, 0), "503")


def test_a_filter_names_the_lines_that_count() -> None:
    rules = LineRules(RequestFields(), only={"request.uri": ("/v1/*", "/openai/*"), "stream": ("true",)})
    assert counts(read(rules, request={"uri": "/v1/chat"}, stream=True)) == (100, 0, 20)
    assert read(rules, request={"uri": "/health"}, stream=True) == FILTERED
    assert read(rules, request={"uri": "/v1/chat"}, stream=False) == FILTERED
    assert read(rules) == FILTERED


def test_a_line_without_a_tenant_is_paid_by_another_or_refused() -> None:
    row = read(otherwise="anonymous", tenant="-")
    assert isinstance(row, RequestRow)
    assert row.tenant == "anonymous"
    with pytest.raises(BadInput, match="tenant"):
        read(tenant="-")


def _collect(path: Path, *lines: bytes) -> Any:
    path.write_bytes(b"\n".join([*lines, b""]))
    log = AccessLog(path, LineReader(LineRules(RequestFields())), Deployments([], "c"), begin="start")
    return log.collect(None, clock_at(T0 + 10_000))


def test_other_lines_are_counted_by_reason_and_good_ones_beside_bad_ones_are_read(tmp_path: Path) -> None:
    good, late = json.dumps(GOOD).encode(), json.dumps(GOOD | {"end": T0 + 60_000}).encode()
    result = _collect(tmp_path / "a.log", good, b'{"uri": "/"}', b"no JSON", late, good)
    assert [len(item.batch) for item in result.batches] == [2]
    assert (len(result.refused), dict(result.skipped)) == (2, {OTHER: 1})
    assert "future" in result.refused[1]


def test_no_text_of_a_prompt_leaves_a_line(tmp_path: Path) -> None:
    prompts = {"messages": [{"content": SECRET}], "prompt": SECRET, "request": {"body": SECRET}}
    lines = [
        GOOD | prompts, GOOD | prompts | {"prompt_tokens": -1}, GOOD | prompts | {"tenant": {"name": SECRET}},
        prompts | {"id": SECRET},
    ]  # fmt: skip
    encoded = [json.dumps(line).encode() for line in lines]
    result = _collect(tmp_path / "a.log", *encoded, encoded[0][:-9], SECRET.encode(), b'"%s"' % SECRET.encode())
    [item] = result.batches
    assert isinstance(item.batch, TokenBatch)
    assert len(item.batch) == 1
    assert len(result.refused) == 5
    assert SECRET not in repr(result)
