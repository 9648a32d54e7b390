"""An agent's session as one sum: its requests' joules, tokens and money, its tool calls, what it spent elsewhere, and
everything else that was metered for it; whole, and step by step.

A session is a tenant's: the same name under another tenant is another session. It is made of the requests and the rows
of usage that bear its name, and of those that bear none but the id of one of its traces. Single requests live for 30
days (`WATTLOG_REQUESTS=none`: not at all), usage for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from contracts.errors import BadQuery
from contracts.meter_names import TOOL_CALLS, is_currency
from warehouse.chargeback.chargeback_queries import kwh_nano
from warehouse.chargeback.pricing import PriceBook, Priced, Used
from warehouse.cursors import check_limit, page, read_cursor
from warehouse.reference_data.tables import list_prices
from warehouse.results import Amount, MissingPrice, Page, SessionRow, Time
from warehouse.sql_files import question
from warehouse.usage.usage_queries import shortest

if TYPE_CHECKING:
    from warehouse.client import Warehouse

MAX_PARTS = 5_000
"""Traces, steps and hours of one session that are summed; more is an error."""

Step = tuple[str, str]
"""(trace_id, step)."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in one currency."""

    currency: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Metered:
    """A meter's quantity, summed exactly over so many rows."""

    meter: str
    unit: str
    quantity: Amount
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What a session, or a step of it, did. `energy_uj` is what was measured and is its requests' share; `cost` is that
    energy's, with PUE, null where it has no price. `meters` is all that was metered otherwise; of that, `tool_calls`,
    and `spend`, which is money by currency."""

    first: Time
    last: Time
    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    energy_uj: int
    active_uj: int
    idle_uj: int
    cost: Amount | None
    gco2: Amount | None
    tool_calls: Amount
    spend: list[Money]
    meters: list[Metered]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStep(Sums):
    """What bears a trace and a step. A request has no step: it stands under its trace, with `step` empty."""

    trace_id: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Sums):
    """A session whole. `total` adds its energy's cost to what it spent, by currency; null where the energy has no
    price. The steps sum to it, oldest first."""

    tenant: str
    session_id: str
    kwh: Amount
    currency: str
    total: list[Money] | None
    missing_prices: list[MissingPrice]
    mixed_currencies: bool
    simulated: bool
    steps: list[SessionStep]


def sessions(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    tenant: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[SessionRow]:
    """Sessions with requests that ended in a period or usage that counts in it, by tenant and name, and what that was.
    Periods and errors are as in `reads`."""
    question = ("sessions", start_ms, end_ms, tenant)
    after = read_cursor(question, cursor, [str, str])
    cut = after or ["", ""]
    rows = warehouse.ask(
        "sessions",
        start_ms=start_ms,
        end_ms=end_ms,
        tenant=tenant or "",
        first=int(after is None),
        after_tenant=cut[0],
        after_session=cut[1],
        limit=check_limit(limit) + 1,
    )
    found = [SessionRow(**{**row, "simulated": bool(row["simulated"])}) for row in rows]
    return page(question, found, limit, lambda r: [r.tenant, r.session_id])


def session(warehouse: Warehouse, session_id: str, *, tenant: str | None = None) -> Session:
    """A tenant's session; without a tenant, of the only one that has a session of that name.

    Raises BadQuery where there is none, where several tenants have one, and past MAX_PARTS.
    """
    owner, traces = _found(warehouse, session_id, tenant)
    asked = {"tenant": owner, "session_id": session_id, "traces": traces}
    with localcontext(prec=80):  # Sums of Decimals are exact.
        steps = _Steps()
        energy = _ask(warehouse, "session_energy", asked)
        for row in energy:
            steps.of(row["trace_id"], "").add_energy(row)
        for row in _ask(warehouse, "session_requests", asked):
            steps.of(row["trace_id"], "").add_requests(row)
        for row in _ask(warehouse, "session_usage", asked):
            steps.of(row["trace_id"], row["step"]).add_usage(row)
        ordered = steps.ordered()
        index = {(s.trace_id, s.step): n for n, s in enumerate(ordered)}
        used = [
            Used(index[row["trace_id"], ""], row["of_cluster"], row["hour_no"], row["active_uj"] + row["idle_uj"])
            for row in energy
        ]
        priced = PriceBook(list_prices(warehouse)).price(used, len(ordered))
        return _whole(owner, session_id, ordered, priced)


def _found(warehouse: Warehouse, session_id: str, tenant: str | None) -> tuple[str, list[str]]:
    """Whose session it is, and the traces in it. What nobody's tenant is known of is left out where one is."""
    rows = warehouse.ask("session_found", session_id=session_id, tenant=tenant or "", most=MAX_PARTS + 1)
    if len(rows) > 1:
        rows = [row for row in rows if row["tenant"]]
    if not rows:
        raise BadQuery(
            "session_id",
            session_id,
            "nothing of this session is stored; `sessions` lists them, and single requests expire after 30 days",
        )
    if len(rows) > 1:
        raise BadQuery("tenant", tenant, "several tenants have a session of this name: say whose")
    traces = rows[0]["traces"]
    if len(traces) > MAX_PARTS:
        raise BadQuery("session_id", session_id, f"more than {MAX_PARTS} traces in one session; ask with SQL instead")
    return rows[0]["tenant"], sorted(traces)


