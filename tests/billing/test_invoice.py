"""Invoices: a tenant's lines in a currency, with what lets a stranger check them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from billing.bills import round_charges
from billing.corrections import corrections
from billing.invoice import Proof, invoices, invoices_html
from billing.line_items import LineItem
from billing.proof import lines_sha256
from tests.billing.made_up import ACME, BETA, END_MS, START_MS, billed, book, electricity, used

CLOSED = Proof(
    state="closed", closed_at_ms=END_MS, actor="ann@host", lines_sha256="ab" * 32, audit_head="cd" * 32
)  # fmt: skip


def html(lines: list[LineItem], proof: Proof = CLOSED) -> str:
    return "".join(invoices_html("2026-09", invoices("2026-09", START_MS, END_MS, "UTC", lines), proof))


def test_each_tenant_and_currency_has_an_invoice_whose_lines_sum_to_its_total() -> None:
    usd = electricity("7", ACME._replace(cluster="us"), currency="USD")
    lines = billed(book(), energy=(electricity("5"), electricity("2.50", BETA), usd)).lines
    many = list(invoices("2026-09", START_MS, END_MS, "UTC", lines))
    assert [(one.tenant, one.currency, one.total) for one in many] == [
        ("acme", "EUR", Decimal("5.00")), ("acme", "USD", Decimal("7.00")), ("beta", "EUR", Decimal("2.50")),
    ]  # fmt: skip
    assert [sum(line.amount or 0 for line in one.lines) for one in many] == [one.total for one in many]


def test_revenue_is_on_no_invoice() -> None:
    rows = '[[rates]]\nname = "r"\nmeter = "calls"\nprice = "3"\nside = "revenue"'
    assert list(invoices("2026-09", START_MS, END_MS, "UTC", billed(book(rows), used("calls", "2")).lines)) == []


def test_the_total_names_the_lines_that_it_lacks() -> None:
    page = html(billed(book(), energy=(electricity("5"), electricity(None, ACME._replace(cluster="us")))).lines)
    assert "1 line of unknown amount, not in the total" in page
    assert ">5.00 EUR<" in page


def test_names_are_escaped() -> None:
    page = html(billed(book(), energy=(electricity("5", ACME._replace(tenant="<b>", model='"&')),)).lines)
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "&quot;&amp;" in page


def test_corrections_have_a_table_of_their_own() -> None:
    before, now = (billed(book(), energy=(electricity(cost),)).lines for cost in ("5", "6"))
    page = html(round_charges("2026-10", corrections(before, [], now)))
    assert "Corrections of closed periods" in page
    assert f"line {before[0].line_id} of 2026-09 is 6.00 EUR now, +1.00 EUR" in page


def test_a_closed_invoice_has_its_hashes_and_a_draft_says_that_it_is_one() -> None:
    lines = billed(book(), energy=(electricity("5"),)).lines
    assert "ab" * 32 in html(lines)
    assert "cd" * 32 in html(lines)
    draft = html(lines, Proof(state="provisional", closed_at_ms=None, actor="", lines_sha256="", audit_head=""))
    assert "provisional: not closed, and may still change" in draft


def test_simulated_energy_is_marked_on_the_invoices_that_have_it() -> None:
    lines = billed(book(), energy=(electricity("5"), electricity("5", BETA._replace(cluster="lab")))).lines
    proof = replace(CLOSED, simulated_clusters=frozenset({"lab"}))
    acme, beta = html(lines, proof).split("</section>")[:2]
    assert "SIMULATED" not in acme
    assert "SIMULATED" in beta


def test_the_hash_of_lines_changes_with_each_of_their_values() -> None:
    one = billed(book(), energy=(electricity("5"),)).lines
    assert lines_sha256(one) == lines_sha256(billed(book(), energy=(electricity("5"),)).lines)
    for other in (electricity("5.01"), electricity("5", kwh="11"), electricity("5", BETA)):
        assert lines_sha256(billed(book(), energy=(other,)).lines) != lines_sha256(one)
