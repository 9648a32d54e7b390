"""Total cost of a request or session: with what belongs to no request it is the tenant's bill."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from contracts.errors import BadQuery
from contracts.units import UJ_PER_KWH, epoch_ms
from tests.support.ledger_rows import rows
from tests.warehouse.billing.quarter import NAMES, book, price, refresh
from warehouse.billing.closing import draft
from warehouse.billing.operation_cost import OperationCost, costed_receipt, costed_session
from warehouse.billing.request_costs import request_costs
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger.ledger_queries import requests
from warehouse.ledger.receipts import receipt
from warehouse.reader import operator_reader, tenant_reader
from warehouse.usage.sessions import session

AT = epoch_ms("2026-09-03T10:00:00Z")
BOOK = """currency = "EUR"
[[rates]]
name = "out"
meter = "output_tokens"
price = "2"
per = 1_000_000
[[rates]]
name = "in"
meter = "input_tokens"
price = "0.3333"
per = 1_000_000
[[rates]]
name = "calls"
meter = "requests"
price = "0.001"
"""
FEE = '[[fees]]\nname = "platform"\nprice = "250"\nscope = { tenant = "acme" }\n'
TIERS = 'mode = "graduated"\ntiers = [{ up_to = "1", price = "1" }, { price = "2" }]\n'


def lay(warehouse: Warehouse, *requests: dict[str, Any]) -> None:
    """Store requests of one window each, and the ledger's rows that they sum to."""
    pieces = [
        {"window_start": AT, "t_start": AT, "t_end": AT + 5_000, "active_uj": UJ_PER_KWH, "prompt_tokens": 700,
         "completion_tokens": 300, **request}
        for request in requests
    ]  # fmt: skip
    warehouse.insert("request_energy", rows("request_energy", *pieces))
    sums: dict[tuple[int, str], dict[str, Any]] = {}
    for piece in pieces:
        key = (piece["window_start"], piece.get("tenant", "acme"))
        one = sums.setdefault(key, {"window_start": key[0], "tenant": key[1], "requests": 0, "failures": 0})
        for name in ("active_uj", "prompt_tokens", "completion_tokens"):
            one[name] = one.get(name, 0) + piece[name]
        one["requests"] += 1
    warehouse.insert("ledger", rows("ledger", *sums.values()))
    for at_ms in {key[0] for key in sums}:
        refresh(warehouse, at_ms, "chat")


def of_request(warehouse: Warehouse, name: str) -> OperationCost:
    reader = operator_reader(warehouse)
    return costed_receipt(reader, receipt(reader, name), "EUR").operation


def amounts(cost: OperationCost) -> dict[str, Decimal | None]:
    return {item.name: item.amount for item in cost.items}


def test_a_request_costs_its_electricity_its_tokens_and_its_call(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, BOOK)
    lay(warehouse, {"request_id": "r1"})
    cost = of_request(warehouse, "r1")
    assert amounts(cost) == {
        "electricity": Decimal("0.15"), "out": Decimal("0.0006"), "in": Decimal("0.00023331"),
        "calls": Decimal("0.001"),
    }  # fmt: skip
    assert [(total.currency, total.amount) for total in cost.totals] == [("EUR", Decimal("0.15183331"))]
    assert cost.not_attributed == cost.unpriced_meters == []


def test_requests_and_what_belongs_to_none_are_the_bill(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, BOOK + FEE)
    lay(warehouse, *({"request_id": f"r{n}", "completion_tokens": 100 + n, "active_uj": 10**9 + n} for n in range(20)))
    costs = [of_request(warehouse, f"r{n}") for n in range(20)]
    lines = draft(operator_reader(warehouse), "2026-09", NAMES["2026-09"], "EUR").bill.lines
    for line in lines:
        of_line = [amounts(cost).get(line.name) for cost in costs]
        if line.name == "platform":
            assert set(of_line) == {None}
        elif line.name == "electricity":
            assert line.exact is not None
            # Electricity of a bill is exact to millionths.
            assert abs(sum(amount or Decimal(0) for amount in of_line) - line.exact) < Decimal("0.000001")
        else:
            assert sum(amount or Decimal(0) for amount in of_line) == line.exact
    assert {tuple(cost.not_attributed) for cost in costs} == {("fees",)}


