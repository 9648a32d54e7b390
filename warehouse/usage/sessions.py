"""Agents' sessions: energy, tokens and cost of requests, tool calls, external spend and other meters, by step.

A session belongs to a tenant: the same name under another tenant is another session. It consists of the requests and
usage rows with its name, and of those without a session name but with the id of one of its traces. Single requests are
kept for 30 days (with `WATTLOG_REQUESTS=none` not at all), usage for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

from contracts.errors import BadQuery
from contracts.events import TOKENS
from contracts.meter_names import TOOL_CALLS, is_currency
from warehouse.chargeback.chargeback_queries import kwh_nano
from warehouse.chargeback.pricing import ClusterPrices, PricedGroups, PricedPart
from warehouse.chargeback.references import prices_between
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import Amount, MissingPrice, SessionRow, Time
from warehouse.usage.usage_queries import shortest

_ALL = Filter()
_FIRST_PAGE = PageRequest()

MAX_PARTS = 5_000
"""Traces and steps of one session that are summed, each once per price; more is an error."""

StepKey = tuple[str, str]
"""(trace_id, step)."""


@dataclass(frozen=True, slots=True)
class CurrencyAmount:
    """An amount in one currency."""

    currency: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class MeterTotal:
    """A meter's quantity, summed exactly over so many rows."""

    meter: str
    unit: str
    quantity: Amount
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSums:
    """Sums of a session or of one of its steps.

    `energy_uj` is its requests' share of measured energy. `cost` is the cost of that energy with PUE, null where a
    price is missing, and where requests ran and nothing was measured. `unmetered_tokens` have no energy: it and its
    cost are those of the others. `meters` has all usage; `tool_calls` and `spend` (money by currency) are parts of it.
    """

    first: Time
    last: Time
    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cache_write_tokens: int
    audio_prompt_tokens: int
    image_prompt_tokens: int
    estimated_prompt_tokens: int
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    audio_completion_tokens: int
    image_completion_tokens: int
    estimated_completion_tokens: int
    energy_uj: int
    active_uj: int
    idle_uj: int
    unmetered_tokens: int
    cost: Amount | None
    gco2: Amount | None
    tool_calls: Amount
    spend: list[CurrencyAmount]
    meters: list[MeterTotal]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStep(SessionSums):
    """Sums of one step of one trace. A request names no step: it counts under its trace, with `step` empty."""

    trace_id: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(SessionSums):
    """A complete session and its steps, oldest first, which sum to it.

    `total` adds the cost of energy to the spend, by currency; null where that cost is unknown, as `kwh` is where
    nothing was measured.
    """

    tenant: str
    session_id: str
    kwh: Amount | None
    currency: str
    total: list[CurrencyAmount] | None
    missing_prices: list[MissingPrice]
    mixed_currencies: bool
    simulated: bool
    steps: list[SessionStep]


def sessions(
    reader: LedgerReader, period: Period, filter: Filter = _ALL, page: PageRequest = _FIRST_PAGE
) -> Page[SessionRow]:
    """Return sessions by tenant and name, with their sums over a period.

    A request counts in the period that it ended in, a row of usage in the period of its last millisecond. Readers,
    periods and errors are as in `chargeback_queries`.
    """
    question = ("sessions", period, reader.narrow(filter))
    after = page.after(question, [str, str])
    cut = after or ["", ""]
    rows = reader.ask(
        "usage/sessions",
        filter,
        start_ms=period.start,
        end_ms=period.end,
        first=int(after is None),
        after_tenant=cut[0],
        after_session=cut[1],
        limit=page.limit + 1,
    )
    typed = [SessionRow(**{**row, "simulated": bool(row["simulated"])}) for row in rows]
    return page.cut(question, typed, lambda r: [r.tenant, r.session_id])


def session(reader: LedgerReader, session_id: str, tenant: str | None = None) -> Session:
    """Return a tenant's session; without a tenant, that of the only one that has a session of this name.

    Raises BadQuery where there is none, where several tenants have one, and past MAX_PARTS.
    """
    owner, traces = _owner_and_traces(reader, session_id, tenant)
    filter = Filter(tenant=owner, session_id=session_id)
    with localcontext(prec=80):  # Sums of Decimals are exact.
        steps = _Steps()
        energy = _rows(reader, "usage/session_energy", filter, traces)
        for row in energy:
            steps.of(row["trace_id"], "").add_energy(row)
        for row in _rows(reader, "usage/session_requests", filter, traces):
            steps.of(row["trace_id"], "").add_requests(row)
        for row in _rows(reader, "usage/session_usage", filter, traces):
            steps.of(row["trace_id"], row["step"]).add_usage(row)
        ordered = steps.ordered()
        index = {(s.trace_id, s.step): n for n, s in enumerate(ordered)}
        parts = [
            PricedPart(
                group=index[row["trace_id"], ""],
                cluster=row["of_cluster"],
                from_ms=row["from_ms"],
                until_ms=row["until_ms"],
                energy_uj=row["active_uj"] + row["idle_uj"],
                metered=bool(row["metered"]),
            )
            for row in energy
        ]
        priced = _book_of(reader, parts).price(parts, len(ordered))
        return _session(owner, session_id, ordered, priced)


