"""Files of a month: each format has every line, sums to the bill, and is the same bytes each time."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from decimal import Decimal

import pytest
from pyarrow import parquet

from billing.exports.bill_export import BillExport
from billing.exports.cloud_events import cloud_events
from billing.exports.formats import FILE_TYPES, ExportFormat
from billing.focus import cost_and_usage
from billing.invoice import Proof
from billing.line_items import LineItem
from billing.proof import COLUMNS, line_record, lines_sha256
from tests.billing.focus_months import october_source, september, source
from tests.billing.made_up import END_MS
from tests.support.sheets import sheets

LINES = september()
SHA = lines_sha256(LINES)
CLOSED = Proof(state="closed", closed_at_ms=END_MS, actor="ann@host", lines_sha256=SHA, audit_head="cd" * 32)


def export(lines: Iterable[LineItem] = LINES, **more: object) -> BillExport:
    return BillExport(source=source(list(lines), **more), proof=CLOSED, time_zone="Europe/Berlin")


def content(format_: ExportFormat, of: BillExport | None = None) -> bytes:
    file = io.BytesIO()
    FILE_TYPES[format_].write(of or export(), file)
    return file.getvalue()


def total(lines: Iterable[LineItem], currency: str = "EUR") -> Decimal:
    return sum((line.amount or Decimal(0) for line in lines if line.currency == currency), Decimal(0))


def test_the_names_of_columns_are_those_of_a_record() -> None:
    assert tuple(line_record(LINES[0])) == COLUMNS


@pytest.mark.parametrize("format_", ExportFormat)
def test_the_same_month_is_the_same_bytes(format_: ExportFormat) -> None:
    assert content(format_) == content(format_)


@pytest.mark.parametrize("format_", ExportFormat)
def test_a_month_without_lines_is_a_file_without_rows(format_: ExportFormat) -> None:
    assert content(format_, export([]))


def test_csv_has_every_line() -> None:
    rows = list(csv.DictReader(io.StringIO(content(ExportFormat.CSV).decode())))
    assert [row["line_id"] for row in rows] == [line.line_id for line in LINES]
    assert sum(Decimal(row["amount"]) for row in rows if row["currency"] == "EUR") == total(LINES)


def test_parquet_keeps_energy_beyond_64_bits() -> None:
    big = [line for line in LINES if line.meter == "energy"]
    table = parquet.read_table(io.BytesIO(content(ExportFormat.PARQUET, export([_with_energy(big[0])]))))
    assert table["energy_uj"].to_pylist() == [Decimal(2**64)]


def test_parquet_of_no_lines_has_the_columns_of_any_other() -> None:
    empty, full = (parquet.read_schema(io.BytesIO(content(ExportFormat.PARQUET, of))) for of in (export([]), export()))
    assert empty == full


def test_a_spreadsheet_has_totals_lines_and_their_exact_figures() -> None:
    book = sheets(content(ExportFormat.XLSX))
    assert list(book) == ["Bill", "Totals", "Totals exact", "Lines", "Lines exact"]
    at = COLUMNS.index("amount")
    assert [Decimal(str(row[at])) for row in book["Lines exact"][1:]] == [line.amount for line in LINES]
    assert [Decimal(str(row[at])) for row in book["Lines"][1:]] == [line.amount for line in LINES]
    energy = [row[COLUMNS.index("energy_uj")] for row in book["Lines exact"][1:]]
    assert energy == [str(line.energy_uj) for line in LINES]
    facts = {str(row[0]): row[-1] for row in book["Bill"][1:]}
    assert facts["SHA-256 of all lines of the period"] == SHA
    assert facts["lines"] == len(LINES)


def test_an_unknown_amount_is_a_word_in_a_spreadsheet_and_so_is_its_total() -> None:
    book = sheets(content(ExportFormat.XLSX, export(september(us_cost=None))))
    assert "unknown" in [row[COLUMNS.index("amount")] for row in book["Lines"]]
    assert ["acme", "USD", "cost", "unknown"] in book["Totals"]


def test_a_zip_has_the_four_data_sets_of_focus() -> None:
    with zipfile.ZipFile(io.BytesIO(content(ExportFormat.FOCUS))) as archive:
        assert archive.namelist() == [
            "CostAndUsage.csv", "BillingPeriod.csv", "InvoiceDetail.csv", "ContractCommitment.csv",
        ]  # fmt: skip
        rows = list(csv.DictReader(io.StringIO(archive.read("CostAndUsage.csv").decode())))
    assert sum(Decimal(row["BilledCost"]) for row in rows if row["BillingCurrency"] == "EUR") == total(LINES)


def test_a_tenants_own_focus_has_no_shares_of_a_gpu_in_common() -> None:
    own = [line for line in LINES if line.tenant == "acme"]
    rows = list(cost_and_usage(source(own, is_partial=True)))
    assert not [row for row in rows if row.get("AllocatedMethodId")]
    assert [row for row in cost_and_usage(source(LINES)) if row.get("AllocatedMethodId")]


def test_an_export_of_a_tenant_has_its_lines_only() -> None:
    rows = csv.DictReader(io.StringIO(content(ExportFormat.CSV, export(tenant="beta")).decode()))
    assert {row["tenant"] for row in rows} == {"beta"}


def test_a_file_is_named_for_its_month_closing_hash_and_tenant() -> None:
    assert export().stem == f"2026-09.1-{SHA[:12]}"
    assert export(tenant="a/../b c").stem == f"2026-09.1-{SHA[:12]}-a_.._b_c"
    draft = Proof(state="open", closed_at_ms=None, actor="", lines_sha256="", audit_head="")
    assert BillExport(source=source(LINES, step=None), proof=draft, time_zone="UTC").stem == "2026-09.draft"


def events(of: BillExport | None = None) -> list[dict[str, object]]:
    return json.loads(content(ExportFormat.CLOUDEVENTS, of))  # type: ignore[no-any-return]


def test_events_are_a_cloudevents_batch_whose_amounts_sum_to_the_bill() -> None:
    for event in events():
        assert event["specversion"] == "1.0"
        assert {"id", "source", "type", "subject", "time", "datacontenttype", "data"} <= event.keys()
    amounts = [Decimal(event["data"]["amount"]) for event in events() if event["data"]["currency"] == "EUR"]  # type: ignore[index]
    assert sum(amounts) == total(LINES)


def test_an_events_id_is_the_same_each_time_and_no_other_events() -> None:
    ids = [event["id"] for event in events()]
    assert ids == [event["id"] for event in events()]
    assert len(set(ids)) == len(LINES)
    assert not set(ids) & {event["id"] for event in events(export(step=2))}


def test_an_event_is_in_the_period_that_bills_it() -> None:
    october = october_source()
    times = {
        str(event["time"])[:7] for event in cloud_events(BillExport(source=october, proof=CLOSED, time_zone="UTC"))
    }
    assert times == {"2026-10"}


def test_costs_and_revenue_are_two_types() -> None:
    from dataclasses import replace

    both = [LINES[0], replace(LINES[0], side="revenue", line_id="r")]
    assert [event["type"] for event in events(export(both))] == ["wattlog.bill.cost.v1", "wattlog.bill.revenue.v1"]


def test_a_line_of_unknown_amount_has_no_event() -> None:
    of = export(september(us_cost=None))
    assert of.summary.open_lines == len(list(of.lines)) - len(events(of)) > 0


def test_no_events_are_an_empty_batch() -> None:
    assert events(export([])) == []


def _with_energy(line: LineItem) -> LineItem:
    from dataclasses import replace

    return replace(line, energy_uj=2**64)
