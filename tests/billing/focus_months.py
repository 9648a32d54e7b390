"""Two made-up months for tests of FOCUS: two currencies, negative prices, a moved tenant, reserved and shared GPUs, a
commitment, and corrections of the first month in the second."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from billing.bills import bill, burned, round_charges
from billing.corrections import corrections
from billing.focus_source import Closing, FocusSource
from billing.line_items import LineItem
from billing.quantities import EnergyCharge, MeteredQuantity
from contracts.topics import TENANT_IDLE
from contracts.units import epoch_ms
from tests.billing.made_up import ACME, BETA, END_MS, START_MS, book, electricity, used

OCTOBER_END_MS = epoch_ms("2026-11-01")
CLOSED_AT_MS = epoch_ms("2026-11-02T09:00:00.250Z")
US = ACME._replace(cluster="us", region="us-east-1", provider="Example Cloud")
BOOK = book("""
[[rates]]
name = "output tokens"
meter = "output_tokens"
price = "1.20"
per = 1_000_000
[[rates]]
name = "input tokens"
meter = "input_tokens"
mode = "graduated"
per = 1_000_000
tiers = [{ up_to = "1_000_000", price = "0.40" }, { price = "0.30" }]
[[rates]]
name = "H100, by allocation"
meter = "gpu_allocated_seconds"
price = "2.40"
per = 3600
[[rates]]
name = "H100, by use"
meter = "gpu_used_seconds"
price = "1.10"
per = 3600
[[fees]]
name = "platform"
price = "250"
scope = { tenant = "acme" }
[[discounts]]
name = "volume"
percent = "5"
[[commitments]]
name = "2026"
amount = "12000"
from = "2026-09-01"
to = "2027-09-01"
scope = { tenant = "acme" }
meters = ["gpu_allocated_seconds"]
[[credits]]
name = "welcome"
amount = "10"
scope = { tenant = "beta" }
[[taxes]]
name = "VAT"
percent = "19"
""")


def _quantities(output: str) -> list[MeteredQuantity]:
    moved = [ACME._replace(team="search", cost_centre=centre) for centre in ("CC-1", "CC-2")]
    return [
        *(used("output_tokens", output, place) for place in moved),
        used("input_tokens", "2500000"), used("input_tokens", "700000", BETA),
        used("gpu_allocated_seconds", "100000", unit="s"),
        used("gpu_used_seconds", "7000", unit="s"), used("gpu_used_seconds", "1001", BETA, unit="s"),
        used("gpu_used_seconds", "555", ACME._replace(tenant=TENANT_IDLE), unit="s"),
    ]  # fmt: skip


def _energy(cost: str | None, us_cost: str | None = "7.77") -> list[EnergyCharge]:
    return [
        electricity("5.123456"), electricity("-2.50", BETA, kwh="4"), electricity(cost, BETA._replace(workload="b")),
        electricity(us_cost, US, currency="USD"), electricity("1", ACME._replace(tenant=TENANT_IDLE), kwh="0.5"),
    ]  # fmt: skip


def september(output: str = "12345678", cost: str = "3", us_cost: str | None = "7.77") -> list[LineItem]:
    """The lines of September."""
    return bill(BOOK, "2026-09", START_MS, END_MS, _quantities(output), _energy(cost, us_cost), {}).lines


LATE = september("15000001", "-1.23", "9.99")
"""September as late facts make it."""


def october() -> list[LineItem]:
    """The lines of October, which mend September."""
    balances: dict[tuple[str, str], Fraction] = burned(september())
    own = bill(BOOK, "2026-10", END_MS, OCTOBER_END_MS, _quantities("999"), _energy("4"), balances).lines
    return [*own, *round_charges("2026-10", corrections(september(), [], LATE))]


def source(lines: list[LineItem], period: str = "2026-09", **more: object) -> FocusSource:
    """An export of a closed month."""
    first = FocusSource(
        period=period, start_ms=START_MS, end_ms=END_MS, step=1, at_ms=CLOSED_AT_MS, issuer="Example GPU Platform",
        lines=lines, commitments=BOOK.commitments, currency="EUR", time_zone="UTC", book_at_ms=START_MS,
    )  # fmt: skip
    return replace(first, **more)  # type: ignore[arg-type]


def october_source(**more: object) -> FocusSource:
    """The export of October."""
    closing = Closing("2026-09", 3, START_MS, END_MS)
    span = {"start_ms": END_MS, "end_ms": OCTOBER_END_MS, "closings": [closing]}
    return source(october(), "2026-10", **span, **more)
