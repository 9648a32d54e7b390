"""Invoices: one tenant's lines in one currency, as a plain HTML page that prints on A4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from itertools import groupby

from billing.line_items import LineItem
from billing.rounding import minor_digits
from contracts.units import UJ_PER_KWH, counted, plain_decimal, rfc3339, shortest_decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Evidence by which a stranger checks an invoice: hashes over all lines of the period, and of the audit log."""

    state: str
    closed_at_ms: int | None
    actor: str
    lines_sha256: str
    audit_head: str
    simulated_clusters: frozenset[str] = frozenset()
    """Clusters whose energy is simulated: an invoice with a line of one says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """The lines of a tenant in a currency, of a period `[start_ms, end_ms)`."""

    period: str
    start_ms: int
    end_ms: int
    time_zone: str
    tenant: str
    currency: str
    lines: Sequence[LineItem]

    @property
    def total(self) -> Decimal:
        """Sum of the lines whose amount is known."""
        known = (line.amount for line in self.lines if line.amount is not None)
        return sum(known, Decimal(0).scaleb(-minor_digits(self.currency)))

    @property
    def open_lines(self) -> int:
        """Number of lines whose amount is unknown, which the total does not have."""
        return sum(line.amount is None for line in self.lines)

    @property
    def energy_uj(self) -> int:
        """Energy of the lines, in microjoules."""
        return sum(line.energy_uj for line in self.lines)


def invoices(period: str, start_ms: int, end_ms: int, time_zone: str, lines: Iterable[LineItem]) -> Iterator[Invoice]:
    """Yield an invoice for each tenant and currency of these lines. Revenue is no cost, and on none of them.

    Lines come sorted by tenant and currency, as those of a bill are: one invoice is in memory at once.
    """
    costs = (line for line in lines if line.side == "cost")
    for (tenant, currency), of_account in groupby(costs, key=lambda line: (line.tenant, line.currency)):
        yield Invoice(
            period=period, start_ms=start_ms, end_ms=end_ms, time_zone=time_zone,
            tenant=tenant, currency=currency, lines=list(of_account),
        )  # fmt: skip


_STYLE = """
@page { size: A4; margin: 18mm 15mm }
body { font: 10pt/1.4 system-ui, sans-serif; color: #111; max-width: 180mm; margin: 10mm auto }
@media print { body { margin: 0; max-width: none } }
section { break-after: page } section:last-of-type { break-after: auto }
h1 { font-size: 16pt; margin: 0 0 2mm } h2 { font-size: 11pt; margin: 7mm 0 2mm }
table { border-collapse: collapse; width: 100% } thead { display: table-header-group }
th, td { text-align: left; padding: 1.2mm 2mm; border-bottom: 0.2mm solid #bbb; vertical-align: top }
tr { break-inside: avoid } .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
tfoot td { font-weight: 600; border-top: 0.4mm solid #111; border-bottom: 0 }
.steps, .small { color: #555; font-size: 8pt } .state { color: #a00; font-weight: 600 } code { overflow-wrap: anywhere }
"""


def invoices_html(period: str, many: Iterable[Invoice], proof: Proof) -> Iterator[str]:
    """Yield invoices as one HTML document, each on a page of its own. It has no script and loads nothing."""
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Invoices {escape(period)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
    )
    count = 0
    for count, invoice in enumerate(many, 1):  # noqa: B007
        yield _section(invoice, proof) + "\n"
    yield ("" if count else "<p>No line.</p>\n") + "</body></html>\n"


def _section(invoice: Invoice, proof: Proof) -> str:
    own = [line for line in invoice.lines if not line.corrects]
    mending = [line for line in invoice.lines if line.corrects]
    parts = [
        f"<section><h1>{escape(invoice.tenant)}</h1>",
        f"<p>Period {escape(invoice.period)}: {rfc3339(invoice.start_ms)} to {rfc3339(invoice.end_ms)}, days of "
        f"{escape(invoice.time_zone)}. {_kwh(invoice.energy_uj)} kWh measured.</p>",
        ""
        if proof.state == "closed"
        else f'<p class="state">{escape(proof.state)}: not closed, and may still change</p>',
        '<p class="state">SIMULATED: energy of this invoice was simulated, not measured</p>'
        if any(line.place.cluster in proof.simulated_clusters for line in invoice.lines)
        else "",
        "<h2>Lines</h2>" + _table(own, invoice),
        "<h2>Corrections of closed periods</h2>" + _table(mending, invoice) if mending else "",
        f'<table><tfoot><tr><td>Total</td><td class="n">{plain_decimal(invoice.total)} {escape(invoice.currency)}</td>'
        "</tr></tfoot></table>",
        f'<p class="state">{counted(invoice.open_lines, "line")} of unknown amount, not in the total</p>'
        if invoice.open_lines
        else "",
        _proof(proof),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _table(lines: Sequence[LineItem], invoice: Invoice) -> str:
    rows = "\n".join(_row(line) for line in lines)
    return (
        '<table><thead><tr><th>Line</th><th>Of</th><th class="n">Quantity</th>'
        f'<th class="n">{escape(invoice.currency)}</th></tr></thead><tbody>\n{rows}\n</tbody></table>'
    )


def _row(line: LineItem) -> str:
    place = ", ".join(value for value in line.place[1:] if value)
    steps = "<br>".join(escape(step) for step in line.steps)
    amount = "unknown" if line.amount is None else plain_decimal(line.amount)
    return (
        f'<tr><td>{escape(line.name)}<div class="small">{escape(line.category)} <code>{line.line_id}</code></div></td>'
        f'<td>{escape(place)}<div class="steps">{steps}</div></td>'
        f'<td class="n">{shortest_decimal(line.quantity)} {escape(line.unit)}</td><td class="n">{amount}</td></tr>'
    )


def _proof(proof: Proof) -> str:
    if proof.closed_at_ms is None:
        return ""
    return (
        f'<p class="small">Closed {rfc3339(proof.closed_at_ms)} by {escape(proof.actor)}. Amounts are exact until the '
        "total is rounded to the smallest unit; lines get their parts of it by largest remainder. SHA-256 of all lines "
        f"of the period: <code>{escape(proof.lines_sha256)}</code>. Audit log at the closing: "
        f"<code>{escape(proof.audit_head or 'none')}</code>.</p>"
    )


def _kwh(energy_uj: int) -> str:
    return shortest_decimal(round(Decimal(energy_uj) / UJ_PER_KWH, 6))
