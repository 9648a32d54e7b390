"""The price book as a TOML document: parsed and checked, and a fault is named with its place and the fix."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from billing.places import SCOPES, PriceScope, scope_of
from billing.price_book import (
    END_MS,
    ENERGY_COST,
    MONTHS,
    ComputeUnit,
    Grant,
    Label,
    Percentage,
    PriceBook,
    Rate,
)
from billing.quantities import LEDGER_METERS
from billing.schedules import ALWAYS, DAYS, Schedule
from billing.segments import QUARTER_MS
from billing.tiers import Mode, Tier
from contracts.errors import BadInput
from contracts.time_zones import local_epoch_ms, zone_of

MAX_BYTES = 4 * 1024 * 1024
MAX_ROWS = 10_000
"""Rows of all tables of a book together."""
MAX_TIERS = 100
_MAX_WHOLE = Decimal(10) ** 15
_DAY_NAMES = {"weekdays": DAYS[:5], "weekend": DAYS[5:7], "all": DAYS}


def _decimal(value: object) -> Decimal:
    """Return a number that was written as text or as an integer. A float is refused: 0.1 is not a tenth in binary."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError('write numbers in quotes, such as "0.40"')
    number = Decimal(value) if isinstance(value, int) else _plain(value)
    if abs(number) >= _MAX_WHOLE or number != round(number, 12):
        raise ValueError("give less than 1e15, with at most 12 decimals")
    return number


def _plain(text: str) -> Decimal:
    cleaned = text.strip().replace("_", "")
    if not cleaned or not cleaned.lstrip("+-").replace(".", "", 1).isdecimal() or not cleaned.isascii():
        raise ValueError(f"{text!r} is no plain decimal number, such as 0.40")
    return Decimal(cleaned)


Number = Annotated[Decimal, BeforeValidator(_decimal)]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^\x00-\x1f\x7f]+$")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Day = Annotated[str, Field(pattern="^(mon|tue|wed|thu|fri|sat|sun|holiday|weekdays|weekend|all)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Row(_Strict):
    name: Name
    scope: dict[str, Name] = {}
    from_: Annotated[str | date | datetime, Field(alias="from")] = "1970-01-01"
    to: str | date | datetime | None = None


class _Tier(_Strict):
    price: Number
    up_to: Number | None = None
    fee: Number = Decimal(0)


class _When(_Strict):
    days: Annotated[list[Day], Field(min_length=1)] = ["all"]
    hours: Annotated[list[str], Field(min_length=1)] = ["00-24"]
    months: Annotated[list[Annotated[int, Field(ge=1, le=12)]], Field(min_length=1)] = list(range(1, 13))


class _Rate(_Row):
    meter: Name
    price: Number | None = None
    tiers: Annotated[list[_Tier], Field(max_length=MAX_TIERS)] = []
    mode: Mode = Mode.FLAT
    per: Number = Decimal(1)
    unit: str = ""
    currency: Currency | None = None
    side: Literal["cost", "revenue"] = "cost"
    when: _When | None = None


class _Fee(_Row):
    price: Number
    currency: Currency | None = None
    side: Literal["cost", "revenue"] = "cost"


class _Percentage(_Row):
    percent: Number
    meters: list[Name] = []


class _Grant(_Row):
    amount: Number
    currency: Currency | None = None
    meters: list[Name] = []


class _ComputeUnit(_Strict):
    name: Name
    sum: dict[str, Number]


class _Label(_Strict):
    cluster: Name = "*"
    workload: Name = "*"
    workload_type: str = ""
    sla: str = ""
    region: str = ""
    provider: str = ""


class _Book(_Strict):
    currency: Currency
    time_zone: str = "UTC"
    holidays: list[date] = []
    rates: list[_Rate] = []
    fees: list[_Fee] = []
    discounts: list[_Percentage] = []
    minimums: list[_Grant] = []
    commitments: list[_Grant] = []
    credits: list[_Grant] = []
    taxes: list[_Percentage] = []
    compute_units: list[_ComputeUnit] = []
    labels: list[_Label] = []


def parse_book(text: str) -> PriceBook:
    """Return the price book of a TOML document. Raises BadInput that names the row, the field and the fix."""
    if len(text.encode()) > MAX_BYTES:
        raise BadInput("price book", f"{len(text)} characters", f"give at most {MAX_BYTES} bytes")
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise BadInput("price book", "TOML", str(error)) from None
    try:
        parsed = _Book.model_validate(document)
    except ValidationError as error:
        raise _named(error) from None
    book = _Reader(parsed).book()
    book.check()
    return book


