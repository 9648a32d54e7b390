"""The table of attribute names: each fills its column, whatever form its number has."""

from __future__ import annotations

from typing import Any

import pytest

from producers.gateways.otel.token_names import ATTRIBUTES, CARRIERS, OBJECTS, reported_usage
from producers.gateways.token_usage import KEYS, Cache, TokenName
from tests.support.paths import ROOT

USAGE = "metadata.usage_object"


def counts(attributes: dict[str, Any]) -> dict[str, int]:
    return dict(reported_usage(attributes)[0].counts)


@pytest.mark.parametrize("row", ATTRIBUTES, ids=lambda row: row.name)
@pytest.mark.parametrize("value", [7, 7.0, "7"])
def test_every_name_fills_its_column(row: TokenName, value: object) -> None:
    usage, invalid = reported_usage({row.name: value})
    assert (dict(usage.counts), invalid, usage.part_of_prompt) == ({row.column: 7}, {}, row.cache.value)


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row.name)
def test_every_key_of_an_object_of_counts_fills_its_column(row: TokenName) -> None:
    value: object = 7
    for key in reversed(row.name.split(".")):
        value = {key: value}
    assert counts({USAGE: repr(value)}) == {row.column: 7}


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
    assert reported_usage({USAGE: '{"input_cached_tokens": 7}'})[0].part_of_prompt is False


def test_the_page_has_the_same_table() -> None:
    page = (ROOT / "producers" / "gateways" / "otel" / "README.md").read_text()
    table = page.partition("## Names of token counts")[2].partition("\n## ")[0]
    for row in ATTRIBUTES:
        assert f"`{row.name}`" in table, row.name
    for name in OBJECTS:
        assert f"`{name}`" in table, name
    by_provider = {row.name for row in ATTRIBUTES if row.cache is Cache.PROVIDER}
    assert by_provider == {name for name in by_provider if f"`{name}` *" in table}
    assert CARRIERS
