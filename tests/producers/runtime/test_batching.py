"""Rows as columns: metered quantities keep every digit that the log allows."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.checks import is_decimal
from contracts.errors import BadInput
from producers.runtime.batching import UsageRow, decimal_text, usage_batch

T0 = 1_700_000_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-0.0, "0"), (12, "12"), (0.1, "0.1"), (1e-7, "0.0000001"), (1e-13, "0"),
        (1e19, "10000000000000000000"),
        (Decimal("2.50"), "2.5"), (100.0, "100"), (-1.25, "-1.25"),
    ],
)  # fmt: skip
def test_a_quantity_is_a_plain_decimal(value: float | Decimal, text: str) -> None:
    assert decimal_text("quantity", value) == text


@given(st.floats(-1e19, 1e19))
def test_any_finite_quantity_within_the_bound_is_valid_on_the_log(value: float) -> None:
    text = decimal_text("quantity", value)
    assert is_decimal(text)
    assert abs(Decimal(text) - Decimal(repr(value))) <= Decimal("5e-13")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e20])
def test_an_invalid_or_too_large_quantity_is_refused_by_name(value: float) -> None:
    with pytest.raises(BadInput, match="requests"):
        decimal_text("requests", value)


def test_rows_without_optional_values_make_a_batch_without_optional_columns() -> None:
    batch = usage_batch(
        [UsageRow(meter="calls", unit="1", quantity="3", t0_ms=T0, t1_ms=T0 + 60_000, tenant="acme")], T0 + 60_000
    )
    batch.check()
    assert (batch.event_id, batch.session_id, batch.dimensions) == ((), (), ())
    assert (batch.quantity, batch.tenant, batch.event_ms) == (("3",), ("acme",), T0 + 60_000)