def _named(error: ValidationError) -> BadInput:
    """Return pydantic's first fault as ours: `rates[3].price`, the value, the fix."""
    fault = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
    value = "" if fault["type"] == "missing" else fault["input"]
    fix = "this field is missing" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        fix = "no such field here; see docs/finance.md for those there are"
    others = len(error.errors()) - 1
    return BadInput(place, str(value)[:100], fix + (f" (and {others} more)" if others else ""))


class _Reader:
    """Turns checked rows into those of a PriceBook, whose times are local in its time zone."""

    def __init__(self, parsed: _Book) -> None:
        self._parsed = parsed
        self._zone = zone_of(parsed.time_zone)
        tables = (
            "rates",
            "fees",
            "discounts",
            "minimums",
            "commitments",
            "credits",
            "taxes",
            "compute_units",
            "labels",
        )
        if (rows := sum(len(getattr(parsed, table)) for table in tables)) > MAX_ROWS:
            raise BadInput("price book", rows, f"give at most {MAX_ROWS} rows")

    def book(self) -> PriceBook:
        parsed = self._parsed
        units = tuple(ComputeUnit(name=unit.name, weights=tuple(unit.sum.items())) for unit in parsed.compute_units)
        _check_units(units)
        rates = [self._rate(n, rate) for n, rate in enumerate(parsed.rates)]
        fees = [self._fee(n, fee) for n, fee in enumerate(parsed.fees)]
        return PriceBook(
            currency=parsed.currency,
            time_zone=parsed.time_zone,
            holidays=frozenset(parsed.holidays),
            rates=(*rates, *fees),
            discounts=tuple(self._percentage("discounts", n, row) for n, row in enumerate(parsed.discounts)),
            minimums=tuple(self._grant("minimums", n, row) for n, row in enumerate(parsed.minimums)),
            commitments=tuple(self._grant("commitments", n, row) for n, row in enumerate(parsed.commitments)),
            credits=tuple(self._grant("credits", n, row) for n, row in enumerate(parsed.credits)),
            taxes=tuple(self._percentage("taxes", n, row) for n, row in enumerate(parsed.taxes)),
            compute_units=units,
            labels=tuple(Label(**label.model_dump()) for label in parsed.labels),
        )

    def _row(self, place: str, row: _Row, only: tuple[str, ...] = SCOPES) -> dict[str, Any]:
        for name in row.scope:
            if name not in only:
                raise BadInput(f"{place}.scope", name, f"give any of {', '.join(only)}")
        start, end = self._instant(f"{place}.from", row.from_), END_MS
        if row.to is not None:
            end = self._instant(f"{place}.to", row.to)
        if start >= end:
            raise BadInput(f"{place}.to", str(row.to), "give a time after `from`: validity is half-open, [from, to)")
        return {"name": row.name, "scope": _scope(row.scope), "from_ms": start, "to_ms": end}

    def _instant(self, place: str, value: str | date | datetime) -> int:
        try:
            at_ms = local_epoch_ms(value if isinstance(value, str) else value.isoformat(), self._zone)
        except (ValueError, OverflowError) as error:
            raise BadInput(place, str(value), f"give a day or RFC 3339 ({error})") from None
        if value in ("1970-01-01", date(1970, 1, 1)):
            return 0
        if not 0 <= at_ms <= END_MS:
            raise BadInput(place, str(value), "give a time from 1970 to 2200")
        if at_ms % QUARTER_MS:
            raise BadInput(place, str(value), "give a full quarter of an hour: rows begin and end with one")
        return at_ms

    def _rate(self, n: int, rate: _Rate) -> Rate:
        place = f"rates[{n}]"
        if rate.meter in (MONTHS, "energy"):
            instead = "[[fees]]" if rate.meter == MONTHS else f"the cluster's tariff, or a margin on {ENERGY_COST}"
            raise BadInput(f"{place}.meter", rate.meter, f"use {instead}")
        if rate.unit and LEDGER_METERS.get(rate.meter, rate.unit) != rate.unit:
            raise BadInput(f"{place}.unit", rate.unit, f"{rate.meter} is in {LEDGER_METERS[rate.meter]}")
        if rate.per <= 0:
            raise BadInput(f"{place}.per", str(rate.per), "give more than 0 units")
        return Rate(
            **self._row(place, rate),
            meter=rate.meter,
            tiers=_tiers(place, rate),
            mode=rate.mode,
            per=rate.per,
            unit=rate.unit,
            currency=rate.currency or "",
            side=rate.side,
            when=_schedule(place, rate.when),
        )

    def _fee(self, n: int, fee: _Fee) -> Rate:
        place = f"fees[{n}]"
        row = self._row(place, fee, ("tenant",))
        return Rate(**row, meter=MONTHS, tiers=(Tier(fee.price),), currency=fee.currency or "", side=fee.side)

    def _percentage(self, table: str, n: int, row: _Percentage) -> Percentage:
        place = f"{table}[{n}]"
        if not 0 <= row.percent <= (100 if table == "discounts" else 1000):
            raise BadInput(f"{place}.percent", str(row.percent), "give 0 to 100 percent")
        only = SCOPES if table == "discounts" else ("tenant",)
        return Percentage(**self._row(place, row, only), percent=row.percent, meters=frozenset(row.meters))

    def _grant(self, table: str, n: int, row: _Grant) -> Grant:
        place = f"{table}[{n}]"
        if row.amount <= 0:
            raise BadInput(f"{place}.amount", str(row.amount), "give more than 0")
        if table != "minimums" and "tenant" not in row.scope:
            raise BadInput(f"{place}.scope", "", 'name the tenant that it belongs to: scope = { tenant = "acme" }')
        return Grant(
            **self._row(place, row, ("tenant",)),
            amount=row.amount,
            currency=row.currency or "",
            meters=frozenset(row.meters),
        )


