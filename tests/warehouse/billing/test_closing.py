"""Periods: a closed one never changes, and the open one mends it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from contracts.errors import BadInput, LedgerError
from contracts.units import epoch_ms
from tests.warehouse.billing.quarter import (
    CLOSED_AT_MS,
    NAMES,
    OCTOBER,
    SEPTEMBER,
    TOKENS_BOOK,
    book,
    closed,
    finish,
    price,
    use,
)
from warehouse.billing.closing import MAX_CORRECTED, closed_lines, draft, not_looked_at, reopen
from warehouse.billing.periods import PeriodStep, closed_periods, list_steps
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader, tenant_reader
from warehouse.reference_data.tenants import Tenant, put_tenants


def amounts(warehouse: Warehouse, name: str) -> dict[str, str]:
    """Amounts of the draft of a month, by the line's name and the period that it mends."""
    current = draft(operator_reader(warehouse), name, NAMES[name], "EUR").bill
    return {f"{line.name}{' corrected' if line.corrects else ''}": str(line.amount) for line in current.lines}


def test_a_draft_has_the_ledgers_energy_and_tokens(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-09-20T10:00:10Z", 50, tenant="beta")
    lines = draft(operator_reader(warehouse), "2026-09", SEPTEMBER, "EUR").bill.lines
    assert [(line.tenant, line.name, str(line.amount)) for line in lines] == [
        ("acme", "electricity", "15.00"), ("acme", "out", "200.00"),
        ("beta", "electricity", "7.50"), ("beta", "out", "100.00"),
    ]  # fmt: skip
    assert lines[0].gco2 == Decimal(60_000)


def test_a_draft_without_a_price_book_has_the_electricity(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    current = draft(operator_reader(warehouse), "2026-09", SEPTEMBER, "EUR")
    assert [line.name for line in current.bill.lines] == ["electricity"]
    assert current.bill.unpriced_meters == {"output_tokens": Decimal(100_000_000), "requests": Decimal(1)}


def test_a_closed_period_reads_the_same_after_every_change(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse)
    put_tenants(warehouse, [Tenant("acme", "search", "CC-1")])
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    step = closed(warehouse, "2026-09")
    before = closed_lines(operator_reader(warehouse), step)
    price(warehouse, "9.99")
    put_tenants(warehouse, [Tenant("acme", "search", "CC-2")])
    book(warehouse, TOKENS_BOOK.replace('"2"', '"5"'))
    use(warehouse, "2026-09-03T10:00:00Z", 300, version=2)
    assert closed_lines(operator_reader(warehouse), step) == before
    assert (step.lines, step.state, step.book_version) == (2, "closed", 1)


def test_late_facts_become_corrections_of_the_next_period_at_the_prices_of_then(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-10-03T10:00:00Z", 10)
    finish(warehouse)
    step = closed(warehouse, "2026-09")
    price(warehouse, "9.99")
    book(warehouse, TOKENS_BOOK.replace('"2"', '"5"'))
    use(warehouse, "2026-09-03T10:00:00Z", 300, version=2)
    # 10 kWh x 1.5 x 9.99 and 10 M tokens at 5; 200 kWh x 1.5 x 0.10 and 200 M tokens at 2.
    assert amounts(warehouse, "2026-10") == {
        "electricity": "149.85", "out": "50.00", "electricity corrected": "30.00", "out corrected": "400.00",
    }  # fmt: skip
    current = draft(operator_reader(warehouse), "2026-10", OCTOBER, "EUR").bill
    ids = {line.line_id for line in closed_lines(operator_reader(warehouse), step)}
    assert {line.corrects for line in current.lines if line.corrects} == ids


def test_a_correction_is_booked_once(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    closed(warehouse, "2026-09")
    use(warehouse, "2026-09-03T10:00:00Z", 120, version=2)
    closed(warehouse, "2026-10")
    assert amounts(warehouse, "2026-11") == {}
    use(warehouse, "2026-09-03T10:00:00Z", 110, version=3)
    assert amounts(warehouse, "2026-11") == {"electricity corrected": "-1.50"}


def test_a_credit_that_a_closed_period_used_is_used(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, 'currency = "EUR"\n[[credits]]\nname = "c"\namount = "20"\nscope = { tenant = "acme" }')
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-10-03T10:00:00Z", 100)
    finish(warehouse)
    assert amounts(warehouse, "2026-09")["c"] == "-15.00"
    closed(warehouse, "2026-09")
    assert amounts(warehouse, "2026-10")["c"] == "-5.00"


def test_a_period_that_is_not_final_is_not_closed(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    with pytest.raises(BadInput, match=r"final up to 2026-09-03T10:00:10\.000Z: close it after 2026-10-01"):
        closed(warehouse, "2026-09")


def test_a_period_is_closed_once_and_in_order(warehouse: Warehouse) -> None:
    price(warehouse)
    finish(warehouse)
    closed(warehouse, "2026-09")
    with pytest.raises(BadInput, match="it is closed"):
        closed(warehouse, "2026-09")
    with pytest.raises(BadInput, match="close what follows it first"):
        closed(warehouse, "2026-11")
    closed(warehouse, "2026-10")
    reopen(operator_reader(warehouse), "2026-10", reason="x", actor="bob@host", at_ms=CLOSED_AT_MS)
    reopen(operator_reader(warehouse), "2026-09", reason="x", actor="bob@host", at_ms=CLOSED_AT_MS)
    closed(warehouse, "2026-10")
    with pytest.raises(BadInput, match="in their order"):
        closed(warehouse, "2026-09")


def test_months_that_are_closed_too_long_ago_for_corrections_are_named(warehouse: Warehouse) -> None:
    price(warehouse)
    finish(warehouse)
    closed(warehouse, "2026-09")
    (september,) = list_steps(operator_reader(warehouse))
    starts = [epoch_ms(f"{2000 + n}-01-01") for n in range(MAX_CORRECTED + 2)]
    steps = [
        replace(september, period=f"{2000 + n}-01", period_start=at, period_end=at + 1) for n, at in enumerate(starts)
    ]
    assert not_looked_at(steps, Period(starts[-1] + 1, starts[-1] + 2)) == ["2000-01", "2001-01"]
    assert not_looked_at(steps[2:], Period(starts[-1] + 1, starts[-1] + 2)) == []


def test_a_line_of_unknown_amount_keeps_the_period_open_unless_it_is_accepted(warehouse: Warehouse) -> None:
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    with pytest.raises(BadInput, match="1 line of unknown amount, such as electricity of acme"):
        closed(warehouse, "2026-09")
    step = closed(warehouse, "2026-09", accept_open=True)
    (line,) = closed_lines(operator_reader(warehouse), step)
    assert line.amount is None


def test_the_last_closed_period_can_be_reopened_with_a_reason(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    closed(warehouse, "2026-09")
    closed(warehouse, "2026-10")
    again = {"actor": "bob@host", "at_ms": CLOSED_AT_MS}
    with pytest.raises(BadInput, match="reopen 2026-10 first"):
        reopen(operator_reader(warehouse), "2026-09", reason="wrong tariff", **again)
    with pytest.raises(BadInput, match="say why"):
        reopen(operator_reader(warehouse), "2026-10", reason=" ", **again)
    reopen(operator_reader(warehouse), "2026-10", reason="wrong tariff", **again)
    reopen(operator_reader(warehouse), "2026-09", reason="wrong tariff", **again)
    price(warehouse, "0.20")
    step = closed(warehouse, "2026-09")
    (line,) = closed_lines(operator_reader(warehouse), step)
    assert str(line.amount) == "30.00"
    trail = [(s.period, s.step, s.state, s.reason) for s in list_steps(warehouse) if s.period == "2026-09"]
    assert trail == [
        ("2026-09", 1, "closed", ""), ("2026-09", 2, "reopened", "wrong tariff"), ("2026-09", 3, "closed", ""),
    ]  # fmt: skip


def test_a_closing_that_was_interrupted_leaves_nothing_that_counts(warehouse: Warehouse) -> None:
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    price(warehouse, "5", valid_to_ms=epoch_ms("2026-09-02"))
    with pytest.raises(BadInput):
        closed(warehouse, "2026-09")
    assert closed_periods(list_steps(warehouse)) == {}
    price(warehouse, valid_from_ms=epoch_ms("2026-09-02"))
    step = closed(warehouse, "2026-09")
    assert [str(line.amount) for line in closed_lines(operator_reader(warehouse), step)] == ["15.00"]


def test_lines_that_were_changed_are_known_by_their_hash(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    step = closed(warehouse, "2026-09")
    warehouse.command("ALTER TABLE closed_lines UPDATE amount = 1 WHERE 1 SETTINGS mutations_sync = 1")
    with pytest.raises(LedgerError, match="not those that were closed"):
        closed_lines(operator_reader(warehouse), step)


def test_a_tenant_reads_its_own_lines(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-09-04T10:00:00Z", 100, tenant="beta")
    finish(warehouse)
    step: PeriodStep = closed(warehouse, "2026-09")
    assert {line.tenant for line in closed_lines(tenant_reader(warehouse, "beta"), step)} == {"beta"}


def test_a_cluster_that_is_renamed_later_corrects_nothing(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    closed(warehouse, "2026-09")
    warehouse.insert_rows("cluster_aliases", [{"alias": "eu", "cluster": "eu-central", "version": 1}])
    assert amounts(warehouse, "2026-10") == {}
    use(warehouse, "2026-09-03T10:00:00Z", 120, version=2)
    (line,) = draft(operator_reader(warehouse), "2026-10", OCTOBER, "EUR").bill.lines
    assert (line.place.cluster, str(line.amount)) == ("eu", "3.00")


def test_a_correction_of_a_line_that_is_gone_again_is_taken_back(warehouse: Warehouse) -> None:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    closed(warehouse, "2026-09")
    use(warehouse, "2026-09-04T10:00:00Z", 10, tenant="beta")
    closed(warehouse, "2026-10")
    use(warehouse, "2026-09-04T10:00:00Z", 0, version=2, tenant="beta", completion_tokens=0, requests=0)
    (line,) = draft(operator_reader(warehouse), "2026-11", NAMES["2026-11"], "EUR").bill.lines
    assert (line.tenant, str(line.amount)) == ("beta", "-1.50")