def _ask(warehouse: Warehouse, name: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    # As Arrow, because its way to the server takes long parameters.
    rows: list[dict[str, Any]] = warehouse.arrow(question(name), **asked, limit=MAX_PARTS + 1).to_pylist()
    if len(rows) > MAX_PARTS:
        raise BadQuery(
            "session_id", asked["session_id"], f"more than {MAX_PARTS} steps and hours in one session; ask with SQL"
        )
    return rows


_COUNTS = ("requests", "failures", "prompt_tokens", "cached_tokens", "completion_tokens")
_ENERGY = ("active_uj", "idle_uj")


@dataclass(slots=True)
class _Step:
    """Sums that are being made."""

    trace_id: str
    step: str
    first: int = 2**62
    last: int = 0
    simulated: bool = False
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*_COUNTS, *_ENERGY), 0))
    meters: dict[tuple[str, str], tuple[Decimal, int]] = field(default_factory=dict)

    def add_requests(self, row: Mapping[str, Any]) -> None:
        self._seen(row)
        for name in _COUNTS:
            self.sums[name] += row[name]

    def add_energy(self, row: Mapping[str, Any]) -> None:
        self._seen(row)
        for name in _ENERGY:
            self.sums[name] += row[name]

    def add_usage(self, row: Mapping[str, Any]) -> None:
        self._seen(row)
        self._meter(row["of_meter"], row["of_unit"], row["total"], row["rows"])

    def add(self, other: _Step) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.simulated |= other.simulated
        for name, value in other.sums.items():
            self.sums[name] += value
        for (meter, unit), (quantity, rows) in other.meters.items():
            self._meter(meter, unit, quantity, rows)

    def _seen(self, row: Mapping[str, Any]) -> None:
        self.first, self.last = min(self.first, row["first"]), max(self.last, row["last"])
        self.simulated |= bool(row["simulated"])

    def _meter(self, meter: str, unit: str, quantity: Decimal, rows: int) -> None:
        before = self.meters.get((meter, unit), (Decimal(0), 0))
        self.meters[meter, unit] = before[0] + quantity, before[1] + rows

    def told(self, cost: Decimal | None, gco2: Decimal | None) -> dict[str, Any]:
        """The fields of `Sums`."""
        spend: dict[str, Decimal] = {}
        tool_calls = Decimal(0)
        for (meter, unit), (quantity, _) in self.meters.items():
            if is_currency(unit):
                spend[unit] = spend.get(unit, Decimal(0)) + quantity
            elif meter == TOOL_CALLS:
                tool_calls += quantity
        return {
            "first": self.first,
            "last": self.last,
            **self.sums,
            "energy_uj": self.sums["active_uj"] + self.sums["idle_uj"],
            "cost": cost,
            "gco2": gco2,
            "tool_calls": shortest(tool_calls),
            "spend": _money(spend),
            "meters": [
                Metered(meter, unit, shortest(quantity), rows)
                for (meter, unit), (quantity, rows) in sorted(self.meters.items())
            ],
        }


class _Steps:
    """Steps by trace and name."""

    def __init__(self) -> None:
        self._found: dict[Step, _Step] = {}

    def of(self, trace_id: str, step: str) -> _Step:
        return self._found.setdefault((trace_id, step), _Step(trace_id, step))

    def ordered(self) -> list[_Step]:
        return sorted(self._found.values(), key=lambda s: (s.first, s.trace_id, s.step))


def _whole(tenant: str, session_id: str, steps: Sequence[_Step], priced: Priced) -> Session:
    whole = _Step("", "")
    for step in steps:
        whole.add(step)
    sums = whole.told(priced.cost, priced.gco2)
    total = None
    if priced.cost is not None:
        amounts = {money.currency: money.amount for money in sums["spend"]}
        if priced.currency:
            amounts[priced.currency] = amounts.get(priced.currency, Decimal(0)) + priced.cost
        total = _money(amounts)
    return Session(
        tenant=tenant,
        session_id=session_id,
        **sums,
        kwh=kwh_nano(sums["energy_uj"]),
        currency=priced.currency,
        total=total,
        missing_prices=priced.missing,
        mixed_currencies=priced.mixed_currencies,
        simulated=whole.simulated,
        steps=[
            SessionStep(trace_id=step.trace_id, step=step.step, **step.told(cost, gco2))
            for step, cost, gco2 in zip(steps, priced.costs, priced.grams, strict=True)
        ],
    )


def _money(amounts: Mapping[str, Decimal]) -> list[Money]:
    return [Money(currency, shortest(amount)) for currency, amount in sorted(amounts.items())]