def test_a_request_is_charged_once_however_many_windows_it_ran_in(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, BOOK)
    span = {"request_id": "r1", "t_start": AT, "t_end": AT + 15_000}
    lay(warehouse, {**span, "window_start": AT}, {**span, "window_start": AT + 10_000})
    cost = amounts(of_request(warehouse, "r1"))
    assert (cost["calls"], cost["out"]) == (Decimal("0.001"), Decimal("0.0012"))


def test_each_window_has_the_rate_of_its_time(warehouse: Warehouse) -> None:
    price(warehouse)
    change = "2026-09-03T10:15:00Z"
    rate = '[[rates]]\nname = "{}"\nmeter = "output_tokens"\nprice = "{}"\nper = 1_000_000\n{} = {}\n'
    text = rate.format("old", "2", "to", change) + rate.format("new", "4", "from", change)
    book(warehouse, f'currency = "EUR"\n{text}')
    span = {"request_id": "r1", "t_start": epoch_ms(change) - 9_000, "t_end": epoch_ms(change) + 5_000}
    lay(warehouse, {**span, "window_start": epoch_ms(change) - 10_000}, {**span, "window_start": epoch_ms(change)})
    assert amounts(of_request(warehouse, "r1")) == {
        "electricity": Decimal("0.3"), "old": Decimal("0.0006"), "new": Decimal("0.0012"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rates", "reason"),
    [
        (f'[[rates]]\nname = "t"\nmeter = "output_tokens"\n{TIERS}', "by graduated"),
        ('[[rates]]\nname = "t"\nmeter = "output_tokens"\nprice = "2"\nscope = { hardware = "h100" }\n', "by hardware"),
        ('[[rates]]\nname = "t"\nmeter = "output_tokens"\nprice = "2"\nscope = { model = "other" }\n', "no rate of"),
        ('[[rates]]\nname = "t"\nmeter = "gpu_used_seconds"\nprice = "2"\n', "the bill has it"),
    ],
)
def test_a_part_that_only_the_month_has_is_open_and_so_is_the_total(
    warehouse: Warehouse, rates: str, reason: str
) -> None:
    price(warehouse)
    book(warehouse, f'currency = "EUR"\n{rates}')
    lay(warehouse, {"request_id": "r1"})
    cost = of_request(warehouse, "r1")
    (open_item,) = [item for item in cost.items if item.amount is None]
    assert reason in open_item.steps[0]
    assert [total.amount for total in cost.totals] == [None]


def test_electricity_without_a_tariff_is_unknown_and_never_0(warehouse: Warehouse) -> None:
    book(warehouse, BOOK)
    lay(warehouse, {"request_id": "r1"})
    cost = of_request(warehouse, "r1")
    assert amounts(cost)["electricity"] is None
    assert {total.amount for total in cost.totals} == {None}


def test_a_margin_on_electricity_is_a_part_of_the_cost(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, 'currency = "EUR"\n[[rates]]\nname = "margin"\nmeter = "energy_cost"\nprice = "0.20"\n')
    lay(warehouse, {"request_id": "r1"})
    assert amounts(of_request(warehouse, "r1")) == {"electricity": Decimal("0.15"), "margin": Decimal("0.03")}


def test_revenue_is_a_total_of_its_own(warehouse: Warehouse) -> None:
    price(warehouse)
    sold = '[[rates]]\nname = "sold"\nside = "revenue"\nmeter = "output_tokens"\nprice = "10"\nper = 1_000_000\n'
    book(warehouse, f'currency = "EUR"\n{sold}')
    lay(warehouse, {"request_id": "r1"})
    totals = {total.side: total.amount for total in of_request(warehouse, "r1").totals}
    assert totals == {"cost": Decimal("0.15"), "revenue": Decimal("0.003")}


def test_a_session_costs_its_requests_its_tool_calls_and_its_spend(warehouse: Warehouse) -> None:
    price(warehouse)
    rate = '[[rates]]\nname = "{}"\nmeter = "{}"\nprice = "{}"\n'
    book(warehouse, BOOK + rate.format("tools", "tool_calls", "0.5") + rate.format("spend", "external_spend", "1.1"))
    lay(
        warehouse,
        {"request_id": "r1", "session_id": "s"},
        {"request_id": "r2", "session_id": "s"},
        {"request_id": "r3"},
    )
    usage = {"session_id": "s", "t0": AT, "t1": AT + 1_000, "at": AT + 999}
    tools = {"meter": "tool_calls", "unit": "call", "quantity": [Decimal(3)], "log_offset": 1, **usage}
    spend = {"meter": "external_spend", "unit": "EUR", "quantity": [Decimal(2)], "log_offset": 2, **usage}
    warehouse.insert("usage", rows("usage", tools, spend))
    reader = operator_reader(warehouse)
    cost = costed_session(reader, session(reader, "s", "acme"), "EUR").operation
    assert amounts(cost) == {
        "electricity": Decimal("0.30"), "out": Decimal("0.0012"), "in": Decimal("0.00046662"),
        "calls": Decimal("0.002"), "tools": Decimal("1.5"), "spend": Decimal("2.2"),
    }  # fmt: skip


def test_a_tenant_sees_the_cost_of_its_own_request_only(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, BOOK)
    lay(warehouse, {"request_id": "r1"}, {"request_id": "r2", "tenant": "beta"})
    own = tenant_reader(warehouse, "beta")
    assert amounts(costed_receipt(own, receipt(own, "r2"), "EUR").operation)["calls"] == Decimal("0.001")
    with pytest.raises(BadQuery):
        receipt(own, "r1")


def test_without_a_price_book_a_request_costs_its_electricity(warehouse: Warehouse) -> None:
    price(warehouse)
    lay(warehouse, {"request_id": "r1"})
    cost = of_request(warehouse, "r1")
    assert amounts(cost) == {"electricity": Decimal("0.15")}
    assert cost.unpriced_meters == ["input_tokens", "output_tokens", "requests"]


def test_a_list_of_requests_has_the_costs_of_their_receipts(warehouse: Warehouse) -> None:
    price(warehouse)
    book(warehouse, BOOK)
    span = {"request_id": "long", "t_start": AT, "t_end": AT + 15_000}
    lay(warehouse, *({"request_id": f"r{n}", "completion_tokens": n} for n in range(5)), span,
        {**span, "window_start": AT + 10_000}, {"request_id": "r0", "tenant": "beta"})  # fmt: skip
    reader = operator_reader(warehouse)
    listed = requests(reader, NAMES["2026-09"]).rows
    costs = request_costs(reader, listed, "EUR")
    assert len(costs) == 7
    for one, cost in zip(listed, costs, strict=True):
        of_one = costed_receipt(reader, receipt(reader, one.request_id, Filter(one.tenant)), "EUR").operation
        assert [(total.currency, total.amount) for total in of_one.totals] == [(cost.currency, cost.cost)]


@pytest.mark.parametrize("has_tariff", [True, False])
def test_a_cost_that_is_unknown_in_part_is_null_in_a_list(warehouse: Warehouse, has_tariff: bool) -> None:
    if has_tariff:
        price(warehouse)
    book(warehouse, f'currency = "EUR"\n[[rates]]\nname = "t"\nmeter = "output_tokens"\n{TIERS}')
    lay(warehouse, {"request_id": "r1"})
    reader = operator_reader(warehouse)
    (cost,) = request_costs(reader, requests(reader, NAMES["2026-09"]).rows, "EUR")
    assert cost.cost is None


def test_a_tenants_list_has_the_costs_of_its_own_requests(warehouse: Warehouse) -> None:
    price(warehouse)
    lay(warehouse, {"request_id": "r1"}, {"request_id": "r1", "tenant": "beta", "active_uj": 2 * UJ_PER_KWH})
    own = tenant_reader(warehouse, "beta")
    (cost,) = request_costs(own, requests(own, NAMES["2026-09"]).rows, "EUR")
    assert cost.cost == Decimal("0.30")