def _scope(values: Mapping[str, str]) -> PriceScope:
    return scope_of(values)


def _tiers(place: str, rate: _Rate) -> tuple[Tier, ...]:
    if (rate.price is None) == (not rate.tiers):
        raise BadInput(f"{place}.price", str(rate.price or ""), "give either a price or tiers")
    tiered = rate.mode in (Mode.GRADUATED, Mode.VOLUME)
    if tiered != bool(rate.tiers):
        raise BadInput(f"{place}.mode", rate.mode, "tiers are for graduated and volume, a price for flat and package")
    tiers = tuple(Tier(tier.price, tier.up_to, tier.fee) for tier in rate.tiers)
    if rate.price is not None:
        return (Tier(rate.price),)
    ends = [tier.up_to for tier in tiers]
    if ends[-1] is not None:
        raise BadInput(f"{place}.tiers", str(ends[-1]), "leave `up_to` out of the last tier: it has no end")
    bounds = [Decimal(0), *(end for end in ends[:-1] if end is not None)]
    if len(bounds) != len(ends) or any(one >= other for one, other in pairwise(bounds)):
        raise BadInput(
            f"{place}.tiers", str(ends), "give every tier but the last an `up_to` above that of the one before"
        )
    return tiers


def _schedule(place: str, when: _When | None) -> Schedule:
    if when is None:
        return ALWAYS
    hours: set[int] = set()
    for text in when.hours:
        start, _, end = text.partition("-")
        if not (start.isdecimal() and end.isdecimal() and 0 <= int(start) < 24 and 0 < int(end) <= 24) or start == end:
            raise BadInput(f"{place}.when.hours", text, 'give hours such as "08-20", or "22-06" over midnight')
        first, last = int(start), int(end)
        hours |= set(range(first, last)) if first < last else {*range(first, 24), *range(last)}
    days = frozenset(day for name in when.days for day in _DAY_NAMES.get(name, (name,)))
    return Schedule(days=days, hours=frozenset(hours), months=frozenset(when.months))


def _check_units(units: tuple[ComputeUnit, ...]) -> None:
    names = {unit.name for unit in units}
    for n, unit in enumerate(units):
        place = f"compute_units[{n}]"
        if unit.name in LEDGER_METERS or unit.name in (MONTHS, ENERGY_COST, "energy"):
            raise BadInput(f"{place}.name", unit.name, "a meter has this name: choose another")
        if not unit.weights or any(meter in names for meter, _ in unit.weights):
            raise BadInput(f"{place}.sum", unit.name, "give meters with their weights, and no other compute unit")
    if len(names) != len(units):
        raise BadInput("compute_units.name", ", ".join(unit.name for unit in units), "give each a name of its own")
