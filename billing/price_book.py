"""The price book: what quantities cost, beside the tariff of electricity, which is a price of the cluster.

A book is one document. Its rows are valid in half-open `[from, to)`. A change is a new row: the past keeps its price.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Literal

from billing.places import EVERYWHERE, Place, PriceScope, overlap
from billing.schedules import ALWAYS, Schedule, both
from billing.tiers import Mode, Tier
from contracts.errors import BadInput
from contracts.units import rfc3339

ENERGY_COST = "energy_cost"
"""Meter: money of the electricity that was used, by the clusters' tariffs; its unit is the currency."""
MONTHS = "months"
"""Meter: the part of the period in which a fee is valid, 1 for all of it."""
END_MS = 7_258_118_400_000
"""2200-01-01T00:00:00Z: until further notice."""

Side = Literal["cost", "revenue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a book: a name, a scope, and a validity."""

    name: str
    scope: PriceScope = EVERYWHERE
    from_ms: int = 0
    to_ms: int = END_MS

    def valid(self, start_ms: int, end_ms: int) -> bool:
        """Return whether the row is valid at some time of `[start_ms, end_ms)`."""
        return self.from_ms < end_ms and self.to_ms > start_ms

    def __str__(self) -> str:
        end = "" if self.to_ms == END_MS else f" to {rfc3339(self.to_ms)}"
        return f"{self.name!r} ({self.scope}; from {rfc3339(self.from_ms)}{end})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Row):
    """Money for `per` units of a meter: a `cost` of the tenant, or `revenue`, which its customers pay."""

    meter: str
    tiers: tuple[Tier, ...]
    mode: Mode = Mode.FLAT
    per: Decimal = Decimal(1)
    unit: str = ""
    currency: str = ""
    side: Side = "cost"
    when: Schedule = ALWAYS

    @property
    def specificity(self) -> tuple[bool, ...]:
        """PriceScope first; then a rate for some hours counts before one for all of them."""
        return (*self.scope.specificity, self.when != ALWAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentage(Row):
    """A discount or a tax: percent of the lines in its scope, of these meters (none: of all)."""

    percent: Decimal
    meters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Row):
    """An amount of money of a tenant: a credit, a minimum for each period, or a commitment that usage burns down."""

    amount: Decimal
    currency: str = ""
    meters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeUnit:
    """A meter that is a sum of others, each by a weight: credits of a platform."""

    name: str
    weights: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A note on what the ledger does not know of a cluster's workloads: their type, SLA, region and provider.

    `cluster` and `workload` may end in `*`, for every name that begins so. Each value is the first fitting label's.
    """

    cluster: str = "*"
    workload: str = "*"
    workload_type: str = ""
    sla: str = ""
    region: str = ""
    provider: str = ""

    def fits(self, place: Place) -> bool:
        """Return whether the label is for a place."""
        return _matches(self.cluster, place.cluster) and _matches(self.workload, place.workload)


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """All rows of a book. `check` says whether they tell one price for everything."""

    currency: str
    time_zone: str = "UTC"
    holidays: frozenset[date] = frozenset()
    rates: tuple[Rate, ...] = ()
    discounts: tuple[Percentage, ...] = ()
    minimums: tuple[Grant, ...] = ()
    commitments: tuple[Grant, ...] = ()
    credits: tuple[Grant, ...] = ()
    taxes: tuple[Percentage, ...] = ()
    compute_units: tuple[ComputeUnit, ...] = ()
    labels: tuple[Label, ...] = ()
    _by_meter: dict[str, list[Rate]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for rate in sorted(self.rates, key=lambda rate: rate.specificity, reverse=True):
            self._by_meter.setdefault(rate.meter, []).append(rate)

    @property
    def meters(self) -> frozenset[str]:
        """Meters that have a rate."""
        return frozenset(self._by_meter)

    def rates_of(self, meter: str) -> list[Rate]:
        """Return the rates of a meter, the most specific first."""
        return self._by_meter.get(meter, [])

    def place(self, place: Place) -> Place:
        """Return a place with what the labels know of it."""
        for label in self.labels:
            if label.fits(place):
                place = place._replace(
                    workload_type=place.workload_type or label.workload_type,
                    sla=place.sla or label.sla,
                    region=place.region or label.region,
                    provider=place.provider or label.provider,
                )
        return place

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield every row that has a validity, with the name of its table."""
        for table in ("rates", "discounts", "minimums", "commitments", "credits", "taxes"):
            for row in getattr(self, table):
                is_fee = isinstance(row, Rate) and row.meter == MONTHS
                yield "fees" if is_fee else table, row

    def check(self) -> None:
        """Raise BadInput for rows that share a name, tell two prices for one thing, or leave a gap between them."""
        self._check_names()
        for meter, rates in self._by_meter.items():
            if meter == MONTHS:
                continue  # Fees add up; versions of one are checked by their name.
            _check_one_price(rates)
            _check_gaps(rates)

    def check_period(self, start_ms: int, end_ms: int) -> None:
        """Raise BadInput for a discount, minimum or tax that begins or ends inside a period.

        They are of a whole period's charges, which cannot be divided afterwards.
        """
        for table in ("discounts", "minimums", "taxes"):
            for row in getattr(self, table):
                for label, at_ms in (("from", row.from_ms), ("to", row.to_ms)):
                    if start_ms < at_ms < end_ms:
                        fix = f"inside the period: let {row.name!r} begin and end with one"
                        raise BadInput(f"{table}.{label}", rfc3339(at_ms), fix)

    def _check_names(self) -> None:
        """A name with one start is one row: lines and later versions point to it."""
        first: dict[tuple[str, str], Row] = {}
        starts: set[tuple[str, str, int]] = set()
        for table, row in self.rows():
            one = first.setdefault((table, row.name), row)
            if one.scope != row.scope or getattr(one, "when", None) != getattr(row, "when", None):
                raise BadInput(
                    f"{table}.name", row.name, "rows of one name are versions: give another scope or schedule its own"
                )
            if (table, row.name, row.from_ms) in starts:
                raise BadInput(
                    f"{table}.name", row.name, f"two rows have this name and start at {rfc3339(row.from_ms)}"
                )
            starts.add((table, row.name, row.from_ms))
        self._check_versions()
        grants = [row.name for row in (*self.commitments, *self.credits)]
        for name in grants:
            if grants.count(name) > 1:
                raise BadInput("credits.name", name, "what is left of a grant is known by its name: give each its own")

    def _check_versions(self) -> None:
        """Versions of one row that hold at once would both be charged."""
        versions: dict[tuple[str, str], list[Row]] = {}
        for table, row in self.rows():
            if table != "rates":
                versions.setdefault((table, row.name), []).append(row)
        for (table, name), rows in versions.items():
            for one, other in pairwise(sorted(rows, key=lambda row: row.from_ms)):
                if one.to_ms > other.from_ms:
                    at = rfc3339(other.from_ms)
                    raise BadInput(f"{table}.to", name, f"two versions of it hold from {at} on: end the first there")


def _check_one_price(rates: list[Rate]) -> None:
    for one, other in combinations(rates, 2):
        start, end = max(one.from_ms, other.from_ms), min(one.to_ms, other.to_ms)
        if start >= end or one.side != other.side or not overlap(one.scope, other.scope):
            continue
        if (one.when == ALWAYS) != (other.when == ALWAYS):
            continue  # The one for some hours counts first.
        cell = both(one.when, other.when)
        if cell is not None:
            when = "" if one.when == ALWAYS else f", such as {cell.hour:02d}:00 on {cell.day}"
            until = "" if end == END_MS else f" to {rfc3339(end)}"
            raise BadInput(
                "rates", f"{one.name}, {other.name}",
                f"both price {one.meter} for {one.scope} from {rfc3339(start)}{until}{when}: end one, or give it a "
                "narrower scope",
            )  # fmt: skip


def _check_gaps(rates: list[Rate]) -> None:
    """A later version that does not begin where the former ends leaves time without a price, mostly by mistake."""
    groups: dict[tuple[str, PriceScope], list[Rate]] = {}
    for rate in rates:
        groups.setdefault((rate.side, rate.scope), []).append(rate)
    for (_, scope), group in groups.items():
        wider = [r for r in rates if r not in group and r.when == ALWAYS and not any(_narrower(r.scope, scope))]
        group.sort(key=lambda rate: rate.from_ms)
        until = group[0].to_ms
        for rate in group[1:]:
            if rate.from_ms > until and not any(r.from_ms <= until and r.to_ms >= rate.from_ms for r in wider):
                raise BadInput(
                    "rates", rate.name,
                    f"{rate.meter} for {scope} has no price from {rfc3339(until)} to {rfc3339(rate.from_ms)}: move "
                    "`from` or `to`, or add a rate for that time",
                )  # fmt: skip
            until = max(until, rate.to_ms)


def _narrower(one: PriceScope, other: PriceScope) -> Iterator[bool]:
    """Yield, for each value that `one` asks for, whether `other` leaves it open or has another."""
    values: Mapping[str, str] = dict(other.values)
    for name, value in one.values:
        yield values.get(name) != value
