"""A charge walked back: from its money to tariff, PUE and energy, from the energy to a share of work, and from there to
what each GPU measured. Every step keeps the numbers that it multiplied, so that a reader can multiply them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from contracts.errors import BadQuery
from contracts.units import MS_PER_HOUR, UJ_PER_KWH, EpochMs, epoch_ms
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.reader import LedgerReader
from warehouse.results import Amount, Interval, LedgerRow, Time

MAX_PARTS = 200
"""Ledger rows of one tenant in one window that are explained; more is an error."""
SHOWN_INTERVALS = 64
"""GPUs listed per part; `gpus` says how many there are."""


@dataclass(frozen=True, slots=True)
class Share:
    """active = whole_active x work / whole_work, to the microjoule (largest remainder). Work is in thousandths."""

    work: int
    whole_work: int
    ratio: float | None
    active_uj: int
    whole_active_uj: int
    idle_uj: int
    whole_idle_uj: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What the workload's GPUs of one hardware type measured: `energy_uj` is `ledger_uj`, what the ledger charged for
    them, to all tenants together; `intervals` are the first `SHOWN_INTERVALS` of them."""

    energy_uj: int
    ledger_uj: int
    covered_ms: int
    gpus: int
    intervals: list[Interval]


@dataclass(frozen=True, slots=True)
class Floor:
    """idle = min(energy, idle_mw x covered_ms): 1 mW for 1 ms is 1 µJ. Version 0: no floor was known."""

    version: int
    idle_mw: int | None
    idle_uj: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Weights:
    """Work per token in thousandths, by kind of token. Null where that version is no longer in the table."""

    version: int
    prompt_milli: int | None
    cached_milli: int | None
    completion_milli: int | None
    source: str


@dataclass(frozen=True, slots=True)
class AppliedPrice:
    """A tariff (kind energy, money per kWh), PUE or carbon intensity (gCO2eq per kWh), valid at the hour's start."""

    kind: str
    cluster: str
    value: Amount
    currency: str
    valid_from: Time
    valid_to: Time
    source: str


@dataclass(frozen=True, slots=True)
class Part:
    """One ledger row and everything that it was computed from. `cost` = kwh x PUE x tariff, to twelve places;
    null where a price is missing."""

    row: LedgerRow
    share: Share
    measured: Measured
    floor: Floor
    weights: Weights
    prices: list[AppliedPrice]
    missing_prices: list[str]
    kwh: Amount
    kwh_facility: Amount | None
    cost: Amount | None
    gco2: Amount | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A tenant's charge of one window. The parts sum to `energy_uj` and `cost`."""

    tenant: str
    window_start: Time
    window_end: Time
    energy_uj: int
    cost: Amount | None
    currency: str
    gco2: Amount | None
    simulated: bool
    parts: list[Part]


def explain(reader: LedgerReader, tenant: str | None, window: str = "latest") -> Explanation:
    """Return the charge of a tenant in the window that holds an instant (RFC 3339), or in its newest final one.

    `tenant` None is the reader's own. Raises BadQuery where the tenant has no final window there, and where an operator
    names none.
    """
    filter = reader.narrow(Filter(tenant=tenant))
    tenant = filter.tenant
    if not tenant:
        raise BadQuery("tenant", None, "say whose charge to explain")
    at_ms = -1 if window == "latest" else _instant(window)
    newest = reader.ask("ledger/explain_window", filter, at_ms=at_ms)[0]
    if not newest["windows"]:
        raise BadQuery(
            "tenant" if at_ms < 0 else "window",
            tenant if at_ms < 0 else window,
            f"no final window of {tenant!r} is there; `chargeback` lists tenants, `ledger` their windows",
        )
    start_ms = newest["window_start"]
    rows = reader.ask("ledger/explain_rows", filter, window_ms=start_ms, limit=MAX_PARTS + 1)
    if len(rows) > MAX_PARTS:
        raise BadQuery("tenant", tenant, f"more than {MAX_PARTS} rows in one window; drill down with `ledger` instead")
    evidence = _Evidence(reader, start_ms, filter, rows)
    parts = [evidence.part(row) for row in rows]
    costs, grams = [part.cost for part in parts], [part.gco2 for part in parts]
    currencies = {price.currency for part in parts for price in part.prices if price.kind == "energy"}
    return Explanation(
        tenant=tenant,
        window_start=start_ms,
        window_end=EpochMs(start_ms + parts[0].row.window_ms),
        energy_uj=sum(part.row.energy_uj for part in parts),
        cost=_sum(costs) if len(currencies) <= 1 else None,
        currency=currencies.pop() if len(currencies) == 1 else "",
        gco2=_sum(grams),
        simulated=any(part.row.simulated for part in parts),
        parts=parts,
    )


def _instant(text: str) -> int:
    try:
        at_ms = epoch_ms(text)
    except (ValueError, OverflowError):
        raise BadQuery("window", text, "give latest, or RFC 3339 like 2026-11-01T00:00:00Z") from None
    if not 0 <= at_ms < epoch_ms("2200-01-01"):
        raise BadQuery("window", text, "give a time from 1970 to 2200")
    return at_ms


