"""Total cost of operation of one request or session: its electricity, and what the price book can attribute to it.

By the prices and the book of today. A flat rate is attributed to the tokens, requests and usage that it is of. A rate
by tiers or packages, and GPU time, are known for a complete month only: their part is open. Fees, grants, taxes and
reserved GPUs belong to no request (`not_attributed`). So a month's requests, and what is not attributed, are its bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from billing.line_items import Charge
from billing.places import Place
from billing.price_book import ENERGY_COST, MONTHS, PriceBook
from billing.quantities import ALLOCATED, USED, MeteredQuantity, token_quantities
from billing.rating import rate_part
from billing.rounding import decimal_of
from billing.segments import QUARTER_MS, Segments, segments
from contracts.errors import BadQuery
from contracts.meter_names import COMPARISON_METERS
from contracts.units import MS_PER_HOUR, shortest_decimal
from warehouse.billing.price_books import book_of
from warehouse.chargeback.dimensions import account_of
from warehouse.chargeback.references import CURRENT
from warehouse.filters import Filter
from warehouse.ledger.receipts import Receipt
from warehouse.reader import LedgerReader
from warehouse.results import Amount
from warehouse.usage.sessions import Session

MAX_ROWS = 10_000
"""Places and classes of time of one session; more is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostItem:
    """A cost and its arithmetic. `amount` is null where a price or a measurement is missing, or only the month has it:
    `steps` say why.
    """

    name: str
    meter: str
    quantity: Amount | None
    unit: str
    side: str
    currency: str
    amount: Amount | None
    steps: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTotal:
    """Sum of the items of a side in a currency; null where an item of that side is unknown."""

    side: str
    currency: str
    amount: Amount | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCost:
    """Items and their totals. The book has no rate for `unpriced_meters`; `not_attributed` belongs to no request."""

    items: list[CostItem]
    totals: list[CostTotal]
    unpriced_meters: list[str]
    not_attributed: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostedReceipt(Receipt):
    """A receipt with what its request cost in all."""

    operation: OperationCost


@dataclass(frozen=True, slots=True, kw_only=True)
class CostedSession(Session):
    """A session with what it cost in all."""

    operation: OperationCost


def costed_receipt(reader: LedgerReader, receipt: Receipt, currency: str) -> CostedReceipt:
    """Return a receipt with its total cost. `currency` is used where no price book is stored. Raises BadInput."""
    request = receipt.request
    book = price_book(reader, currency)
    times = times_of(book, receipt.windows[0].window_start, receipt.windows[-1].window_end)
    subject = Filter(request.tenant, request.cluster, request.workload, request.model)
    rows = quantity_rows(reader, "billing/request_quantities", subject, times, request_id=request.request_id, traces=[])
    electricity = _electricity(receipt, receipt.kwh_facility, bool(request.energy_uj))
    cost = operation(book, times, electricity, rows, [], has_energy=request.energy_uj > 0)
    return CostedReceipt(**_fields(receipt), operation=cost)


def costed_session(reader: LedgerReader, session: Session, currency: str) -> CostedSession:
    """Return a session with its total cost, that of its usage and external spend included, as `costed_receipt` does."""
    book = price_book(reader, currency)
    times = times_of(book, session.first, session.last + 1)
    traces = sorted({step.trace_id for step in session.steps if step.trace_id})
    subject = Filter(tenant=session.tenant, session_id=session.session_id)
    rows = quantity_rows(reader, "billing/request_quantities", subject, times, request_id="", traces=traces)
    usage = quantity_rows(
        reader, "billing/session_quantities", subject, times, traces=traces, beside=sorted(COMPARISON_METERS)
    )
    if max(len(rows), len(usage)) > MAX_ROWS:
        raise BadQuery("session_id", session.session_id, f"more than {MAX_ROWS} places and prices in one session")
    metered = [
        MeteredQuantity(row["meter"], row["unit"], Decimal(row["quantity"]), _place(row), row["number"])
        for row in usage
    ]
    electricity = _electricity(session, None, bool(session.requests))
    cost = operation(book, times, electricity, rows, metered, has_energy=session.energy_uj > 0)
    return CostedSession(**_fields(session), operation=cost)


def _fields(value: Receipt | Session) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def price_book(reader: LedgerReader, currency: str) -> PriceBook:
    """Return the price book of today; without one, an empty one in this currency."""
    stored = book_of(reader)
    return PriceBook(currency=currency) if stored is None else stored.parse()


