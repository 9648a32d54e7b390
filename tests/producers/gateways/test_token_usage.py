"""Counts as senders report them become prompt = computed + cached + written, by the total, the provider or the name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.gateways.token_names import whole_number
from producers.gateways.token_usage import (
    CLAMPED_CACHE,
    CLAMPED_PART,
    TOTAL_DIFFERS,
    TOTAL_ONLY,
    ReportedUsage,
    settle,
    usage_of_object,
)


def settled(part: bool | None = True, provider: str = "", model: str = "", **counts: int) -> dict[str, int]:
    return settle(ReportedUsage(counts, part, provider, model)).counts


def prompt(part: bool | None = True, provider: str = "", model: str = "", **counts: int) -> tuple[int, int]:
    """Return prompt and cached tokens."""
    settled_counts = settled(part, provider, model, **counts)
    return settled_counts["prompt_tokens"], settled_counts["cached_tokens"]


REPORT = {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 30}


@pytest.mark.parametrize(
    ("part", "provider", "total", "expected"),
    [
        (True, "openai", 120, (100, 30)), (False, "anthropic", 120, (100, 30)),
        (True, "openai", 150, (130, 30)), (None, "anthropic", 150, (130, 30)),
    ],
)  # fmt: skip
def test_the_total_decides_whether_the_prompt_includes_its_cached_part(
    part: bool | None, provider: str, total: int, expected: tuple[int, int]
) -> None:
    assert prompt(part, provider, **REPORT, total_tokens=total) == expected


@pytest.mark.parametrize(
    ("part", "provider", "model", "expected"),
    [
        (True, "anthropic", "", (100, 30)), (True, "", "", (100, 30)), (False, "openai", "", (130, 30)),
        (None, "openai", "gpt-5", (100, 30)), (None, "anthropic", "", (130, 30)), (None, "aws.bedrock", "", (130, 30)),
        (None, "gcp.vertex_ai", "claude-sonnet", (130, 30)), (None, "gcp.vertex_ai", "gemini", (100, 30)),
        (None, "", "claude-sonnet", (130, 30)), (None, "openai", "claude-sonnet", (100, 30)),
    ],
)  # fmt: skip
def test_without_a_total_the_name_and_the_provider_decide(
    part: bool | None, provider: str, model: str, expected: tuple[int, int]
) -> None:
    assert prompt(part, provider, model, **REPORT) == expected


def test_the_uncached_part_decides_too() -> None:
    report = {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 30}
    assert prompt(**report, uncached_tokens=70) == (100, 30)
    assert prompt(**report, uncached_tokens=100) == (130, 30)
    assert prompt(uncached_tokens=70, cached_tokens=30) == (100, 30)


def test_tokens_written_to_the_cache_are_part_of_the_prompt_and_kept_apart() -> None:
    report = {"prompt_tokens": 10, "completion_tokens": 4, "cached_tokens": 90, "cache_write_tokens": 5}
    counts = settled(None, "anthropic", **report)
    assert (counts["prompt_tokens"], counts["cached_tokens"], counts["cache_write_tokens"]) == (105, 90, 5)
    assert prompt(True, "anthropic", **report) == (105, 90)  # more than the prompt: passed on as the maker counts


def test_cached_tokens_above_the_prompt_are_clamped_and_reported() -> None:
    result = settle(ReportedUsage({"prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 90}, True, "openai"))
    assert (result.counts["prompt_tokens"], result.counts["cached_tokens"]) == (10, 10)
    assert result.corrections == (CLAMPED_CACHE,)


def test_a_part_above_its_whole_is_clamped_and_reported() -> None:
    result = settle(ReportedUsage({"prompt_tokens": 10, "completion_tokens": 4, "audio_prompt_tokens": 11}))
    assert (result.counts["audio_prompt_tokens"], result.corrections) == (10, (CLAMPED_PART,))


def test_reasoning_beside_the_completion_is_added_where_the_total_says_so() -> None:
    report = {"prompt_tokens": 100, "completion_tokens": 20, "reasoning_tokens": 40}
    assert settled(**report, total_tokens=160)["completion_tokens"] == 60
    assert settled(prompt_tokens=100, completion_tokens=60, reasoning_tokens=40, total_tokens=160)[
        "completion_tokens"
    ] == 60  # fmt: skip
    assert settled(prompt_tokens=100, completion_tokens=20, reasoning_tokens=40)["completion_tokens"] == 60


def test_a_total_that_no_sum_explains_is_reported() -> None:
    report = {"prompt_tokens": 100, "completion_tokens": 20}
    assert settle(ReportedUsage({**report, "total_tokens": 150})).corrections == (TOTAL_DIFFERS,)
    assert settle(ReportedUsage({**report, "total_tokens": 120})).corrections == ()
    assert settle(ReportedUsage({**report, "total_tokens": 130, "reasoning_tokens": 10})).corrections == ()


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0)), ({"completion_tokens": 5, "total_tokens": 8}, (3, 5)),
        ({"total_tokens": 8}, (8, 0)), ({"prompt_tokens": 8}, (8, 0)),
    ],
)  # fmt: skip
def test_a_total_fills_the_count_that_is_missing(report: dict[str, int], expected: tuple[int, int]) -> None:
    counts = settled(**report)
    assert (counts["prompt_tokens"], counts["completion_tokens"]) == expected


def test_a_total_alone_counts_as_prompt_and_is_reported() -> None:
    assert settle(ReportedUsage({"total_tokens": 8})).corrections == (TOTAL_ONLY,)


counts = st.integers(0, 2**31 - 1)
KINDS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "total_tokens",
         "reasoning_tokens", "uncached_tokens", "audio_prompt_tokens")  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(KINDS), counts), st.sampled_from([True, False, None]),
    st.sampled_from(["", "openai", "anthropic"]),
)  # fmt: skip
def test_parts_of_any_report_fit_into_their_wholes(report: dict[str, int], part: bool | None, provider: str) -> None:
    result = settled(part, provider, **report)
    assert all(0 <= count < 2**31 for count in result.values())
    assert result["cached_tokens"] + result.get("cache_write_tokens", 0) <= result["prompt_tokens"]
    assert result.get("reasoning_tokens", 0) <= result["completion_tokens"]
    assert result.get("audio_prompt_tokens", 0) <= result["prompt_tokens"]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7), (7.0, 7), ("7", 7), (" 7 ", 7), ("7.0", 7), ("-7", -7), (7.5, None), ("7.5", None), ("many", None),
        ("", None), (True, None), (float("nan"), None), (float("inf"), None), (1e300, None), ("9" * 40, None),
        ("\u0667", None), (None, None), ([7], None),
    ],
)  # fmt: skip
def test_integers_as_texts_and_doubles_without_a_fraction_are_integers(value: object, number: int | None) -> None:
    assert whole_number(value) == number


OBJECTS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 203,
      "completion_tokens_details": {"reasoning_tokens": 94}}, (100, 0, 103)),  # xAI
    ({"promptTokenCount": 80, "toolUsePromptTokenCount": 20, "candidatesTokenCount": 15, "thoughtsTokenCount": 5,
      "cachedContentTokenCount": 30, "totalTokenCount": 120}, (100, 30, 20)),  # Gemini
    ({"prompt_token_count": 100, "candidates_token_count": 15, "thoughts_token_count": 5,
      "cached_content_token_count": 30, "total_token_count": 120}, (100, 30, 20)),  # its Python SDK
    ({"promptTokenCount": 100, "candidatesTokenCount": 15, "thoughtsTokenCount": 5}, (100, 0, 20)),
    ({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_cache_hit_tokens": 30,
      "prompt_cache_miss_tokens": 70}, (100, 30, 20)),  # DeepSeek
    ({"inputTokens": 60, "outputTokens": 20, "totalTokens": 120, "cacheReadInputTokens": 30,
      "cacheWriteInputTokens": 10}, (100, 30, 20)),  # Bedrock
    ({"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10,
      "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0},
      "server_tool_use": {"web_search_requests": 1}, "service_tier": "standard"}, (100, 30, 20)),  # Anthropic
    ({"prompt_token": 100, "completion_token": 20, "time_to_first_token": 5}, (100, 0, 20)),  # Kong
    ({"inputTokenCount": 100, "outputTokenCount": 20, "cachedInputTokenCount": 30}, (100, 30, 20)),  # .NET
    ({"tokens": {"input_tokens": 100, "output_tokens": 20}, "billed_units": {"input_tokens": 90, "output_tokens": 20},
      "cached_tokens": 30}, (100, 30, 20)),  # Cohere
    ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0)),
    ({"prompt_tokens": "100", "completion_tokens": 20.0, "prompt_tokens_details": None}, (100, 0, 20)),
    ({"input_tokens": 100, "output_tokens": 20, "prompt_tokens_details": {"cached_tokens": 30,
      "cache_creation_input_tokens": 10}}, (100, 30, 20)),  # DashScope
]  # fmt: skip


@pytest.mark.parametrize(("usage", "right"), OBJECTS)
def test_a_usage_object_of_any_api_is_read(usage: dict[str, Any], right: tuple[int, int, int]) -> None:
    result = usage_of_object(usage)
    assert result is not None
    counts, corrections = result[1]
    assert (counts["prompt_tokens"], counts["cached_tokens"], counts["completion_tokens"]) == right
    assert corrections == ()


@pytest.mark.parametrize("usage", [None, [], {}, "x", {"cost": 1}, {"a": {"b": {"c": {"d": {"input_tokens": 1}}}}}])
def test_an_object_of_no_known_form_has_no_usage(usage: object) -> None:
    assert usage_of_object(usage) is None
