"""The table of attribute names: each fills its column, whatever form its number has."""

from __future__ import annotations

from typing import Any

import pytest

from producers.gateways.otel.token_names import ATTRIBUTES, OBJECTS, reported_usage, unread_counts
from producers.gateways.token_names import KEYS, Inclusion, TokenName
from producers.gateways.token_usage import settle
from tests.support.paths import ROOT

USAGE = "metadata.usage_object"


def counts(attributes: dict[str, Any]) -> dict[str, int]:
    return dict(reported_usage(attributes)[0].counts)


@pytest.mark.parametrize("row", ATTRIBUTES, ids=lambda row: row.name)
@pytest.mark.parametrize("value", [7, 7.0, "7"])
def test_every_name_fills_its_column(row: TokenName, value: object) -> None:
    usage, invalid = reported_usage({row.name: value})
    assert (dict(usage.counts), invalid) == ({row.column: 7}, {})
    is_part = usage.total_decides or None if row.column == "total_tokens" else usage.part_of_prompt
    assert is_part == row.inclusion.value


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row.name)
def test_every_key_of_an_object_of_counts_fills_its_column(row: TokenName) -> None:
    value: object = 7
    for key in reversed(row.name.split(".")):
        value = {key: value}
    assert counts({USAGE: repr(value)}) == {row.column: 7}


OTHER_NAMES = {
    "cached_tokens": (
        "gen_ai.usage.prompt_tokens_details.cache_read", "gen_ai.usage.input_tokens_details.cached_tokens",
        "gen_ai.usage.cacheReadTokens", "gen_ai.response.cache_read_tokens", "llm.usage.cached_tokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.prompt_tokens_details.cache_write", "gen_ai.usage.cache_create_input_tokens",
        "gen_ai.usage.cache_creation_tokens", "llm.usage.cacheWriteTokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.completion_tokens_details.reasoning", "gen_ai.usage.output_tokens_details.reasoning_tokens",
        "gen_ai.usage.thinking_tokens", "gen_ai.usage.thoughts_token_count",
    ),
    "audio_prompt_tokens": ("gen_ai.usage.prompt_tokens_details.audio", "gen_ai.usage.audio_input_tokens"),
    "audio_completion_tokens": ("gen_ai.usage.completion_tokens_details.audio",),
    "prompt_tokens": ("llm.token.counts.prompt", "gen_ai.usage.promptTokens", "gen_ai.usage.prompt_token_count"),
    "completion_tokens": ("llm.token.counts.completion", "gen_ai.usage.candidates_token_count"),
    "total_tokens": ("llm.token.counts.total", "gen_ai.usage.total_token_count"),
}  # fmt: skip
"""Names of OpenLIT, Langtrace, Gemini's SDKs and others, by the column that they mean."""


@pytest.mark.parametrize(("column", "name"), [(c, n) for c, many in OTHER_NAMES.items() for n in many])
def test_a_name_that_is_not_in_the_table_is_read_by_its_words(column: str, name: str) -> None:
    assert counts({name: 7}) == {column: 7}


@pytest.mark.parametrize(
    "name",
    ["gen_ai.usage.audio.cache_read.input_tokens", "gen_ai.usage.text.input_tokens",
     "gen_ai.usage.details.text_prompt_tokens", "gen_ai.usage.details.cache_audio_read_tokens",
     "gen_ai.usage.prompt_tokens_details.ephemeral_5m_input_tokens"],
)  # fmt: skip
def test_a_part_of_a_part_fills_nothing_and_is_no_unread_count(name: str) -> None:
    assert (counts({name: 7}), unread_counts({name: 7})) == ({}, [])


@pytest.mark.parametrize(
    "name", ["tokens.consumed", "my.app.token_count", "gen_ai.usage.frobnicated_tokens", "usage.tokensOut"]
)
def test_an_unknown_count_is_named(name: str) -> None:
    assert (counts({name: 7}), unread_counts({name: 7, "gen_ai.usage.input_tokens": 1})) == ({}, [name])


@pytest.mark.parametrize(
    "attributes",
    [{"gen_ai.request.max_tokens": 512}, {"auth.token": 7}, {"user.token.id": 9}, {"tokens_per_second": 5.0},
     {"gen_ai.usage.frobnicated_tokens": 0}, {"tokens.consumed": "many"}, {"gen_ai.usage.cost": 1.5},
     {"gen_ai.usage.input_token_cost": 2.0}, {"tokens.x" + "y" * 200: 1}],
    ids=str,
)  # fmt: skip
def test_limits_credentials_and_rates_are_no_counts(attributes: dict[str, Any]) -> None:
    assert (counts(attributes), unread_counts(attributes)) == ({}, [])


def settled(attributes: dict[str, Any], provider: str = "") -> dict[str, int]:
    return {name: n for name, n in settle(reported_usage(attributes, provider)[0]).counts.items() if n}


