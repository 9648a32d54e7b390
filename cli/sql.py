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
from contracts.errors import BadInput


def sql(
    question: Annotated[
        str | None,
        typer.Argument(help="One SELECT, SHOW, DESCRIBE or EXPLAIN; - reads it from stdin.", show_default=False),
    ] = None,
    saved: Annotated[
        str | None, typer.Option(help="Name of a saved question, in place of SQL; list: their names.")
    ] = None,
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
    if saved == "list":
        _print_saved(output_format(format_, as_json))
        return
    with open_ledger_and_settings(data) as (reader, settings):
        from warehouse.read_only_sql import read_only

        text = _text(question, saved)
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        record(settings, "question", "all tenants", "begun", query=text, query_sha256=digest)
        columns, rows = read_only(reader, text, limit_rows=limit, timeout_s=timeout_s)
        print_sql_result(columns, rows, output_format(format_, as_json))


def _text(question: str | None, saved: str | None) -> str:
    """Return the SQL to run: the argument, stdin, or a saved question."""
    if saved is not None:
        from warehouse.ad_hoc.saved_questions import saved_question

        if question is not None:
            raise BadInput("--saved", saved, "give a question or the name of a saved one, not both")
        return saved_question(saved).sql
    if question is None:
        raise BadInput("question", question, "give SQL, - for stdin, or --saved NAME (--saved list names them)")
    return sys.stdin.read() if question == "-" else question


def _print_saved(format_: Format) -> None:
    """Print the names of the saved questions and their meanings; as JSON and CSV, their SQL too."""
    from warehouse.ad_hoc.saved_questions import saved_questions

    questions = saved_questions()
    if format_ is Format.TABLE:
        print_sql_result(["name", "answer"], [(q.name, q.meaning) for q in questions], format_)
    else:
        print_sql_result(["name", "answer", "query"], [(q.name, q.meaning, q.sql) for q in questions], format_)
