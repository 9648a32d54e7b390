"""Receipts: one request's energy, carbon and cost, window by window, with what it takes to check them.

The receipts of all requests of a window, the idle energy that no request bears, and unallocated energy sum to the
ledger. A window's `ledger_sha256` is over the tenant's rows there, in the form of `fingerprint.row_bytes`: a late fact
that changes the charge changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from contracts.errors import BadQuery
from contracts.events import DIMENSIONS, TOKENS, Method
from contracts.units import EpochMs
from warehouse.chargeback.chargeback_queries import joules_per
from warehouse.chargeback.pricing import KINDS, UNMETERED, ClusterPrices, price_energy
from warehouse.chargeback.references import prices_between
from warehouse.filters import Filter
from warehouse.ledger.fingerprint import row_bytes
from warehouse.reader import LedgerReader
from warehouse.results import METHODS, Amount, MissingPrice, RequestEnergyRow, Time

MAX_PIECES = 10_000
"""Windows that requests of one id ran in: 6 h in windows of 10 s are 2,161."""
_REQUEST = ("tenant", "cluster", "workload", "model", "request_id", "session_id", "trace_id", *DIMENSIONS, "status",
            "t_start", "t_end")  # fmt: skip
_ALL = Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptWindow:
    """A request's part of one window. `charge_uj` is what the ledger charged its tenant for the model there.

    `share` is the request's part of that charge. Money and grams are to twelve places; null without a price, and where
    nothing was measured.
    """

    window_start: Time
    window_end: Time
    active_uj: int
    idle_uj: int
    charge_uj: int
    share: float | None
    method: str
    revision: int
    kwh: Amount | None
    kwh_facility: Amount | None
    cost: Amount | None
    currency: str
    gco2: Amount | None
    ledger_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One request with its energy, and that energy's carbon and cost, in all final windows that it ran in.

    Amounts are the sums of `windows`, null where that of any window is. `method` is the weakest evidence of them.
    """

    request: RequestEnergyRow
    kwh: Amount | None
    kwh_facility: Amount | None
    cost: Amount | None
    currency: str
    gco2: Amount | None
    method: str
    missing_prices: list[MissingPrice]
    windows: list[ReceiptWindow]


def receipt(reader: LedgerReader, request_id: str, filter: Filter = _ALL) -> Receipt:
    """Return the receipt of the request with an id.

    Raises BadQuery where none is stored, where several have the id (narrow it by tenant, cluster, workload or model),
    and past MAX_PIECES; AccessDenied for another tenant's rows.
    """
    pieces = reader.ask("ledger/receipt", filter, request_id=request_id, limit=MAX_PIECES + 1)
    if not pieces:
        raise BadQuery(
            "request_id", request_id,
            "no such request is stored: `requests` lists them, and they expire after 30 days; a request appears once "
            "its windows are final",
        )  # fmt: skip
    if len(pieces) > MAX_PIECES:
        raise BadQuery("request_id", request_id, f"requests of this id ran in more than {MAX_PIECES} windows")
    first = pieces[0]
    names = [name for name in ("tenant", "cluster", "workload", "model") if len({p[name] for p in pieces}) > 1]
    if names:
        raise BadQuery(names[0], "", f"several requests have this id: give {' and '.join(names)}")
    if any(piece[name] != first[name] for piece in pieces for name in _REQUEST):
        raise BadQuery("request_id", request_id, "several requests of one tenant have this id; `requests` lists them")
    subject = replace(filter, tenant=first["tenant"], cluster=first["cluster"], workload=first["workload"], model=None)
    starts = [piece["window_start"] for piece in pieces]
    rows = reader.ask_arrow("ledger/receipt_rows", subject, windows=starts).to_pylist()
    until_ms = max(piece["window_start"] + piece["window_ms"] for piece in pieces)
    return make_receipt(pieces, rows, prices_between(reader, [first["cluster"]], min(starts), until_ms))


def make_receipt(
    pieces: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], book: ClusterPrices
) -> Receipt:
    """Return the receipt of one request from its pieces, the ledger rows of its tenant there, and the prices."""
    by_window: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_window.setdefault(row["start_ms"], []).append(row)
    missing: set[MissingPrice] = set()
    windows = [_window(piece, by_window.get(piece["window_start"], []), book, missing) for piece in pieces]
    currencies = {window.currency for window in windows if window.currency}
    return Receipt(
        request=_request(pieces, windows),
        kwh=_sum([window.kwh for window in windows]),
        kwh_facility=_sum([window.kwh_facility for window in windows]),
        cost=_sum([window.cost for window in windows]) if len(currencies) <= 1 else None,
        currency=currencies.pop() if len(currencies) == 1 else "",
        gco2=_sum([window.gco2 for window in windows]),
        method=max((window.method for window in windows), key=METHODS.index),
        missing_prices=sorted(missing, key=lambda price: (price.kind, price.cluster)),
        windows=windows,
    )


def _request(pieces: Sequence[Mapping[str, Any]], windows: Sequence[ReceiptWindow]) -> RequestEnergyRow:
    first = pieces[0]
    sums: dict[str, Any] = {name: sum(piece[name] for piece in pieces) for name in (*TOKENS, "active_uj", "idle_uj")}
    energy_uj = sums["active_uj"] + sums["idle_uj"]
    unmetered = sum(window.kwh is None for window in windows)
    tokens = sums["prompt_tokens"] + sums["completion_tokens"]
    return RequestEnergyRow(
        **{name: first[name] for name in _REQUEST},
        **sums,
        energy_uj=energy_uj,
        windows=len(windows),
        unmetered_windows=unmetered,
        joules_per_token=None if unmetered else joules_per(energy_uj, tokens),
        simulated=any(piece["simulated"] for piece in pieces),
    )


def _window(
    piece: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], book: ClusterPrices, missing: set[MissingPrice]
) -> ReceiptWindow:
    charges = [row for row in rows if row["model"] == piece["model"]]
    charge_uj = sum(row["active_uj"] + row["idle_uj"] for row in charges)
    measured = [row["method"] for row in charges if row["method"] != Method.UNMETERED]
    energy_uj, from_ms = piece["active_uj"] + piece["idle_uj"], piece["window_start"]
    until_ms = from_ms + piece["window_ms"]
    money, currency = UNMETERED, ""
    if measured:
        values: dict[str, Decimal] = {}
        for kind in KINDS:
            price, lacks = book.find(kind, piece["cluster"], from_ms, until_ms)
            if price is not None:
                values[kind] = price.value
                currency = price.currency or currency
            elif energy_uj:
                missing.add(MissingPrice(kind=lacks, cluster=piece["cluster"]))
        money = price_energy(energy_uj, values)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row_bytes({name: value for name, value in row.items() if name != "revision"}))
    return ReceiptWindow(
        window_start=from_ms,
        window_end=EpochMs(until_ms),
        active_uj=piece["active_uj"],
        idle_uj=piece["idle_uj"],
        charge_uj=charge_uj,
        share=energy_uj / charge_uj if charge_uj else None,
        method=METHODS[max(measured) if measured else Method.UNMETERED],
        revision=max((row["revision"] for row in charges), default=0),
        kwh=money.kwh,
        kwh_facility=money.kwh_facility,
        cost=money.cost,
        currency=currency,
        gco2=money.gco2,
        ledger_sha256=digest.hexdigest(),
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Return the sum of amounts, None where one is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None
