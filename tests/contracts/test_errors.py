"""Errors show any wrong value safely."""

from __future__ import annotations

import json

import pytest

from contracts.errors import BadInput, Unavailable, WattlogError

NESTED: list[object] = []
for _ in range(10_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "'x'"), ("x" * 100, "'" + "x" * 76 + "..."), (10**5_000, "(int)"), (NESTED, "(list)"),
        (json.loads('"\\ud800"'), "'\\ud800'"), (float("nan"), "nan"),
    ],
    ids=["text", "long text", "5,000 digits", "nested 10,000 deep", "lone surrogate", "NaN"],
)  # fmt: skip
def test_any_value_is_shown_and_cut_at_80_characters(value: object, text: str) -> None:
    assert str(BadInput("field", value, "give another")) == f"field: {text}: give another"


@pytest.mark.parametrize(
    "error",
    [BadInput("page", "x", "invalid name: \ud800 1\nforged line"), Unavailable("away: \ud800\n\x1b[0m", "Start it.")],
    ids=["bad input", "unavailable"],
)
def test_an_error_that_quotes_input_is_one_printable_line(error: WattlogError) -> None:
    assert str(error).isprintable()