def _sum(amounts: list[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


class _Evidence:
    """Looks up what the rows of a window rest on: each kind of fact in one question, however many rows there are."""

    def __init__(self, reader: LedgerReader, start_ms: int, filter: Filter, rows: Sequence[Mapping[str, Any]]) -> None:
        def column(name: str) -> list[Any]:
            return [row[name] for row in rows]

        subjects: dict[str, Any] = {
            "window_ms": start_ms,
            "clusters": column("cluster"),
            "workloads": column("workload"),
        }
        self._measured = {
            (fact["cluster"], fact["workload"], fact["hardware"]): fact
            for fact in reader.ask("ledger/explain_energy", filter, **subjects)
        }
        self._intervals: dict[tuple[str, str, str], list[Interval]] = {}
        for fact in reader.ask("ledger/explain_intervals", filter, **subjects, shown=SHOWN_INTERVALS):
            found = ledger_queries.interval(fact)
            self._intervals.setdefault((found.cluster, found.workload, found.hardware), []).append(found)
        used: dict[str, Any] = {"at_ms": start_ms, "hardwares": column("hardware")}
        self._floors = {
            (floor["of_hardware"], floor["of_version"]): floor
            for floor in reader.ask("ledger/applied_floors", **used, versions=column("floor_version"))
        }
        versions: dict[str, Any] = {"models": column("model"), "versions": column("weights_version")}
        self._weights = {
            (found["of_model"], found["of_hardware"], found["of_version"]): found
            for found in reader.ask("ledger/applied_weights", **used, **versions)
        }
        self._prices: dict[str, list[AppliedPrice]] = {}
        hour_ms = start_ms - start_ms % MS_PER_HOUR
        for price in reader.ask("chargeback/prices_at", clusters=sorted(set(column("cluster"))), at_ms=hour_ms):
            self._prices.setdefault(price["scope"], []).append(_applied(price))

    def part(self, row: Mapping[str, Any]) -> Part:
        ledger = ledger_queries.ledger_row(row)
        prices = self._prices.get(ledger.cluster, [])
        money = _money(ledger.energy_uj, {price.kind: price.value for price in prices})
        measured = self._measured_of(ledger, row["whole_uj"])
        work = ledger.work
        return Part(
            row=ledger,
            share=Share(
                work,
                row["whole_work"],
                work / row["whole_work"] if row["whole_work"] else None,
                ledger.active_uj,
                row["whole_active_uj"],
                ledger.idle_uj,
                row["whole_idle_uj"],
            ),
            measured=measured,
            floor=self._floor_of(ledger, measured),
            weights=self._weights_of(ledger),
            prices=prices,
            missing_prices=[kind for kind in ("energy", "pue", "carbon") if kind not in {p.kind for p in prices}],
            **money,
        )

    def _measured_of(self, row: LedgerRow, ledger_uj: int) -> Measured:
        key = row.cluster, row.workload, row.hardware
        fact = self._measured.get(key, {"energy_uj": 0, "covered_ms": 0, "gpus": 0})
        shown = self._intervals.get(key, [])
        return Measured(fact["energy_uj"], ledger_uj, fact["covered_ms"], fact["gpus"], shown)

    def _floor_of(self, row: LedgerRow, measured: Measured) -> Floor:
        found = self._floors.get((row.hardware, row.floor_version))
        if found is None:
            return Floor(row.floor_version, None, None, "")
        idle_uj = min(measured.energy_uj, found["idle_mw"] * measured.covered_ms)
        return Floor(row.floor_version, found["idle_mw"], idle_uj, found["source"])

    def _weights_of(self, row: LedgerRow) -> Weights:
        found = self._weights.get((row.model, row.hardware, row.weights_version))
        if found is None:
            return Weights(row.weights_version, None, None, None, "")
        return Weights(
            row.weights_version,
            found["prompt_milli"],
            found["cached_milli"],
            found["completion_milli"],
            found["source"],
        )


def _applied(row: Mapping[str, Any]) -> AppliedPrice:
    return AppliedPrice(
        row["kind"],
        row["cluster"],
        row["value"],
        row["currency"],
        EpochMs(row["valid_from_ms"]),
        EpochMs(row["valid_to_ms"]),
        row["source"],
    )


def _money(energy_uj: int, price: Mapping[str, Decimal]) -> dict[str, Any]:
    """kWh, facility kWh, cost and grams, each to twelve places."""
    with localcontext(prec=60):
        place = Decimal(1).scaleb(-12)
        kwh = Decimal(energy_uj) / UJ_PER_KWH
        facility = kwh * price["pue"] if "pue" in price else (Decimal(0) if not energy_uj else None)

        def priced(kind: str) -> Decimal | None:
            if not energy_uj:
                return Decimal(0)
            return (facility * price[kind]).quantize(place) if facility is not None and kind in price else None

        return {
            "kwh": kwh.quantize(place),
            "kwh_facility": None if facility is None else facility.quantize(place),
            "cost": priced("energy"),
            "gco2": priced("carbon"),
        }