def test_langsmiths_details_are_parts_of_its_counts() -> None:
    attributes = {
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.input_token_details": "{'cache_read': 30, 'cache_creation': 10, 'audio': 5}",
        "gen_ai.usage.output_token_details": '{"reasoning": 8}',
    }  # fmt: skip
    assert settled(attributes) == {
        "prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 30, "cache_write_tokens": 10,
        "audio_prompt_tokens": 5, "reasoning_tokens": 8,
    }  # fmt: skip


def test_langsmiths_metadata_fills_what_its_attributes_leave_open() -> None:
    usage = '{"input_tokens":100,"output_tokens":20,"total_tokens":120,"input_token_details":{"cache_read":30}}'
    attributes = {
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
        "langsmith.metadata.usage_metadata": usage,
    }  # fmt: skip
    assert settled(attributes) == {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 30}


@pytest.mark.parametrize(
    ("details", "prompt", "completion"),
    [
        ('{"input": 70, "input_cache_read": 30, "output": 15, "output_reasoning": 5, "total": 120}', 100, 20),
        ('{"input": 0, "input_modality_TEXT": 60, "input_modality_IMAGE": 40, "output": 0, "output_modality_TEXT": 20}',
         100, 20),
        ('{"input": 100, "input_cache_read": 30, "output": 20, "total": 120}', 100, 20),
        ('{"input": 100, "output": 20, "input_priority": 100}', 100, 20),
        ('{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_tokens_details": '
         '{"cached_tokens": 30}}', 100, 20),
    ],
)  # fmt: skip
def test_langfuses_remainders_are_summed_up(details: str, prompt: int, completion: int) -> None:
    counts = settled({"langfuse.observation.usage_details": details})
    assert (counts["prompt_tokens"], counts["completion_tokens"]) == (prompt, completion)


def test_a_total_that_is_a_plain_sum_does_not_decide() -> None:
    # Vercel's AI SDK 5 sums what Anthropic's API reports without its cache.
    attributes = {
        "ai.usage.inputTokens": 70, "ai.usage.outputTokens": 20, "ai.usage.totalTokens": 90,
        "ai.usage.cachedInputTokens": 30,
    }  # fmt: skip
    assert settled(attributes, "anthropic.messages")["prompt_tokens"] == 100
    assert settled(attributes, "openai.chat")["prompt_tokens"] == 70


def test_no_name_is_listed_twice() -> None:
    for table in (ATTRIBUTES, KEYS):
        names = [row.name for row in table]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "text",
    ['{"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 30}, "x": null}',
     "{'prompt_tokens': 100, 'prompt_tokens_details': {'cached_tokens': 30}, 'x': None}"],
)  # fmt: skip
def test_an_object_of_counts_is_json_or_of_pythons_form(text: str) -> None:
    assert counts({USAGE: text}) == {"prompt_tokens": 100, "cached_tokens": 30}


def test_an_object_fills_only_what_attributes_leave_open() -> None:
    text = '{"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 30}}'
    assert counts({USAGE: text, "gen_ai.usage.input_tokens": 100}) == {"prompt_tokens": 100, "cached_tokens": 30}


@pytest.mark.parametrize(
    "text", ["", "x", "[1]", "{", "{'a': __import__('os')}", "{" * 5_000, "{" + "[" * 4_000, '{"prompt_tokens": "x"}',
             "{1: 2}", "{'prompt_tokens': 1" + " " * 9_000 + "}"],
    ids=range(10),
)  # fmt: skip
def test_a_text_that_is_no_object_of_counts_is_left_out(text: str) -> None:
    assert counts({USAGE: text}) == {}


def test_the_first_name_with_a_number_wins_and_one_without_is_reported() -> None:
    usage, invalid = reported_usage({"gen_ai.usage.input_tokens": "many", "llm.usage.prompt_tokens": 7})
    assert (dict(usage.counts), invalid) == ({"prompt_tokens": 7}, {})
    usage, invalid = reported_usage({"gen_ai.usage.output_tokens": "many", "gen_ai.usage.total_tokens": -1})
    assert (dict(usage.counts), invalid) == ({}, {"completion_tokens": "(4 characters)", "total_tokens": -1})


def test_a_number_that_a_client_does_not_know_is_no_value() -> None:
    assert reported_usage({"gen_ai.usage.input_tokens": float("nan"), "gen_ai.usage.output_tokens": ""})[1] == {}


def test_tokens_of_a_cache_beside_the_prompt_are_recognised_by_their_name() -> None:
    assert reported_usage({"gen_ai.usage.cache_read_input_tokens": 7})[0].part_of_prompt is None
    assert reported_usage({"gen_ai.usage.cache_read_input_tokens": 0})[0].part_of_prompt is True


def test_the_page_has_the_same_table() -> None:
    page = (ROOT / "producers" / "gateways" / "otel" / "README.md").read_text()
    table = page.partition("## Names of token counts")[2].partition("\n## ")[0]
    for row in ATTRIBUTES:
        assert f"`{row.name}`" in table, row.name
    for name in OBJECTS:
        assert f"`{name}`" in table, name
    by_provider = {row.name for row in ATTRIBUTES if row.inclusion is Inclusion.PROVIDER}
    assert by_provider == {name for name in by_provider if f"`{name}` *" in table}
