"""Months as exports take them: the lines of a closing, read in blocks, or a draft."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches

from billing.exports.bill_export import BillExport
from billing.focus_source import Closing, FocusSource
from billing.invoice import Proof
from billing.line_items import LineItem
from contracts.errors import BadInput
from warehouse.billing.bill_lines import ClosedLines
from warehouse.billing.closing import read_bill
from warehouse.billing.periods import closed_periods, list_steps
from warehouse.billing.price_books import book_of
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.reference_data.clusters import list_clusters


def bill_export(
    reader: LedgerReader,
    name: str,
    period: Period,
    *,
    currency: str,
    at_ms: int,
    tenant: str | None = None,
    issuer: str = "Wattlog",
    with_draft: bool = False,
) -> BillExport:
    """Return a month, or a tenant's part of it, for an export at a time.

    Raises BadInput where it is not closed, unless `with_draft`, and for a tenant without a line; as `read_bill` does.
    """
    closings = closed_periods(list_steps(reader))
    step = closings.get(name)
    draft = None if step is not None else read_bill(reader, name, period, currency)
    if draft is not None and not with_draft:
        raise BadInput("MONTH", name, f"it is {draft.state}: `wattlog close` it, or export a draft")
    stored = book_of(reader, None if step is None else step.book_version)
    book = None if stored is None else stored.parse()
    span = period if step is None else step.span
    lines = ClosedLines(reader, step) if step is not None else draft.lines if draft is not None else ()
    if tenant is not None:
        _check_billed(tenant, lines)
    return BillExport(
        source=FocusSource(
            period=name,
            start_ms=span.start,
            end_ms=span.end,
            step=None if step is None else step.step,
            at_ms=at_ms if step is None else step.at,
            issuer=issuer,
            lines=lines,
            is_partial=reader.tenants is not None,
            tenant=tenant,
            closings=[Closing(of.period, of.step, of.period_start, of.period_end) for of in closings.values()],
            commitments=() if book is None else book.commitments,
            currency=currency if book is None else book.currency,
            time_zone="UTC" if book is None else book.time_zone,
            book_at_ms=0 if stored is None else stored.stored_at,
        ),
        proof=Proof(
            state="closed" if draft is None else draft.state,
            closed_at_ms=None if step is None else step.at,
            actor="" if step is None else step.actor,
            lines_sha256="" if step is None else step.lines_sha256,
            audit_head="" if step is None else step.audit_head,
            simulated_clusters=simulated_clusters(reader),
        ),
        time_zone=span.time_zone,
    )


def simulated_clusters(reader: LedgerReader) -> frozenset[str]:
    """Return the clusters whose energy is simulated."""
    return frozenset(cluster.cluster for cluster in list_clusters(reader) if cluster.simulated)


def closed_exports(
    reader: LedgerReader, *, currency: str, tenant: str | None = None, issuer: str = "Wattlog"
) -> Iterator[BillExport]:
    """Yield every closed month, or a tenant's part of it, in their order. No line is read before it is exported."""
    for step in closed_periods(list_steps(reader)).values():
        bill = bill_export(reader, step.period, step.span, currency=currency, at_ms=step.at, issuer=issuer)
        yield replace(bill, source=replace(bill.source, tenant=tenant))


def _check_billed(tenant: str, lines: Iterable[LineItem]) -> None:
    """Raise BadInput for a tenant without a line in a period that has lines."""
    names = {line.tenant for line in lines}
    if names and tenant not in names:
        nearest = get_close_matches(tenant, names, 1)
        others = (
            f"did you mean {nearest[0]}?" if nearest else f"this period has lines of {', '.join(sorted(names)[:10])}"
        )
        raise BadInput("tenant", tenant, others)
