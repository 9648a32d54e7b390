"""Explanation of a charge: from money to tariff, PUE and energy, to the share of work, to each GPU's measurement.

Every step keeps its factors, so that a reader can multiply them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from contracts.errors import BadQuery
from contracts.events import Method
from contracts.rows import REQUEST_SECOND_MILLI, REQUEST_TIME_VERSION
from contracts.units import EpochMs, epoch_ms
from warehouse.chargeback.pricing import KINDS, UNMETERED, price_energy
from warehouse.chargeback.references import prices_between
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.explained_charge import (
    AppliedFloor,
    AppliedPrice,
    AppliedWeights,
    ExplainedRow,
    Explanation,
    MeasuredEnergy,
    OwnExplanation,
    WorkShare,
    own_explanation,
)
from warehouse.reader import LedgerReader
from warehouse.reference_data.prices import Price
from warehouse.results import METHODS, GpuInterval, LedgerRow

MAX_PARTS = 200
"""Ledger rows of one tenant in one window that are explained; more is an error."""
SHOWN_INTERVALS = 64
"""Devices listed per part; `devices` says how many there are."""


def explain(reader: LedgerReader, tenant: str | None, window: str = "latest") -> Explanation | OwnExplanation:
    """Return the charge of a tenant in the window that holds an instant (RFC 3339), or in its newest final one.

    A tenant's reader gets an `OwnExplanation`.

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
    open_parts = [part for part in parts if part.row.method == _UNMETERED]
    metered = [part for part in parts if part.row.method != _UNMETERED]
    costs, grams = [part.cost for part in metered], [part.gco2 for part in metered]
    currencies = {price.currency for part in parts for price in part.prices if price.kind == "energy"}
    explanation = Explanation(
        tenant=tenant,
        window_start=start_ms,
        window_end=EpochMs(start_ms + parts[0].row.window_ms),
        energy_uj=sum(part.row.energy_uj for part in parts),
        cost=_sum(costs) if len(currencies) <= 1 else None,
        currency=currencies.pop() if len(currencies) == 1 else "",
        gco2=_sum(grams),
        unmetered_tokens=sum(part.row.prompt_tokens + part.row.completion_tokens for part in open_parts),
        simulated=any(part.row.simulated for part in parts),
        parts=parts,
    )
    return explanation if reader.tenants is None else own_explanation(explanation)


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
    return sum(known, Decimal(0)) if amounts and len(known) == len(amounts) else None


class _Evidence:
    """The facts, floors, weights and prices behind rows of one window: one question for each kind."""

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
        self._intervals: dict[tuple[str, str, str], list[GpuInterval]] = {}
        for fact in reader.ask("ledger/explain_intervals", filter, **subjects, shown=SHOWN_INTERVALS):
            interval = ledger_queries.interval(fact)
            self._intervals.setdefault((interval.cluster, interval.workload, interval.hardware), []).append(interval)
        used: dict[str, Any] = {"at_ms": start_ms, "hardwares": column("hardware")}
        self._floors = {
            (floor["of_hardware"], floor["of_version"]): floor
            for floor in reader.ask("ledger/applied_floors", **used, versions=column("floor_version"))
        }
        versions: dict[str, Any] = {"models": column("model"), "versions": column("weights_version")}
        self._weights = {
            (weights["of_model"], weights["of_hardware"], weights["of_version"]): weights
            for weights in reader.ask("ledger/applied_weights", **used, **versions)
        }
        self._span_ms = start_ms, start_ms + max(column("window_ms"))
        from_ms, until_ms = self._span_ms
        self._book = prices_between(reader, column("cluster"), from_ms, until_ms)

    def part(self, row: Mapping[str, Any]) -> ExplainedRow:
        ledger = ledger_queries.ledger_row(row)
        priced = [self._book.find(kind, ledger.cluster, *self._span_ms) for kind in KINDS]
        prices = [price for price, _ in priced if price is not None]
        is_open = ledger.method == _UNMETERED
        money = UNMETERED if is_open else price_energy(ledger.energy_uj, {price.kind: price.value for price in prices})
        measured = self._measured_of(ledger, row["whole_uj"])
        work = row["share_work"]
        return ExplainedRow(
            row=ledger,
            share=WorkShare(
                work=work,
                whole_work=row["whole_work"],
                ratio=work / row["whole_work"] if row["whole_work"] else None,
                active_uj=ledger.active_uj,
                whole_active_uj=row["whole_active_uj"],
                idle_uj=ledger.idle_uj,
                whole_idle_uj=row["whole_idle_uj"],
            ),
            measured=measured,
            floor=self._floor_of(ledger, measured),
            weights=self._weights_of(ledger),
            prices=[_applied(price) for price in prices],
            missing_prices=[lacks for price, lacks in priced if price is None],
            kwh=money.kwh,
            kwh_facility=money.kwh_facility,
            cost=money.cost,
            gco2=money.gco2,
        )

    def _measured_of(self, row: LedgerRow, ledger_uj: int) -> MeasuredEnergy:
        key = row.cluster, row.workload, row.hardware
        fact = self._measured.get(key, {"energy_uj": 0, "covered_ms": 0, "gpus": 0, "devices": 0})
        return MeasuredEnergy(
            energy_uj=fact["energy_uj"],
            ledger_uj=ledger_uj,
            covered_ms=fact["covered_ms"],
            gpus=fact["gpus"],
            devices=fact["devices"],
            intervals=self._intervals.get(key, []),
        )

    def _floor_of(self, row: LedgerRow, measured: MeasuredEnergy) -> AppliedFloor:
        floor = self._floors.get((row.hardware, row.floor_version))
        if floor is None:
            return AppliedFloor(version=row.floor_version, idle_mw=None, idle_uj=None, source="")
        return AppliedFloor(
            version=row.floor_version,
            idle_mw=floor["idle_mw"],
            idle_uj=min(measured.energy_uj, floor["idle_mw"] * measured.covered_ms),
            source=floor["source"],
        )

    def _weights_of(self, row: LedgerRow) -> AppliedWeights:
        if row.weights_version >= REQUEST_TIME_VERSION:
            return AppliedWeights(
                version=row.weights_version,
                prompt_milli=0,
                cached_milli=0,
                completion_milli=0,
                source="no request of the window had token work",
                request_second_milli=REQUEST_SECOND_MILLI,
            )
        weights = self._weights.get((row.model, row.hardware, row.weights_version), _UNKNOWN_WEIGHTS)
        return AppliedWeights(
            version=row.weights_version,
            prompt_milli=weights["prompt_milli"],
            cached_milli=weights["cached_milli"],
            completion_milli=weights["completion_milli"],
            source=weights["source"],
            request_second_milli=None if weights is _UNKNOWN_WEIGHTS else 0,
        )


_UNMETERED = METHODS[Method.UNMETERED]
_UNKNOWN_WEIGHTS = {"prompt_milli": None, "cached_milli": None, "completion_milli": None, "source": ""}


def _applied(price: Price) -> AppliedPrice:
    return AppliedPrice(
        kind=price.kind,
        cluster=price.cluster,
        value=price.value,
        currency=price.currency,
        valid_from=EpochMs(price.valid_from_ms),
        valid_to=EpochMs(price.valid_to_ms),
        source=price.source,
    )