def times_of(book: PriceBook, start_ms: int, end_ms: int) -> Segments:
    """Return the segments of some time, from a full quarter of an hour before a window that it begins in."""
    return segments(book, (start_ms - MS_PER_HOUR) // QUARTER_MS * QUARTER_MS, end_ms)


def quantity_rows(
    reader: LedgerReader, name: str, subject: Filter, times: Segments, *, limit: int = MAX_ROWS + 1, **params: Any
) -> list[dict[str, Any]]:
    """Return rows of a question on quantities by class of time: at most `limit`."""
    span = {"start_ms": times.start_ms, "end_ms": times.end_ms}
    classes = {"starts": list(times.starts_ms), "classes": list(times.classes)}
    # As Arrow, because its way to the server takes long parameters.
    rows: list[dict[str, Any]] = reader.ask_arrow(
        name, subject, fragments=account_of(CURRENT), limit=limit, **span, **classes, **params
    ).to_pylist()
    return rows


def _place(row: Mapping[str, Any]) -> Place:
    return Place(**{name: row[name] for name in Place._fields if name in row})


def _electricity(of: Receipt | Session, kwh_facility: Decimal | None, has_requests: bool) -> list[CostItem]:
    if not has_requests:
        return []
    lacks = [f"no {missing.kind} price of {missing.cluster}" for missing in of.missing_prices]
    step = "by the tariffs of the clusters" if kwh_facility is None else f"{shortest_decimal(kwh_facility)} kWh"
    unknown = lacks or ["no measured energy, or prices in several currencies"]
    return [
        CostItem(
            name="electricity",
            meter="energy",
            quantity=kwh_facility,
            unit="kWh",
            side="cost",
            currency=of.currency,
            amount=of.cost,
            steps=unknown if of.cost is None else [step],
        )
    ]


def operation(
    book: PriceBook,
    times: Segments,
    electricity: list[CostItem],
    rows: list[dict[str, Any]],
    metered: list[MeteredQuantity],
    *,
    has_energy: bool,
) -> OperationCost:
    """Return the cost of electricity, of rows of tokens and requests, and of other metered quantities."""
    in_units = {meter for unit in book.compute_units for meter, _ in unit.weights}
    counted = [q for row in rows for q in token_quantities(row, _place(row), row["number"], book.meters | in_units)]
    quantities = [*counted, *metered]
    items = list(electricity)
    if electricity and book.rates_of(ENERGY_COST):
        places = {quantity.place for quantity in counted}
        (cost,) = (item.amount for item in electricity)
        if len(places) == 1 and cost is not None:
            quantities.append(MeteredQuantity(ENERGY_COST, electricity[0].currency, cost, places.pop()))
        else:
            items.append(
                _open(ENERGY_COST, electricity[0].currency, "the electricity is unknown, or of several places")
            )
    if has_energy and USED in book.meters | in_units:
        items.append(
            _open(USED, book.currency, "GPU time is divided by the energy of the whole month: the bill has it")
        )
    rated = rate_part(book, times, [replace(quantity, place=book.place(quantity.place)) for quantity in quantities])
    items += [_item(charge) for charge in rated.charges]
    return OperationCost(
        items=items,
        totals=_totals(items),
        unpriced_meters=sorted(rated.unpriced_meters),
        not_attributed=_not_attributed(book),
    )


def _item(charge: Charge) -> CostItem:
    return CostItem(
        name=charge.name,
        meter=charge.meter,
        quantity=decimal_of(charge.quantity),
        unit=charge.unit,
        side=charge.side,
        currency=charge.currency,
        amount=None if charge.amount is None else decimal_of(charge.amount),
        steps=list(charge.steps),
    )


def _open(meter: str, currency: str, reason: str) -> CostItem:
    return CostItem(
        name=meter, meter=meter, quantity=None, unit="", side="cost", currency=currency, amount=None, steps=[reason]
    )


def _totals(items: list[CostItem]) -> list[CostTotal]:
    unknown = {item.side for item in items if item.amount is None}
    sums: dict[tuple[str, str], Decimal] = {}
    for item in items:
        key = (item.side, item.currency)
        sums[key] = sums.get(key, Decimal(0)) + (item.amount or Decimal(0))
    return [
        CostTotal(side=side, currency=currency, amount=None if side in unknown else amount)
        for (side, currency), amount in sorted(sums.items())
    ]


def _not_attributed(book: PriceBook) -> list[str]:
    """Return the kinds of rows that the book has, and that belong to no request."""
    present = {
        "fees": book.rates_of(MONTHS),
        "reserved GPUs": book.rates_of(ALLOCATED),
        "discounts": book.discounts,
        "minimums": book.minimums,
        "commitments": book.commitments,
        "credits": book.credits,
        "taxes": book.taxes,
    }
    return [name for name, rows in present.items() if rows]
