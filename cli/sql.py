"""`wattlog sql`: read-only SQL on the warehouse's tables."""

from __future__ import annotations

import hashlib
import sys
from typing import Annotated

import typer

from cli.audit_entries import record
from cli.ledger_access import open_ledger_and_settings
from cli.options import Data, Format, FormatOption, Json, output_format
from cli.tables import print_sql_result


def sql(
    question: Annotated[
        str, typer.Argument(help="One SELECT, SHOW, DESCRIBE or EXPLAIN; - reads it from stdin.", show_default=False)
    ],
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="A result with more rows is refused, not cut.")] = (
        10_000
    ),
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, max=600, help="Time limit in seconds.")] = 30,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Query the tables in SQL, read-only.

    Example: wattlog sql "SELECT tenant, sum(toInt128(active_uj)) FROM ledger FINAL GROUP BY tenant"
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from warehouse.read_only_sql import read_only

        text = sys.stdin.read() if question == "-" else question
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        record(settings, "question", "all tenants", "begun", query=text, query_sha256=digest)
        columns, rows = read_only(reader, text, limit_rows=limit, timeout_s=timeout_s)
        print_sql_result(columns, rows, output_format(format_, as_json))
