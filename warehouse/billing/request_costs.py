"""Total cost of each request of a page, as `operation_cost` has it for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from contracts.errors import BadQuery
from warehouse.billing.operation_cost import CostItem, operation, price_book, quantity_rows, times_of
from warehouse.chargeback.pricing import KINDS, ClusterPrices, price_energy
from warehouse.chargeback.references import prices_between
from warehouse.filters import Filter
from warehouse.reader import LedgerReader
from warehouse.results import Amount, RequestEnergyRow

MAX_WINDOWS = 100_000
"""Windows that the requests of one page ran in."""
_Key = tuple[str, str, str, str, str, int, int]


@dataclass(frozen=True, slots=True)
class RequestCost:
    """Total cost of a request: null where a part of it is unknown, or is of another currency."""

    cost: Amount | None
    currency: str


def request_costs(reader: LedgerReader, requests: Sequence[RequestEnergyRow], currency: str) -> list[RequestCost]:
    """Return the costs of requests, in their order. `currency` is used where no price book is stored.

    Raises BadQuery where they ran in more than MAX_WINDOWS.
    """
    if not requests:
        return []
    book = price_book(reader, currency)
    times = times_of(book, min(one.t_start for one in requests), max(one.t_end for one in requests) + 1)
    ids = sorted({one.request_id for one in requests})
    rows = quantity_rows(reader, "billing/requests_quantities", Filter(), times, limit=MAX_WINDOWS + 1, request_ids=ids)
    if len(rows) > MAX_WINDOWS:
        raise BadQuery("limit", len(requests), f"these requests ran in more than {MAX_WINDOWS} windows: ask for fewer")
    by_request: dict[_Key, list[dict[str, Any]]] = {}
    for row in rows:
        key = (*(row[name] for name in ("tenant", "stored_cluster", "workload", "model", "request_id")),)
        by_request.setdefault((*key, row["t_start"], row["t_end"]), []).append(row)
    prices = prices_between(reader, [one.cluster for one in requests], times.start_ms, times.end_ms)
    costs = []
    for one in requests:
        key = (one.tenant, one.cluster, one.workload, one.model, one.request_id, one.t_start, one.t_end)
        windows = by_request.get(key, [])
        electricity = _electricity(windows, prices, is_known=bool(windows) and not one.unmetered_windows)
        cost = operation(book, times, [electricity], windows, [], has_energy=one.energy_uj > 0)
        totals = [total for total in cost.totals if total.side == "cost"]
        costs.append(RequestCost(totals[0].amount, totals[0].currency) if len(totals) == 1 else RequestCost(None, ""))
    return costs


def _electricity(windows: Sequence[Mapping[str, Any]], prices: ClusterPrices, *, is_known: bool) -> CostItem:
    amounts: list[Decimal | None] = []
    currencies: set[str] = set()
    for window in windows:
        until_ms = window["window_start"] + window["window_ms"]
        values: dict[str, Decimal] = {}
        for kind in KINDS:
            price, _ = prices.find(kind, window["stored_cluster"], window["window_start"], until_ms)
            if price is not None:
                values[kind] = price.value
                currencies |= {price.currency} - {""}
        amounts.append(price_energy(window["energy_uj"], values).cost)
    known = [amount for amount in amounts if amount is not None]
    is_known = is_known and len(known) == len(amounts) and len(currencies) <= 1
    return CostItem(
        name="electricity",
        meter="energy",
        quantity=None,
        unit="kWh",
        side="cost",
        currency=min(currencies, default=""),
        amount=sum(known, Decimal(0)) if is_known else None,
        steps=[],
    )
