"""LiteLLM's payloads: tenant, request, spend at providers, and no prompt in the output."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.events import TOKEN_COLUMNS
from producers.gateways.calls import InferenceCall, batches, group_by_workload
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.litellm.callback import select_fields
from producers.gateways.litellm.payloads import LiteLLMCalls, LiteLLMReader, LiteLLMRules
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import SECRET, T0, payload

NOW = T0 + 60_000


def call(rules: dict[str, Any] | None = None, **more: Any) -> InferenceCall:
    return LiteLLMReader(LiteLLMRules(**(rules or {}))).call(payload(**more))


def read(*payloads: object, recent: DeduplicationWindow | None = None) -> LiteLLMCalls:
    window = DeduplicationWindow() if recent is None else recent
    return LiteLLMReader(LiteLLMRules()).payloads((("p", p) for p in payloads), window, NOW)


def tokens(result: LiteLLMCalls) -> list[tuple[int, int, int]]:
    return [(c.row.prompt_tokens, c.row.cached_tokens, c.row.completion_tokens) for c in result.calls]


def body(text: bytes, recent: DeduplicationWindow | None = None) -> LiteLLMCalls:
    return LiteLLMReader(LiteLLMRules()).body(text, DeduplicationWindow() if recent is None else recent, NOW)


# -- a payload ---------------------------------------------------------------------------------------------------------


def test_a_payload_is_a_request() -> None:
    one = call(litellm_call_id="c-1")
    assert one._replace(identities=one.identities[:1]) == InferenceCall(
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
            provider="hosted_vllm",
            application="acme-prod",
            user="u1",
            endpoint="chat",
            sender="litellm",
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


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        (
            {
                "total_tokens": 0,
                "metadata": {
                    "user_api_key_team_id": "a",
                    "usage_object": {"prompt_tokens": 100, "completion_tokens": 20},
                },
            },
            (100, 20),
        ),
        ({"total_tokens": 120, "metadata": {"user_api_key_team_id": "a"}, "response": {}}, (120, 0)),
    ],
    ids=["counts in the usage", "a total alone"],
)
def test_zeros_beside_other_counts_are_no_counts(fields: dict[str, Any], right: tuple[int, int]) -> None:
    """They are of calls to /v1/responses, and of streams of some versions."""
    row = call(prompt_tokens=0, completion_tokens=0, **fields).row
    assert (row.prompt_tokens, row.completion_tokens) == right


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


def test_a_payload_without_a_tenant_is_counted_by_reason_and_remarked_with_its_sender() -> None:
    reader = LiteLLMReader(LiteLLMRules(), sender="gw")
    body = json.dumps([payload(id="a"), payload(id="b", metadata={})]).encode()
    result = reader.body(body, DeduplicationWindow(), NOW)
    assert (len(result.calls), dict(result.corrected)) == (2, {"no_tenant": 1})
    assert result.remarks == ["payloads from gw name no tenant, and are charged to unknown"]


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
    unmatched = deployments.new_notes()
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
    assert refusals == [f"no rule of `deployments` names the workload of {route}: its requests show as unmetered"]


def test_a_call_refused_by_a_provider_has_no_spend() -> None:
    none = {"prompt_tokens": 0, "completion_tokens": 0, "metadata": {}, "response": None}
    items, refusals = made_of(call(**GPT | none | {"status": "failure", "response_cost": 0}))
    assert (set(items), refusals) == ({"TokenBatch east/external/openai"}, [])


@pytest.mark.parametrize("cost", ["much", -1.0, [1], 1e300, "nan", True])
def test_an_invalid_cost_is_left_out_and_reported_and_the_tokens_count(cost: object) -> None:
    result = read(payload(**GPT | {"response_cost": cost}))
    assert [(c.row.prompt_tokens, c.spend) for c in result.calls] == [(100, "")]
    assert (result.corrected, result.remarks) == (
        {"field_left_out": 1}, ["payloads with a response_cost that cannot be right count without it"],
    )  # fmt: skip


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
    first, other = payload(id="chatcmpl-42"), payload(id="chatcmpl-42", endTime=T0 / 1000 + 4)
    body(json.dumps([first]).encode(), recent)
    result = body(json.dumps([first, other]).encode(), recent)
    assert (len(result.calls), result.skipped) == (1, {"double": 1})


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


# -- which payloads count ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call_type",
    ["completion", "acompletion", "atext_completion", "aembedding", "aresponses", "anthropic_messages", "arerank",
     "agenerate_content_stream", "aimage_generation", "atranscription", "aspeech", "amoderation", "_arealtime",
     "allm_passthrough_route", None, ...],
)  # fmt: skip
def test_inferences_count(call_type: Any) -> None:
    assert tokens(read(payload(call_type=call_type))) == [(100, 30, 20)]


@pytest.mark.parametrize(
    "call_type",
    ["aget_responses", "adelete_responses", "alist_input_items", "afile_content", "acreate_file", "acreate_batch",
     "call_mcp_tool", "list_mcp_tools", "asearch", "avector_store_search", "avideo_retrieve", "asend_message",
     "something_new"],
)  # fmt: skip
def test_retrieves_polls_and_tools_are_no_inference_and_are_remarked_once(call_type: str) -> None:
    result = read(*(payload(call_type=call_type) for _ in range(2)))
    assert (result.calls, result.refused, result.skipped) == ([], [], {"call_type": 2})
    assert result.remarks == [f"calls of type {call_type!r} are no inference, and are not counted"]


def test_a_batch_counts_once_however_often_it_is_polled() -> None:
    batch = {"call_type": "aretrieve_batch", "id": "batch_1", "model": ""}
    open_ = payload(**batch, prompt_tokens=0, completion_tokens=0, total_tokens=0, metadata={}, response=None)
    polls = [open_, *(payload(**batch, endTime=T0 / 1000 + n) for n in (3, 9))]
    result = read(*polls)
    assert (tokens(result), result.skipped) == ([(100, 30, 20)], {"batch": 1, "double": 1})
    assert result.calls[0].row.model == "chat"


RECORDED = Path(__file__).parent / "recorded.jsonl"


def test_recorded_calls_of_litellm_count_once_with_their_tokens() -> None:
    """LiteLLM 1.110 against a stand-in for a server, one call of each kind: a poll of a response and one of a batch."""
    recent = DeduplicationWindow()
    result = LiteLLMReader(LiteLLMRules()).body(RECORDED.read_bytes(), recent, 2**62)
    models = sorted((c.row.model, *counts) for c, counts in zip(result.calls, tokens(result), strict=True))
    assert models == [
        ("emb", 8, 0, 0), ("img", 0, 0, 0), *[("llama", 8, 0, 4)] * 2, *[("llama", 100, 30, 20)] * 7, ("r", 0, 0, 0),
    ]  # fmt: skip
    assert (result.refused, result.skipped) == ([], {"call_type": 1, "batch": 1})
    assert result.corrected == {"estimated": 2, "no_tenant": 12}
    assert not LiteLLMReader(LiteLLMRules()).body(RECORDED.read_bytes(), recent, 2**62).calls


def test_a_batch_whose_price_alone_is_known_counts_with_it_once() -> None:
    batch = {"call_type": "aretrieve_batch", "model": "gpt", "custom_llm_provider": "openai", "response_cost": 0.5}
    none = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "metadata": {}, "response": None}
    polls = [payload(id=id_, endTime=T0 / 1000 + n, **batch | none) for n, id_ in ((3, "b_1_batch_cost"), (9, "b_1"))]
    result = read(*polls)
    assert ([one.spend for one in result.calls], result.skipped) == (["0.5"], {"double": 1})


# -- doubles and retries -----------------------------------------------------------------------------------------------

ONE = {"litellm_call_id": "c-1"}


@pytest.mark.parametrize(
    "second",
    [{}, {"endTime": T0 / 1000 + 3.2}, {"id": "other", "endTime": T0 / 1000 + 3.2},
     {"id": "resp_1", "call_type": "aresponses", "startTime": T0 / 1000 - 0.3, "endTime": T0 / 1000 + 3.1},
     {"id": "resp_1", "call_type": "aresponses", "startTime": T0 / 1000 - 0.3, "endTime": T0 / 1000 + 4.1}],
    ids=["repeated", "sync and async", "the same start", "a bridge", "a bridge across a boundary"],
)  # fmt: skip
def test_a_call_that_litellm_logs_twice_counts_once(second: dict[str, Any]) -> None:
    reports = [payload(**ONE), payload(**ONE | second)]
    for order in (reports, reports[::-1]):
        result = read(*order)
        assert (len(result.calls), result.skipped) == (1, {"double": 1})


@pytest.mark.parametrize(
    "second",
    [{"id": "c-1", "endTime": T0 / 1000 + 2, "status": "failure", "error_information": {"error_class": "Timeout"}},
     {"id": "b", "startTime": T0 / 1000 + 4, "endTime": T0 / 1000 + 9},
     {"id": "b", "startTime": T0 / 1000 + 0.1, "endTime": T0 / 1000 + 3.1}],
    ids=["a retry after a failure", "a retry", "a client that repeats its call id"],
)  # fmt: skip
def test_calls_with_one_call_id_that_are_not_one_call_count_each(second: dict[str, Any]) -> None:
    assert len(read(payload(**ONE), payload(**ONE | second)).calls) == 2


# -- fields beside the tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"startTime": "soon"}, "field_left_out"), ({"startTime": T0 / 1000 + 4}, "field_left_out"),
        ({"startTime": T0 / 1000 - 30_000}, "longer_than_6_h"), ({"completionStartTime": []}, "field_left_out"),
        ({"model": {"x": 1}}, "field_left_out"), ({"model": "m" * 300}, "field_left_out"),
        ({"metadata": {"user_api_key_team_id": {"x": 1}}}, "field_left_out"),
        ({"metadata": {"user_api_key_team_id": "t" * 300}}, "field_left_out"),
        ({"metadata": {"user_api_key_team_alias": "__idle__"}}, "field_left_out"),
        ({"metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": "many"}}}, "response": {}},
         "count_left_out"),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_that_cannot_be_right_is_left_out_and_the_tokens_count(fields: dict[str, Any], reason: str) -> None:
    result = read(payload(**fields))
    assert [(c.row.prompt_tokens, c.row.completion_tokens) for c in result.calls] == [(100, 20)]
    unnamed = result.corrected.get("no_tenant", 0)  # The field may have named it.
    assert (result.refused, result.corrected[reason], sum(result.corrected.values())) == ([], 1, 1 + unnamed)
    assert len(result.remarks) == 1 + unnamed


def test_a_name_that_no_tenant_may_have_gives_way_to_the_next() -> None:
    keys = {"user_api_key_team_id": "__idle__", "user_api_key_team_alias": ["x"], "user_api_key_alias": "acme-prod"}
    assert call(metadata=keys).row.tenant == "acme-prod"


def test_a_call_longer_than_six_hours_counts_in_its_last_six() -> None:
    row = call(startTime=T0 / 1000 - 30_000).row
    assert row.t_end_ms - row.t_start_ms == 6 * 3_600_000


def test_counts_may_be_texts_and_are_read_from_the_usage_where_the_payload_has_none() -> None:
    assert tokens(read(payload(prompt_tokens="100", completion_tokens=20.0))) == [(100, 30, 20)]
    assert tokens(read(payload(prompt_tokens=None, completion_tokens=None))) == [(100, 30, 20)]


def test_cached_tokens_above_the_prompt_are_clamped_and_reported() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 130}}
    result = read(payload(metadata={"usage_object": usage, "user_api_key_team_id": "team-7"}, response={}))
    assert (tokens(result), result.corrected) == ([(100, 100, 20)], {"cached_above_prompt": 1})


UNASKED = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12, "prompt_tokens_details": None}


@pytest.mark.parametrize(
    ("fields", "estimated"),
    [
        ({}, 1), ({"model_parameters": {"stream_options": {"include_usage": True}}}, 0), ({"stream": None}, 0),
        ({"metadata": {"usage_object": {**UNASKED, "prompt_tokens_details": {"cached_tokens": 0}}}}, 0),
    ],
)  # fmt: skip
def test_a_stream_that_was_not_asked_for_its_usage_is_an_estimate(fields: dict[str, Any], estimated: int) -> None:
    stream = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12, "response": {}, "model_parameters": {}}
    result = read(payload(**stream | {"metadata": {"usage_object": UNASKED}} | fields))
    assert (tokens(result), result.corrected.get("estimated", 0)) == ([(8, 0, 4)], estimated)
    row = result.calls[0].row
    assert (row.estimated_prompt_tokens, row.estimated_completion_tokens) == ((8, 4) if estimated else (0, 0))


def test_kinds_of_tokens_are_columns() -> None:
    usage = {
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 5, "image_tokens": 6},
        "cache_creation_input_tokens": 10,
        "completion_tokens_details": {"reasoning_tokens": 7, "accepted_prediction_tokens": 2,
                                      "rejected_prediction_tokens": 3, "audio_tokens": 4, "image_tokens": 1},
    }  # fmt: skip
    row = call(metadata={"usage_object": usage}, response={}).row
    assert {c.name: getattr(row, c.name) for c in TOKEN_COLUMNS} == {
        "prompt_tokens": 100, "cached_tokens": 30, "completion_tokens": 20, "cache_write_tokens": 10,
        "audio_prompt_tokens": 5, "image_prompt_tokens": 6, "estimated_prompt_tokens": 0, "reasoning_tokens": 7,
        "accepted_prediction_tokens": 2, "rejected_prediction_tokens": 3, "audio_completion_tokens": 4,
        "image_completion_tokens": 1, "estimated_completion_tokens": 0,
    }  # fmt: skip


def test_lines_of_the_callback_are_read_like_payloads() -> None:
    for fields in ({}, {"metadata": {"usage_object": UNASKED}, "response": {}, "model_parameters": {}}):
        complete = payload(**fields)
        assert read(select_fields(complete)) == read(complete)


def test_a_payload_that_is_nested_too_deeply_for_the_decoder_counts() -> None:
    deep = '{"x":' * 400 + "1" + "}" * 400
    text = json.dumps(payload(messages="DEEP")).replace('"DEEP"', deep).encode()
    assert tokens(body(b"[%s,%s]" % (text, json.dumps(payload(id="b")).encode()))) == [(100, 30, 20)] * 2


# -- privacy -----------------------------------------------------------------------------------------------------------


def test_no_part_of_prompts_and_answers_is_in_the_output() -> None:
    error = {"error_class": "BadRequestError", "error_message": SECRET}
    payloads = [
        payload(), payload(id="2", error_information=error, status="failure", error_str=SECRET),
        payload(id="3", prompt_tokens=SECRET, metadata={}, response=None),
        payload(id="4", messages=SECRET, response=SECRET), payload(**GPT),
    ]  # fmt: skip
    result = body(json.dumps(payloads).encode())
    assert len(result.calls) == 4
    assert SECRET not in repr([result.calls, made_of(*result.calls)])
