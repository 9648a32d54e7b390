"""A period's quantities and energy, as `billing` takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from billing.places import Place
from billing.price_book import PriceBook
from billing.quantities import (
    ALLOCATED,
    LEDGER_METERS,
    USED,
    EnergyCharge,
    MeteredQuantity,
    token_quantities,
)
from billing.segments import Segments
from contracts.apportion import apportion
from contracts.errors import BadQuery
from contracts.meter_names import COMPARISON_METERS
from contracts.topics import TENANT_IDLE, TENANT_UNALLOCATED, TENANT_UNKNOWN, is_unallocated
from warehouse.chargeback.chargeback_queries import chargeback_all
from warehouse.chargeback.dimensions import account_of
from warehouse.chargeback.references import References
from warehouse.chargeback.rollups import CUTS, rollup_rows
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import ChargebackRow

MAX_ROWS = 500_000
"""Rows of one kind of quantity in a bill."""
_ALL = Filter()
_ENERGY_BY = ("tenant", "team", "cost_centre", "cluster", "workload", "model", "hardware")


def energy_charges(reader: LedgerReader, period: Period, references: References) -> list[EnergyCharge]:
    """Return the energy of a period with its money, by tenant and place. Raises BadQuery past the limit of rows."""
    rows = chargeback_all(reader, period, _ENERGY_BY, _ALL, references)
    return [_energy_charge(row) for row in rows if row.energy_uj or row.unmetered_tokens]


def _energy_charge(row: ChargebackRow) -> EnergyCharge:
    place = Place(**{name: getattr(row, name) or "" for name in _ENERGY_BY})
    return EnergyCharge(
        place=place,
        energy_uj=row.energy_uj,
        kwh_facility=row.kwh_facility,
        cost=row.cost,
        currency=row.currency,
        gco2=row.gco2,
        lacks=tuple(sorted({missing.kind for missing in row.missing_prices})),
    )


def quantities(
    reader: LedgerReader, period: Period, book: PriceBook, times: Segments, references: References
) -> Iterator[MeteredQuantity]:
    """Yield what a period holds of every meter, by place and class of time.

    The time of GPUs is read only if the book prices it, as it is read from windows. Raises BadQuery past `MAX_ROWS`.
    """
    span = {"start_ms": period.start, "end_ms": period.end}
    classes = {"starts": list(times.starts_ms), "classes": list(times.classes)}
    account = account_of(references)
    in_units = {meter for unit in book.compute_units for meter, _ in unit.weights}
    priced = book.meters | in_units
    fragments = {**account, "cuts": CUTS, "charges": rollup_rows((), with_windows=True)}
    for row in _rows(reader, "billing/ledger_quantities", fragments, **span, **classes, **references.parameters):
        yield from token_quantities(row, _place(row), row["number"], priced)
    for row in _rows(
        reader,
        "billing/usage_quantities",
        account,
        **span,
        **classes,
        beside=sorted(COMPARISON_METERS),
        **references.parameters,
    ):
        yield MeteredQuantity(row["meter"], row["unit"], Decimal(row["quantity"]), _place(row), row["number"])
    if priced & {ALLOCATED, USED}:
        yield from _gpu_time(reader, fragments, references, span | classes)


def _rows(reader: LedgerReader, name: str, fragments: Mapping[str, str], **params: Any) -> list[dict[str, Any]]:
    rows = reader.ask(name, fragments=fragments or None, **params, limit=MAX_ROWS + 1)
    if len(rows) > MAX_ROWS:
        raise BadQuery("period", name, f"more than {MAX_ROWS} rows in one period: bill a shorter one")
    return rows


def _place(row: Mapping[str, Any]) -> Place:
    values = {name: row[name] for name in Place._fields if name in row}
    return Place(**{**values, "tenant": values["tenant"] or TENANT_UNKNOWN})


def _gpu_time(
    reader: LedgerReader, fragments: Mapping[str, str], references: References, params: Mapping[str, Any]
) -> Iterator[MeteredQuantity]:
    """Yield the time of GPUs: whole to the owner, and divided over tenants as the energy of each class of time is."""
    held = _rows(reader, "billing/gpu_time", {}, **params)
    for row in held:
        place = _held_by(row["owner"], row["cluster"], row["workload"], row["hardware"])
        yield MeteredQuantity(ALLOCATED, LEDGER_METERS[ALLOCATED], _seconds(row["covered_ms"]), place, row["number"])
    totals: dict[tuple[str, str, str, int], int] = {}
    for row in held:
        key = (row["cluster"], row["workload"], row["hardware"], row["number"])
        totals[key] = totals.get(key, 0) + row["covered_ms"]
    shares: dict[tuple[str, str, str, int], list[tuple[Place, int]]] = {}
    for row in _rows(reader, "billing/energy_shares", fragments, **params, **references.parameters):
        key = (row["cluster"], row["workload"], row["hardware"], row["number"])
        shares.setdefault(key, []).append((_place(row), row["energy_uj"]))
    for key, covered_ms in totals.items():
        of_key = shares.get(key, [])
        if not sum(energy_uj for _, energy_uj in of_key):
            of_key = [(_held_by("", *key[:3]), 1)]
        parts = apportion(covered_ms, [energy_uj for _, energy_uj in of_key])
        for (place, _), part_ms in zip(of_key, parts, strict=True):
            if part_ms:
                yield MeteredQuantity(USED, LEDGER_METERS[USED], _seconds(part_ms), place, key[3])


def _held_by(owner: str, cluster: str, workload: str, hardware: str) -> Place:
    nobody = TENANT_UNALLOCATED if is_unallocated(workload) else TENANT_IDLE
    return Place(tenant=owner or nobody, cluster=cluster, workload=workload, hardware=hardware)


def _seconds(time_ms: int) -> Decimal:
    return Decimal(time_ms).scaleb(-3)
