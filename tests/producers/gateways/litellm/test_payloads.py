"""LiteLLM's payloads: tenant, request, spend at providers, and no prompt in the output."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from producers.gateways.calls import InferenceCall, batches, group_by_workload
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.litellm.payloads import LiteLLMCalls, LiteLLMReader, LiteLLMRules
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import SECRET, T0, payload

NOW = T0 + 60_000


def call(rules: dict[str, Any] | None = None, **more: Any) -> InferenceCall:
    return LiteLLMReader(LiteLLMRules(**(rules or {}))).call(payload(**more))


def body(text: bytes, recent: DeduplicationWindow | None = None) -> LiteLLMCalls:
    return LiteLLMReader(LiteLLMRules()).body(text, DeduplicationWindow() if recent is None else recent, NOW)


# -- a payload ---------------------------------------------------------------------------------------------------------


def test_a_payload_is_a_request() -> None:
    assert call() == InferenceCall(
        RequestRow(
            tenant="team-7",
            model="llama-3.1-8b",
            request_id="chatcmpl-1",
            t_start_ms=T0,
            t_first_ms=T0 + 500,
            t_end_ms=T0 + 3_000,
            prompt_tokens=100,
            cached_tokens=30,
            completion_tokens=20,
            status="ok",
            session_id="s-1",
            trace_id="tr-1",
            api_base="http://10.0.0.5:8000/v1",
            route="chat",
        ),
        (f"{T0}-{T0 + 3_000}@chatcmpl-1",),
    )


@pytest.mark.parametrize("model", ["meta/llama", "hosted_vllm/meta/llama"])
def test_a_models_name_is_without_litellms_prefix_for_the_provider(model: str) -> None:
    assert call(model=model).row.model == "meta/llama"


def test_an_answer_without_streaming_has_no_first_token() -> None:
    assert call(completionStartTime=T0 / 1000 + 3.0).row.t_first_ms == 0


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 30}}, 30), ({"cache_read_input_tokens": 40}, 40),
        ({"prompt_tokens_details": None}, 0), ({}, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["metadata", "response"])
def test_cached_tokens_are_read_from_the_usage(usage: dict[str, Any], cached: int, place: str) -> None:
    where = {"metadata": {"usage_object": usage}} if place == "metadata" else {"response": {"usage": usage}}
    nothing = {"metadata": {}, "response": {}}
    assert call(**(nothing | where)).row.cached_tokens == cached


def test_a_prompt_without_its_cached_part_is_completed() -> None:
    row = call(prompt_tokens=10, metadata={"usage_object": {"cache_read_input_tokens": 90}}).row
    assert (row.prompt_tokens, row.cached_tokens) == (100, 90)


@pytest.mark.parametrize("hit", [True, "True"])
def test_an_answer_from_litellms_own_cache_is_a_request_without_work(hit: object) -> None:
    row = call(cache_hit=hit).row
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.status) == (0, 0, 0, "ok")


def test_a_failure_has_its_kind_never_its_text_and_needs_no_counts() -> None:
    error = {"error_code": "429", "error_class": "RateLimitError", "error_message": SECRET}
    none = {"prompt_tokens": None, "completion_tokens": None, "metadata": {}, "response": None}
    row = call(status="failure", error_information=error, **none).row
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("RateLimitError", 0, 0)
    assert call(status="failure", error_information=None).row.status == "failure"


# -- tenant ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "tenant"),
    [
        ({"user_api_key_team_id": "t", "user_api_key_team_alias": "a"}, "t"),
        ({"user_api_key_team_id": None, "user_api_key_team_alias": "a", "user_api_key_org_id": "o"}, "a"),
        ({"user_api_key_team_id": "", "user_api_key_org_id": "o", "user_api_key_alias": "k"}, "o"),
        ({"user_api_key_alias": "k", "user_api_key_end_user_id": "globex"}, "k"),
        ({"user_api_key_end_user_id": "globex", "requester_metadata": {"tenant": "globex"}}, "unknown"),
        ({}, "unknown"),
    ],
)  # fmt: skip
def test_the_tenant_is_that_of_litellms_key_never_of_the_client(metadata: dict[str, Any], tenant: str) -> None:
    assert call(metadata=metadata).row.tenant == tenant


def test_the_tenant_may_be_in_another_field_and_calls_without_one_may_be_refused() -> None:
    assert call({"tenant": ["metadata.user_api_key_team_alias"]}).row.tenant == "Acme"
    with pytest.raises(BadInput, match="tenant"):
        call({"otherwise": ""}, metadata={})


def test_an_invalid_session_keeps_no_call_off_the_bill() -> None:
    request = call(
        metadata={"requester_metadata": {"session_id": "x" * 300}, "user_api_key_team_id": "t"}, trace_id="a\nb"
    )
    assert (request.row.session_id, request.row.trace_id, request.row.prompt_tokens) == ("", "", 100)


# -- place and spend ---------------------------------------------------------------------------------------------------


def made_of(*calls: InferenceCall, rules: tuple[Deployment, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    deployments = Deployments(rules, "east")
    items = list(batches(group_by_workload(calls, deployments, "litellm"), "x"))
    for one in items:
        one.batch.check()
    unmatched = deployments.new_unmatched()
    return {f"{type(m.batch).__name__} {m.cluster}/{m.workload}": m.batch for m in items}, unmatched


GPT = {"custom_llm_provider": "openai", "model": "gpt-4o", "response_cost": 0.0123456, "id": "c-9"}


def test_a_call_served_by_a_provider_is_external_spend_with_its_session_trace_and_step() -> None:
    items, refusals = made_of(call(**GPT))
    assert refusals == []
    assert set(items) == {"TokenBatch east/external/openai", "UsageBatch east/external/openai"}
    spent = items["UsageBatch east/external/openai"]
    assert (spent.meter, spent.unit, spent.quantity, spent.tenant) == (
        ("external_spend",), ("USD",), ("0.0123456",), ("team-7",),
    )  # fmt: skip
    assert (spent.origin, spent.event_id) == (("litellm",), (f"{T0}-{T0 + 3_000}@c-9",))
    assert (spent.session_id, spent.trace_id, spent.step) == (("s-1",), ("tr-1",), ("plan",))
    assert spent.dimensions == ({"provider": "openai", "model": "gpt-4o"},)


def test_a_call_placed_by_a_rule_has_energy_and_no_spend() -> None:
    own = Deployment(workload="chat", api_base="http://10.0.0.5:*")
    items, refusals = made_of(call(**GPT), rules=(own,))
    assert (set(items), refusals) == ({"TokenBatch east/chat"}, [])


def test_a_call_of_an_own_server_without_a_rule_is_reported_and_has_no_spend() -> None:
    items, refusals = made_of(call(response_cost=1.0))
    assert set(items) == {"TokenBatch east/unmatched/llama-3.1-8b"}
    route = "model 'llama-3.1-8b', api_base 'http://10.0.0.5:8000/v1', route 'chat'"
    assert refusals == [f"no rule names the workload of {route}: its requests show as unmetered"]


def test_a_call_refused_by_a_provider_has_no_spend() -> None:
    none = {"prompt_tokens": 0, "completion_tokens": 0, "metadata": {}, "response": None}
    items, refusals = made_of(call(**GPT | none | {"status": "failure", "response_cost": 0}))
    assert (set(items), refusals) == ({"TokenBatch east/external/openai"}, [])


@pytest.mark.parametrize("cost", ["much", -1.0, [1], 1e300, "nan"])
def test_an_invalid_cost_is_an_error(cost: object) -> None:
    with pytest.raises(BadInput, match="response_cost"):
        call(**GPT | {"response_cost": cost})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://generativelanguage.googleapis.com/v1:generateContent?key=AIza-secret", "https://generativelanguage.googleapis.com/v1:generateContent"),
        ("http://user:secret@host:8000/v1#secret", "http://host:8000/v1"), ("host:8000", "host:8000"), ("", ""),
    ],
)  # fmt: skip
def test_a_key_in_an_address_is_left_out(address: str, expected: str) -> None:
    assert call(api_base=address, hidden_params={}).row.api_base == expected
    assert call(api_base="", hidden_params={"api_base": address}).row.api_base == expected


# -- a body ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([payload(id="a"), payload(id="b")]), "\n".join(json.dumps(payload(id=i)) for i in "ab"),
        json.dumps([payload(id="a"), payload(id="b")], indent=2),
    ],
    ids=["json_array", "ndjson", "printed"],
)  # fmt: skip
def test_a_body_is_an_array_or_lines(text: str) -> None:
    assert [c.row.request_id for c in body(text.encode()).calls] == ["a", "b"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_body_may_be_a_single_object(indent: int | None) -> None:
    assert [c.row.request_id for c in body(json.dumps(payload(), indent=indent).encode()).calls] == ["chatcmpl-1"]


def test_an_invalid_payload_is_reported_with_its_place_and_the_others_count() -> None:
    lines = [payload(id="a"), payload(model=...), "x", payload(id="b", endTime=(NOW + 1) / 1000)]
    result = body("\n".join(map(json.dumps, lines)).encode() + b"\n{oops")
    assert [c.row.request_id for c in result.calls] == ["a"]
    assert [why.partition(": ")[0] for why in result.refused] == ["payload 1", "payload 2", "payload 3", "payload 4"]
    assert "in the future" in result.refused[2]


def test_a_repeated_call_counts_once_and_a_repeated_id_of_another_call_twice() -> None:
    recent = DeduplicationWindow()
    body(json.dumps([payload(id="chatcmpl-42")]).encode(), recent)
    ollama = payload(id="chatcmpl-42", endTime=T0 / 1000 + 4)
    result = body(json.dumps([payload(id="chatcmpl-42"), ollama]).encode(), recent)
    assert (len(result.calls), result.doubles) == (1, 1)


@pytest.mark.parametrize("text", [b"", b"{", b"[1", b"\xff", b"{}x"])
def test_an_invalid_body_is_bad_input(text: bytes) -> None:
    with suppress(BadInput):
        assert not body(text).calls


leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=300)
parts = st.recursive(leaves, lambda c: st.lists(c, max_size=2) | st.dictionaries(
    st.sampled_from(["user_api_key_team_id", "usage", "usage_object", "cache_read_input_tokens", "error_class"]), c,
    max_size=3), max_leaves=6)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(payload())), parts, max_size=5))
def test_any_payload_is_refused_or_makes_valid_rows(fields: dict[str, Any]) -> None:
    result = LiteLLMReader(LiteLLMRules()).payloads([("p", payload(**fields))], DeduplicationWindow(), 2**62)
    made_of(*result.calls)


@given(st.binary(max_size=80))
def test_any_body_is_read_or_refused(text: bytes) -> None:
    with suppress(BadInput):
        body(text)


# -- privacy -----------------------------------------------------------------------------------------------------------


def test_no_part_of_prompts_and_answers_is_in_the_output() -> None:
    error = {"error_class": "BadRequestError", "error_message": SECRET}
    payloads = [
        payload(), payload(id="2", error_information=error, status="failure", error_str=SECRET),
        payload(id="3", prompt_tokens=SECRET), payload(id="4", messages=SECRET, response=SECRET), payload(**GPT),
    ]  # fmt: skip
    result = body(json.dumps(payloads).encode())
    assert len(result.calls) == 4
    assert SECRET not in repr([result.calls, made_of(*result.calls)])
