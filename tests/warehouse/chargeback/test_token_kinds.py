"""Joules, money and grams per 1,000,000 tokens by kind, against fractions added up window by window."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from contracts.rows import REQUEST_TIME_VERSION
from contracts.units import MS_PER_HOUR, UJ_PER_KWH
from tests.support.ledger_rows import HOUR, rows
from warehouse.chargeback.chargeback_queries import chargeback_and_total, chargeback_blocks
from warehouse.chargeback.token_kinds import KINDS
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader, tenant_reader
from warehouse.reference_data.attribution_tables import WorkWeights, put_work_weights, seed_defaults
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.validity import END_MS as FOREVER_MS
from warehouse.results import ChargebackRow
from warehouse.sink.sink import Sink

HALF = HOUR + MS_PER_HOUR // 2
PERIOD = Period(HOUR, HOUR + MS_PER_HOUR)
DEFAULT, LARGE = (1, 0, 3), (1, Fraction(1, 10), 5)
"""Weights of computed, cached and completion tokens: those of the start, and version 2 of the model `large` on H200."""


def window(start_ms: int, tenant: str, energy_uj: int, tokens: tuple[int, int, int], **values: Any) -> dict[str, Any]:
    prompt, cached, completion = tokens
    counts = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion}
    return {"window_start": start_ms, "tenant": tenant, "active_uj": energy_uj, **counts, **values}


LARGE_2 = {"model": "large", "weights_version": 2}
WINDOWS = [
    window(HOUR, "acme", 7_000_001, (1000, 300, 50)),
    window(
        HOUR, "acme", 9_000_000, (10, 10, 0), model="m"
    ),  # only cached tokens, at weight 0: no kind bears this energy
    window(HOUR, "acme", 5_555_555, (800, 0, 90), idle_uj=1_234_567, **LARGE_2),
    window(HALF, "acme", 3_333_333, (70, 20, 33), **LARGE_2),
    window(HALF, "acme", 8_000_000, (400, 0, 0), model="m"),
    window(HALF, "globex", 123_457, (3, 1, 2)),
    window(HALF, "globex", 0, (500, 0, 500), method=3, hardware=""),
    window(HALF, "globex", 4_000_000, (0, 0, 0), model="image", weights_version=REQUEST_TIME_VERSION + 1),
    window(HOUR, "__idle__", 0, (0, 0, 0), model="", idle_uj=2_000_000, weights_version=0),
]


@pytest.fixture
def ledger(warehouse: Warehouse) -> Warehouse:
    """The tariff changes inside the hour."""
    seed_defaults(warehouse)
    put_work_weights(
        warehouse,
        [
            WorkWeights(
                model="large", hardware="H200", valid_from_ms=0, valid_to_ms=FOREVER_MS, prompt_milli=1000,
                cached_milli=100, completion_milli=5000, weights_version=2, source="measured",
            )
        ],
    )  # fmt: skip
    Sink(warehouse).write("ledger", rows("ledger", *WINDOWS))
    Sink(warehouse).refresh_hours([HOUR, HALF], ["eu"], ["chat"])
    put_prices(
        warehouse,
        [
            Price("energy", "*", Decimal("0.3"), 0, HALF, "EUR"),
            Price("energy", "*", Decimal("0.7"), HALF, currency="EUR"),
            Price("pue", "*", Decimal("1.2")), Price("carbon", "*", Decimal(400)),
        ],
    )  # fmt: skip
    return warehouse


def quotients(tenant: str | None) -> dict[str, Fraction | None]:
    """Figures per 1,000,000 tokens, from the windows above alone."""
    sums = dict.fromkeys((f"{m}_{k}" for m in ("joules", "gco2", "cost", "tokens") for k in KINDS), Fraction(0))
    for row in WINDOWS:
        if row.get("method") == 3 or (tenant and row["tenant"] != tenant):
            continue
        cached, prompt = row["cached_tokens"], row["prompt_tokens"]
        tokens = dict(zip(KINDS, (prompt - cached, cached, row["completion_tokens"]), strict=True))
        weights = dict(zip(KINDS, LARGE if row.get("weights_version") == 2 else DEFAULT, strict=True))
        work = sum(tokens[kind] * weights[kind] for kind in KINDS)
        joules = Fraction(row["active_uj"] + row.get("idle_uj", 0), 10**6)
        tariff = Fraction(3, 10) if row["window_start"] < HALF else Fraction(7, 10)
        for kind in KINDS:
            part = joules * tokens[kind] * weights[kind] / work if work else Fraction(0)
            sums[f"tokens_{kind}"] += tokens[kind]
            sums[f"joules_{kind}"] += part
            facility_kwh = part * 10**6 / UJ_PER_KWH * Fraction(12, 10)
            sums[f"cost_{kind}"] += facility_kwh * tariff
            sums[f"gco2_{kind}"] += facility_kwh * 400
    return {
        f"{m}_per_million_{k}": sums[f"{m}_{k}"] * 10**6 / sums[f"tokens_{k}"] if sums[f"tokens_{k}"] else None
        for m in ("joules", "gco2", "cost") for k in KINDS
    }  # fmt: skip


def check(bill: ChargebackRow, tenant: str | None) -> None:
    for field, expected in quotients(tenant).items():
        value = getattr(bill, field)
        assert (value is None) == (expected is None), field
        if expected is not None:
            assert abs(Fraction(value) - expected) <= Fraction(1, 10**6) + expected / 10**4, field


def test_figures_per_million_tokens_are_those_of_every_window(ledger: Warehouse) -> None:
    """Weights by version, a tariff that changes inside the hour, tokens without energy, energy without tokens."""
    page, total = chargeback_and_total(operator_reader(ledger), PERIOD, per_million=True)
    check(total, None)
    for bill in page.rows:
        check(bill, bill.tenant)
    by_tenant = {bill.tenant: bill.energy_without_kind_uj for bill in page.rows}
    assert by_tenant == {"acme": 9_000_000, "globex": 4_000_000, "__idle__": 2_000_000}
    assert total.energy_without_kind_uj == 15_000_000


def test_totals_are_those_of_the_bill_without_kinds(ledger: Warehouse) -> None:
    reader = operator_reader(ledger)
    page, total = chargeback_and_total(reader, PERIOD, ("model",))
    with_kinds, same = chargeback_and_total(reader, PERIOD, ("model",), per_million=True)
    for bill, other in zip([*page.rows, total], [*with_kinds.rows, same], strict=True):
        for field in ("energy_uj", "tokens", "cost", "gco2", "requests", "unmetered_tokens", "missing_prices"):
            assert getattr(bill, field) == getattr(other, field)
        assert bill.cost_per_million_output is None and bill.kinds_unknown is None


def test_cached_tokens_at_weight_0_take_no_energy(ledger: Warehouse) -> None:
    page, _ = chargeback_and_total(operator_reader(ledger), PERIOD, ("tenant", "model"), per_million=True)
    llama = next(bill for bill in page.rows if (bill.tenant, bill.model) == ("acme", "llama"))
    assert (llama.joules_per_million_cached, llama.cost_per_million_cached) == (0, 0)


def test_energy_whose_weights_are_not_stored_leaves_the_figures_open(ledger: Warehouse) -> None:
    row = window(HALF, "lab", 42, (5, 0, 5), weights_version=9)
    Sink(ledger).write("ledger", rows("ledger", row))
    page, total = chargeback_and_total(operator_reader(ledger), PERIOD, per_million=True)
    by_tenant = {bill.tenant: bill for bill in page.rows}
    assert by_tenant["lab"].joules_per_million_output is None
    assert by_tenant["lab"].kinds_unknown == "42 uJ are of rows that name work weights which are not stored"
    assert by_tenant["acme"].joules_per_million_output is not None
    assert total.joules_per_million_output is None


def test_an_unknown_price_leaves_the_money_open_and_not_the_joules(ledger: Warehouse) -> None:
    ledger.command("TRUNCATE TABLE prices")
    _, total = chargeback_and_total(operator_reader(ledger), PERIOD, per_million=True)
    assert total.joules_per_million_output is not None
    assert total.cost_per_million_output is None and total.gco2_per_million_output is None


def test_a_tenant_gets_the_figures_of_its_own_tokens(ledger: Warehouse) -> None:
    _, total = chargeback_and_total(tenant_reader(ledger, "globex"), PERIOD, per_million=True)
    check(total, "globex")
    with chargeback_blocks(operator_reader(ledger), PERIOD, ("tenant",), per_million=True) as (_, blocks):
        exported = {bill.tenant: bill for block in blocks for bill in block}
    check(exported["globex"], "globex")
