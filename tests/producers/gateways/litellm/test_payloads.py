"""LiteLLM's payloads: who pays, what was worked on, what an outside provider asks, and what gets out."""

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
def test_a_models_name_is_that_of_its_server_without_litellms_word_for_the_provider(model: str) -> None:
    assert call(model=model).row.model == "meta/llama"


def test_an_answer_that_is_no_stream_has_no_first_token() -> None:
    assert call(completionStartTime=T0 / 1000 + 3.0).row.t_first_ms == 0


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 30}}, 30), ({"cache_read_input_tokens": 40}, 40),
        ({"prompt_tokens_details": None}, 0), ({}, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["metadata", "response"])
def test_cached_tokens_stand_in_the_usage(usage: dict[str, Any], cached: int, place: str) -> None:
    where = {"metadata": {"usage_object": usage}} if place == "metadata" else {"response": {"usage": usage}}
    nothing = {"metadata": {}, "response": {}}
    assert call(**(nothing | where)).row.cached_tokens == cached


def test_a_prompt_without_its_cached_part_is_made_whole() -> None:
    row = call(prompt_tokens=10, metadata={"usage_object": {"cache_read_input_tokens": 90}}).row
    assert (row.prompt_tokens, row.cached_tokens) == (100, 90)


@pytest.mark.parametrize("hit", [True, "True"])
def test_what_litellm_answers_from_its_own_cache_is_a_request_without_work(hit: object) -> None:
    row = call(cache_hit=hit).row
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.status) == (0, 0, 0, "ok")


def test_a_failure_says_its_kind_never_its_text_and_needs_no_counts() -> None:
    error = {"error_code": "429", "error_class": "RateLimitError", "error_message": SECRET}
    none = {"prompt_tokens": None, "completion_tokens": None, "metadata": {}, "response": None}
    row = call(status="failure", error_information=error, **none).row
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("RateLimitError", 0, 0)
    assert call(status="failure", error_information=None).row.status == "failure"


# -- who pays ----------------------------------------------------------------------------------------------------------


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
def test_who_pays_is_what_litellm_knows_of_the_key_never_what_a_client_says(
    metadata: dict[str, Any], tenant: str
) -> None:
    assert call(metadata=metadata).row.tenant == tenant


def test_who_pays_may_stand_elsewhere_and_a_call_of_nobody_may_be_refused() -> None:
    assert call({"tenant": ["metadata.user_api_key_team_alias"]}).row.tenant == "Acme"
    with pytest.raises(BadInput, match="tenant"):
        call({"otherwise": ""}, metadata={})


def test_a_session_that_the_log_does_not_take_is_no_way_off_the_bill() -> None:
    made = call(
        metadata={"requester_metadata": {"session_id": "x" * 300}, "user_api_key_team_id": "t"}, trace_id="a\nb"
    )
    assert (made.row.session_id, made.row.trace_id, made.row.prompt_tokens) == ("", "", 100)


# -- where it ran, and what it cost ------------------------------------------------------------------------------------


