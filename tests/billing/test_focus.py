"""FOCUS: the lines of a month as the rows that FinOps tools read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from importlib import import_module

import pytest

from billing.bills import totals
from billing.focus import cost_and_usage, cost_and_usage_1_2
from billing.focus_columns import (
    BILLING_PERIOD,
    CONTRACT_COMMITMENT,
    COST_AND_USAGE,
    COST_AND_USAGE_1_2,
    INVOICE_DETAIL,
)
from billing.focus_reference import billing_period, contract_commitments, duration_of, invoice_details
from billing.focus_source import FocusSource, Row
from billing.invoice import invoices
from contracts.units import epoch_ms
from tests.billing import made_up
from tests.billing.focus_months import END_MS, LATE, START_MS, october, october_source, september, source

SEPTEMBER = source(september())


def billed(rows: list[Row]) -> dict[str, Decimal]:
    """The sum of BilledCost by currency."""
    sums: dict[str, Decimal] = {}
    for row in rows:
        currency = str(row["BillingCurrency"])
        sums[currency] = sums.get(currency, Decimal(0)) + Decimal(str(row["BilledCost"]))
    return sums


def one(rows: list[Row], **values: str) -> Row:
    """The first row with these values."""
    return next(row for row in rows if all(row.get(name) == value for name, value in values.items()))


@pytest.mark.parametrize("of", [SEPTEMBER, october_source()])
def test_billed_cost_sums_to_the_invoices_of_each_currency(of: FocusSource) -> None:
    sums: dict[str, Decimal] = {}
    for invoice in invoices(of.period, of.start_ms, of.end_ms, "UTC", of.lines):
        sums[invoice.currency] = sums.get(invoice.currency, Decimal(0)) + invoice.total
    assert sorted(sums) == ["EUR", "USD"]
    assert billed(list(cost_and_usage(of))) == billed(list(cost_and_usage_1_2(of))) == sums
    assert billed(list(invoice_details(of))) == sums


def test_a_month_and_the_corrections_of_it_net_to_the_month_as_it_is_now() -> None:
    mending = [row for row in cost_and_usage(october_source()) if row["ChargeClass"] == "Correction"]
    assert {row["ChargePeriodStart"] for row in mending} == {"2026-09-01T00:00:00Z"}
    assert {row["BillingPeriodStart"] for row in mending} == {"2026-10-01T00:00:00Z"}
    assert billed([*cost_and_usage(SEPTEMBER), *mending]) == billed(list(cost_and_usage(source(LATE))))
    ids = {row["x_LineId"] for lines in (SEPTEMBER.lines, LATE) for row in cost_and_usage(source(list(lines)))}
    assert {row["x_CorrectsLineId"] for row in mending} <= ids


def test_a_correcting_invoice_refers_to_the_invoice_of_then() -> None:
    details = list(invoice_details(october_source()))
    refers = {(row["InvoiceId"], row["ReferenceInvoiceId"]) for row in details}
    assert ("2026-10.1/beta/EUR", "2026-09.3/beta/EUR") in refers
    assert ("2026-10.1/beta/EUR", "2026-10.1/beta/EUR") in refers


def test_each_row_is_a_part_of_its_invoice_detail() -> None:
    for of in (SEPTEMBER, october_source()):
        sums: dict[str | None, Decimal] = {}
        for row in cost_and_usage(of):
            sums[row["InvoiceDetailId"]] = sums.get(row["InvoiceDetailId"], Decimal(0)) + Decimal(
                str(row["BilledCost"])
            )
        assert sums == {row["InvoiceDetailId"]: Decimal(str(row["BilledCost"])) for row in invoice_details(of)}


def test_charge_categories_are_those_of_focus() -> None:
    rows = list(cost_and_usage(SEPTEMBER))
    by_name = {(row["x_Category"], str(row["ChargeDescription"]).split(" (")[0]): row["ChargeCategory"] for row in rows}
    assert by_name == {
        ("usage", "electricity"): "Usage", ("usage", "output tokens"): "Usage", ("usage", "input tokens"): "Usage",
        ("usage", "H100, by allocation"): "Usage", ("usage", "H100, by use"): "Usage",
        ("purchase", "platform"): "Purchase", ("purchase", "2026"): "Purchase",
        ("discount", "volume"): "Adjustment", ("credit", "2026"): "Adjustment", ("credit", "welcome"): "Credit",
        ("tax", "VAT"): "Tax",
    }  # fmt: skip


def test_a_commitment_is_billed_when_bought_and_costs_when_it_is_burned_down() -> None:
    rows = list(cost_and_usage(SEPTEMBER))
    bought = one(rows, ChargeCategory="Purchase", ChargeFrequency="One-Time")
    assert (bought["BilledCost"], bought["EffectiveCost"]) == ("12000.00", "0")
    covered = next(row for row in rows if row["ContractApplied"])
    (element,) = json.loads(str(covered["ContractApplied"]))["Elements"]
    assert element["ContractCommitmentId"] == "2026/acme"
    assert Decimal(str(covered["BilledCost"])) == -Decimal(str(element["ContractCommitmentAppliedCost"]))
    assert covered["EffectiveCost"] == "0"
    (commitment,) = contract_commitments(SEPTEMBER)
    assert commitment["ContractCommitmentId"] == "2026/acme"
    assert commitment["ContractCommitmentDurationType"] == "1 Year"


def test_shared_gpus_say_how_their_cost_is_divided() -> None:
    rows = [
        row for row in cost_and_usage(SEPTEMBER) if row.get("AllocatedMethodId") and row["ServiceName"] == "GPU time"
    ]
    ratios = [json.loads(str(row["AllocatedMethodDetails"]))["Elements"][0]["AllocatedRatio"] for row in rows]
    assert sum(ratios) == pytest.approx(1)
    assert [row.get("AllocatedResourceName") for row in rows] == [None, "acme", "beta"]
    assert not any(row.get("AllocatedMethodId") for row in cost_and_usage(SEPTEMBER) if row["BillingCurrency"] == "USD")


def test_model_and_kind_of_token_are_details_of_the_price() -> None:
    row = one(list(cost_and_usage(SEPTEMBER)), SkuMeter="output_tokens")
    assert json.loads(str(row["SkuPriceDetails"])) == {
        "x_TokenKind": "output", "x_Model": "llama-70b", "x_Hardware": "H100",
    }  # fmt: skip
    assert (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == ("12.345678", "1000000 Tokens", "1.2")
    tiered = one(list(cost_and_usage(SEPTEMBER)), SkuMeter="input_tokens", BillingAccountId="acme")
    assert json.loads(str(tiered["SkuPriceDetails"]))["x_PriceIsMean"] is True


def test_a_tenant_that_moved_has_rows_of_both_cost_centres() -> None:
    rows = [row for row in cost_and_usage(SEPTEMBER) if row.get("SkuMeter") == "output_tokens"]
    assert [(row["BillingAccountId"], row["SubAccountId"], row["x_CostCentre"]) for row in rows] == [
        ("acme", "search", "CC-1"), ("acme", "search", "CC-2"),
    ]  # fmt: skip


def test_a_negative_price_has_its_cost_and_its_energy_and_no_unit_price() -> None:
    row = one(list(cost_and_usage(SEPTEMBER)), BilledCost="-2.50")
    assert row.get("ListUnitPrice") is row.get("SkuPriceId") is row.get("PricingQuantity") is None
    assert (row["ListCost"], row["x_Quantity"], row["x_Unit"], row["x_EnergyJoules"]) == (
        "-2.50", "4", "kWh", "14400000",
    )  # fmt: skip


def test_a_line_of_unknown_amount_is_named_and_has_no_row() -> None:
    of = source(september(us_cost=None))
    assert [line.name for line in of.of_tenant if line.amount is None and line.category == "usage"] == ["electricity"]
    assert "USD" not in billed(list(cost_and_usage(of)))


def test_a_draft_is_an_open_period_with_provisional_invoices() -> None:
    of = source(september(), step=None)
    assert billing_period(of)["BillingPeriodStatus"] == "Open"
    assert {row["InvoiceIssueStatus"] for row in invoice_details(of)} == {"Open"}
    assert {row["InvoiceIssueDate"] for row in invoice_details(of)} == {None}
    assert {str(row["InvoiceId"]).split("/")[0] for row in cost_and_usage(of)} == {"2026-09.draft"}


def test_the_rows_of_one_tenant_have_the_shares_of_all() -> None:
    alone = list(cost_and_usage(source(september(), tenant="beta")))
    assert {row["BillingAccountId"] for row in alone} == {"beta"}
    assert alone == [row for row in cost_and_usage(SEPTEMBER) if row["BillingAccountId"] == "beta"]


def test_rows_have_no_column_outside_of_the_specification_and_no_exponent() -> None:
    for of in (SEPTEMBER, october_source()):
        for rows, columns in (
            (cost_and_usage(of), COST_AND_USAGE),
            ([billing_period(of)], BILLING_PERIOD),
            (invoice_details(of), INVOICE_DETAIL),
            (contract_commitments(of), CONTRACT_COMMITMENT),
        ):
            for row in rows:
                assert set(row) <= set(columns)
                assert not any(re.fullmatch(r"-?[\d.]+E[+-]?\d+", value or "") for value in row.values())
    assert {"ProviderName", "PublisherName"} == set(COST_AND_USAGE_1_2) - set(COST_AND_USAGE)


def test_a_duration_is_whole_months_of_its_zone_or_days() -> None:
    assert (
        duration_of(epoch_ms("2026-02-28T23:00:00Z"), epoch_ms("2026-05-31T22:00:00Z"), "Europe/Berlin") == "3 Months"
    )
    assert duration_of(START_MS, END_MS, "UTC") == "1 Month"
    assert duration_of(START_MS, epoch_ms("2026-09-11"), "UTC") == "10 Days"


def test_a_tenants_lines_of_october_still_sum_to_its_invoice() -> None:
    total = totals(october())["beta", "EUR", "cost"]
    assert billed(list(cost_and_usage(october_source(tenant="beta"))))["EUR"] == total


@pytest.mark.parametrize("of", [SEPTEMBER, october_source(), source(september(), step=None)])
def test_the_bundle_passes_the_linter_of_focus(of: FocusSource) -> None:
    validator = import_module("focus_data_toolkit.model.validator")  # It has no types.
    bundles = import_module("focus_data_toolkit.validate.bundle")
    bundle = {
        "Cost and Usage": table(list(cost_and_usage(of)), COST_AND_USAGE),
        "Billing Period": table([billing_period(of)], BILLING_PERIOD),
        "Invoice Detail": table(list(invoice_details(of)), INVOICE_DETAIL),
        "Contract Commitment": table(list(contract_commitments(of)), CONTRACT_COMMITMENT),
    }
    for name, rows in bundle.items():
        assert validator.lint_focus_1_4_structure(name, rows).messages() == []
    exact = {"invoice_detail_authoritative": True, "rounding_tolerance": Decimal(0)}
    assert bundles.validate_dataset_bundle(bundle, **exact).diagnostics == []


def table(rows: list[Row], columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows as they are read from CSV."""
    return [{column: row.get(column) or "" for column in columns} for row in rows]


def test_the_unused_part_of_a_commitment_costs_at_its_end() -> None:
    rows = (
        '[[rates]]\nname = "calls"\nmeter = "calls"\nprice = "1"\n'
        '[[commitments]]\nname = "month"\namount = "120"\nfrom = "2026-09-01"\nto = "2026-10-01"\n'
        'scope = { tenant = "acme" }'
    )
    month = replace(SEPTEMBER, lines=made_up.billed(made_up.book(rows), made_up.used("calls", "99.4968")).lines)
    unused = one(list(cost_and_usage(month)), x_Quantity="20.5032")
    assert (unused["ChargeCategory"], unused["BilledCost"], unused["EffectiveCost"]) == ("Adjustment", "0.00", "20.50")
    assert unused.get("PricingQuantity") is None
    sums = {
        name: sum((Decimal(str(row[name])) for row in cost_and_usage(month)), Decimal(0))
        for name in ("BilledCost", "EffectiveCost")
    }
    assert sums == {"BilledCost": Decimal("120"), "EffectiveCost": Decimal("120")}