def _book_of(reader: LedgerReader, parts: Sequence[PricedPart]) -> ClusterPrices:
    """Return the prices that apply to some of these parts."""
    return prices_between(
        reader,
        [part.cluster for part in parts],
        min((part.from_ms for part in parts), default=0),
        max((part.until_ms for part in parts), default=0),
    )


def _owner_and_traces(reader: LedgerReader, session_id: str, tenant: str | None) -> tuple[str, list[str]]:
    """Return the session's tenant and its traces. A known tenant is preferred to rows without one."""
    filter = Filter(tenant=tenant, session_id=session_id)
    rows = reader.ask("usage/session_owners", filter, max_traces=MAX_PARTS + 1)
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


def _rows(reader: LedgerReader, name: str, filter: Filter, traces: list[str]) -> list[dict[str, Any]]:
    # As Arrow, because its way to the server takes long parameters.
    rows: list[dict[str, Any]] = reader.ask_arrow(name, filter, traces=traces, limit=MAX_PARTS + 1).to_pylist()
    if len(rows) > MAX_PARTS:
        raise BadQuery(
            "session_id", filter.session_id, f"more than {MAX_PARTS} steps and prices in one session; ask with SQL"
        )
    return rows


_COUNTS = ("requests", "failures", *TOKENS)
_ENERGY = ("active_uj", "idle_uj", "unmetered_tokens")


@dataclass(slots=True)
class _Step:
    """SessionSums that are being made."""

    trace_id: str
    step: str
    first: int = 2**62
    last: int = 0
    simulated: bool = False
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*_COUNTS, *_ENERGY), 0))
    meters: dict[tuple[str, str], tuple[Decimal, int]] = field(default_factory=dict)

    def add_requests(self, row: Mapping[str, Any]) -> None:
        self._add_time(row)
        for name in _COUNTS:
            self.sums[name] += row[name]

    def add_energy(self, row: Mapping[str, Any]) -> None:
        self._add_time(row)
        for name in _ENERGY:
            self.sums[name] += row[name]

    def add_usage(self, row: Mapping[str, Any]) -> None:
        self._add_time(row)
        self._meter(row["of_meter"], row["of_unit"], row["total"], row["rows"])

    def add(self, other: _Step) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.simulated |= other.simulated
        for name, value in other.sums.items():
            self.sums[name] += value
        for (meter, unit), (quantity, rows) in other.meters.items():
            self._meter(meter, unit, quantity, rows)

    def _add_time(self, row: Mapping[str, Any]) -> None:
        self.first, self.last = min(self.first, row["first"]), max(self.last, row["last"])
        self.simulated |= bool(row["simulated"])

    def _meter(self, meter: str, unit: str, quantity: Decimal, rows: int) -> None:
        before = self.meters.get((meter, unit), (Decimal(0), 0))
        self.meters[meter, unit] = before[0] + quantity, before[1] + rows

    def fields(self, cost: Decimal | None, gco2: Decimal | None) -> dict[str, Any]:
        """Return the fields of `SessionSums`, with these amounts of money and carbon."""
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
                MeterTotal(meter=meter, unit=unit, quantity=shortest(quantity), rows=rows)
                for (meter, unit), (quantity, rows) in sorted(self.meters.items())
            ],
        }


class _Steps:
    """Steps by trace and name."""

    def __init__(self) -> None:
        self._by_name: dict[StepKey, _Step] = {}

    def of(self, trace_id: str, step: str) -> _Step:
        return self._by_name.setdefault((trace_id, step), _Step(trace_id, step))

    def ordered(self) -> list[_Step]:
        return sorted(self._by_name.values(), key=lambda s: (s.first, s.trace_id, s.step))


def _session(tenant: str, session_id: str, steps: Sequence[_Step], priced: PricedGroups) -> Session:
    total = _Step("", "")
    for step in steps:
        total.add(step)
    sums = total.fields(priced.cost, priced.gco2)
    amounts = {money.currency: money.amount for money in sums["spend"]}
    if priced.cost is not None and priced.currency:
        amounts[priced.currency] = amounts.get(priced.currency, Decimal(0)) + priced.cost
    return Session(
        tenant=tenant,
        session_id=session_id,
        **sums,
        kwh=kwh_nano(sums["energy_uj"]) if priced.energy_known else None,
        currency=priced.currency,
        total=None if priced.cost is None else _money(amounts),
        missing_prices=priced.missing,
        mixed_currencies=priced.mixed_currencies,
        simulated=total.simulated,
        steps=[
            SessionStep(trace_id=step.trace_id, step=step.step, **step.fields(cost, gco2))
            for step, cost, gco2 in zip(steps, priced.costs, priced.grams, strict=True)
        ],
    )


def _money(amounts: Mapping[str, Decimal]) -> list[CurrencyAmount]:
    return [CurrencyAmount(currency=currency, amount=shortest(amount)) for currency, amount in sorted(amounts.items())]