def made_of(*calls: InferenceCall, rules: tuple[Deployment, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    deployments = Deployments(rules, "east")
    made = list(batches(group_by_workload(calls, deployments, "litellm"), "x"))
    for one in made:
        one.batch.check()
    unmatched = deployments.new_unmatched()
    return {f"{type(m.batch).__name__} {m.cluster}/{m.workload}": m.batch for m in made}, unmatched


GPT = {"custom_llm_provider": "openai", "model": "gpt-4o", "response_cost": 0.0123456, "id": "c-9"}


def test_a_call_that_a_provider_served_is_external_spend_with_its_session_trace_and_step() -> None:
    made, told = made_of(call(**GPT))
    assert told == []
    assert set(made) == {"TokenBatch east/external/openai", "UsageBatch east/external/openai"}
    spent = made["UsageBatch east/external/openai"]
    assert (spent.meter, spent.unit, spent.quantity, spent.tenant) == (
        ("external_spend",), ("USD",), ("0.0123456",), ("team-7",),
    )  # fmt: skip
    assert (spent.origin, spent.event_id) == (("litellm",), (f"{T0}-{T0 + 3_000}@c-9",))
    assert (spent.session_id, spent.trace_id, spent.step) == (("s-1",), ("tr-1",), ("plan",))
    assert spent.dimensions == ({"provider": "openai", "model": "gpt-4o"},)


def test_a_call_that_a_rule_places_cost_energy_whatever_litellm_would_charge_for_it() -> None:
    own = Deployment(workload="chat", api_base="http://10.0.0.5:*")
    made, told = made_of(call(**GPT), rules=(own,))
    assert (set(made), told) == ({"TokenBatch east/chat"}, [])


def test_a_call_of_a_server_of_your_own_that_no_rule_places_is_told_and_never_money() -> None:
    made, told = made_of(call(response_cost=1.0))
    assert set(made) == {"TokenBatch east/unmatched/llama-3.1-8b"}
    route = "model 'llama-3.1-8b', api_base 'http://10.0.0.5:8000/v1', route 'chat'"
    assert told == [f"no rule names the workload of {route}: its requests show as unmetered"]


def test_a_call_that_a_provider_refused_costs_nothing_and_is_its_own() -> None:
    none = {"prompt_tokens": 0, "completion_tokens": 0, "metadata": {}, "response": None}
    made, told = made_of(call(**GPT | none | {"status": "failure", "response_cost": 0}))
    assert (set(made), told) == ({"TokenBatch east/external/openai"}, [])


@pytest.mark.parametrize("cost", ["much", -1.0, [1], 1e300, "nan"])
def test_a_cost_that_is_none_is_an_error(cost: object) -> None:
    with pytest.raises(BadInput, match="response_cost"):
        call(**GPT | {"response_cost": cost})


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://generativelanguage.googleapis.com/v1:generateContent?key=AIza-secret", "https://generativelanguage.googleapis.com/v1:generateContent"),
        ("http://user:secret@host:8000/v1#secret", "http://host:8000/v1"), ("host:8000", "host:8000"), ("", ""),
    ],
)  # fmt: skip
def test_a_key_that_stands_in_an_address_is_left_out(address: str, kept: str) -> None:
    assert call(api_base=address, hidden_params={}).row.api_base == kept
    assert call(api_base="", hidden_params={"api_base": address}).row.api_base == kept


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
def test_a_body_is_a_single_object(indent: int | None) -> None:
    assert [c.row.request_id for c in body(json.dumps(payload(), indent=indent).encode()).calls] == ["chatcmpl-1"]


def test_a_payload_that_cannot_be_read_is_told_with_its_place_and_the_others_count() -> None:
    lines = [payload(id="a"), payload(model=...), "x", payload(id="b", endTime=(NOW + 1) / 1000)]
    found = body("\n".join(map(json.dumps, lines)).encode() + b"\n{oops")
    assert [c.row.request_id for c in found.calls] == ["a"]
    assert [why.partition(": ")[0] for why in found.refused] == ["payload 1", "payload 2", "payload 3", "payload 4"]
    assert "in the future" in found.refused[2]


def test_a_call_that_comes_again_counts_once_and_an_id_that_a_server_gave_twice_counts_twice() -> None:
    recent = DeduplicationWindow()
    body(json.dumps([payload(id="chatcmpl-42")]).encode(), recent)
    ollama = payload(id="chatcmpl-42", endTime=T0 / 1000 + 4)
    found = body(json.dumps([payload(id="chatcmpl-42"), ollama]).encode(), recent)
    assert (len(found.calls), found.doubles) == (1, 1)


@pytest.mark.parametrize("text", [b"", b"{", b"[1", b"\xff", b"{}x"])
def test_a_body_that_is_none_is_an_error_of_ours(text: bytes) -> None:
    with suppress(BadInput):
        assert not body(text).calls


leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=300)
parts = st.recursive(leaves, lambda c: st.lists(c, max_size=2) | st.dictionaries(
    st.sampled_from(["user_api_key_team_id", "usage", "usage_object", "cache_read_input_tokens", "error_class"]), c,
    max_size=3), max_leaves=6)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(payload())), parts, max_size=5))
def test_whatever_a_payload_holds_it_is_refused_or_rows_that_the_log_takes(odd: dict[str, Any]) -> None:
    found = LiteLLMReader(LiteLLMRules()).payloads([("p", payload(**odd))], DeduplicationWindow(), 2**62)
    made_of(*found.calls)


@given(st.binary(max_size=80))
def test_whatever_a_body_holds_it_is_read_or_refused(text: bytes) -> None:
    with suppress(BadInput):
        body(text)


# -- what gets out -----------------------------------------------------------------------------------------------------


def test_of_prompts_and_answers_nothing_gets_out() -> None:
    error = {"error_class": "BadRequestError", "error_message": SECRET}
    told = [
        payload(), payload(id="2", error_information=error, status="failure", error_str=SECRET),
        payload(id="3", prompt_tokens=SECRET), payload(id="4", messages=SECRET, response=SECRET), payload(**GPT),
    ]  # fmt: skip
    found = body(json.dumps(told).encode())
    assert len(found.calls) == 4
    assert SECRET not in repr([found.calls, made_of(*found.calls)])
