"""Decimals are written as digits everywhere: `300`, and never `3E+2`."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.serialization import adapter, jsonable
from cli.output import json_value
from cli.tables import _sql_value
from contracts.csv_text import safe_cell
from contracts.units import plain_decimal, shortest_decimal
from tests.project.tree import texts
from warehouse.results import Amount

WRITERS: dict[str, Callable[[Decimal], Any]] = {
    "plain_decimal": plain_decimal,
    "shortest_decimal": shortest_decimal,
    "JSON of rows": lambda value: adapter(Amount).dump_python(value, mode="json"),
    "JSON of SQL over HTTP": jsonable,
    "JSON of commands": json_value,
    "cells of CSV": safe_cell,
    "CSV of SQL": _sql_value,
}
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=12)


@pytest.mark.parametrize("name", WRITERS)
@given(value=DECIMALS)
def test_a_normalised_decimal_is_written_as_digits(name: str, value: Decimal) -> None:
    text = WRITERS[name](value.normalize())
    assert re.fullmatch(r"-?\d+(\.\d+)?", text) and Decimal(text) == value


@pytest.mark.parametrize(
    ("value", "text"), [("3E+2", "300"), ("0E+3", "0"), ("-0.00", "0"), ("0.0830", "0.083"), ("1E-9", "0.000000001")]
)
def test_the_shortest_digits_have_no_zeros_at_their_end(value: str, text: str) -> None:
    assert shortest_decimal(Decimal(value)) == text


def test_no_other_code_normalises_decimals() -> None:
    code = {path: text for path, text in texts(".py").items() if path.parts[0] != "tests"}
    assert [path for path, text in code.items() if ".normalize()" in text] == []
