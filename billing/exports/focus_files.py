"""FOCUS files of a month: a folder's, or one ZIP file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO

from billing import focus_columns as columns
from billing.exports.bill_export import BillExport
from billing.focus import cost_and_usage, cost_and_usage_1_2
from billing.focus_reference import billing_period, contract_commitments, invoice_details
from billing.focus_source import FocusSource
from contracts.csv_text import csv_pieces

_SOME_DAY = (1980, 1, 1, 0, 0, 0)
"""Date of files in a ZIP: the same for each, so that the same month gives the same bytes."""


class FocusVersion(StrEnum):
    """Version of the FinOps Open Cost and Usage Specification."""

    NEWEST = "1.4"
    ONE_FILE = "1.2"


def focus_files(source: FocusSource, version: FocusVersion) -> dict[str, Iterator[str]]:
    """Return the files of a bundle by name, as pieces of text."""
    if version is FocusVersion.ONE_FILE:
        return {"CostAndUsage.csv": csv_pieces(cost_and_usage_1_2(source), columns.COST_AND_USAGE_1_2)}
    return {
        "CostAndUsage.csv": csv_pieces(cost_and_usage(source), columns.COST_AND_USAGE),
        "BillingPeriod.csv": csv_pieces([billing_period(source)], columns.BILLING_PERIOD),
        "InvoiceDetail.csv": csv_pieces(invoice_details(source), columns.INVOICE_DETAIL),
        "ContractCommitment.csv": csv_pieces(contract_commitments(source), columns.CONTRACT_COMMITMENT),
    }


def write_focus_zip(bill: BillExport, file: BinaryIO) -> None:
    """Write the four data sets of FOCUS 1.4 as one ZIP file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, pieces in focus_files(bill.source, FocusVersion.NEWEST).items():
            entry = zipfile.ZipInfo(name, _SOME_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with (
                archive.open(entry, "w", force_zip64=True) as part,
                io.TextIOWrapper(part, "utf-8", newline="") as text,
            ):
                text.writelines(pieces)


def write_focus_1_2(bill: BillExport, file: BinaryIO) -> None:
    """Write the one data set of FOCUS 1.2 as CSV."""
    for pieces in focus_files(bill.source, FocusVersion.ONE_FILE).values():
        file.writelines(piece.encode() for piece in pieces)
