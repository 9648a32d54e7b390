"""`wattlog book`: the price book of everything but electricity."""

from __future__ import annotations

import sys
import time
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.audit_entries import actor, recorded_change
from cli.ledger_access import open_ledger_and_settings
from cli.options import Data, Json
from cli.output import errors_reported, note, print_json, stdout, step_finished
from cli.tables import Column, print_table, text_column

if TYPE_CHECKING:
    from billing.quantities import MeteredQuantity
    from billing.segments import Segments

book = typer.Typer(
    no_args_is_help=True,
    help="Store, show and test the price book: rates, fees, discounts, commitments, credits and taxes, as TOML. "
    "docs/finance.md describes it. Electricity has prices of its own: wattlog price.",
)
_File = Annotated[Path, typer.Argument(help="The book, a TOML file; - reads it from stdin.", show_default=False)]
_COLUMNS = (
    Column("book_version", "version", str),
    text_column("stored_at", "stored"),
    text_column("actor", "by"),
    text_column("sha256", "SHA-256"),
)


@book.command("set")
def put(
    file: _File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and show what would change.")] = False,
    data: Data = None,
) -> None:
    """Check a book and make it the book of today. Closed periods keep theirs.

    Example: wattlog book set prices.toml --dry-run
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from billing.book_file import parse_book
        from warehouse.billing.price_books import book_of, put_book

        text = _read(file)
        parsed = parse_book(text)
        before = book_of(reader)
        for change in _changes("" if before is None else before.text, text):
            stdout().print(change, markup=False)
        if dry_run:
            note(f"The book is right: {len(list(parsed.rows()))} rows. Nothing is stored.")
            return
        digest = sha256(text.encode()).hexdigest()
        with recorded_change(settings, "book.put", "price book", sha256=digest) as results:
            stored = put_book(reader.operator_warehouse(), text, actor(), round(time.time() * 1000))
            results["version"] = stored.book_version
        step_finished(f"The price book has version {stored.book_version}.")


@book.command("list")
def list_(as_json: Json = False, data: Data = None) -> None:
    """List the versions of the book, the oldest first."""
    with open_ledger_and_settings(data) as (reader, _):
        from api.serialization import plain
        from warehouse.billing.price_books import list_books

        rows = [{k: v for k, v in plain(stored).items() if k != "text"} for stored in list_books(reader)]
        if as_json:
            print_json(rows)
        elif rows:
            print_table(rows, _COLUMNS, title="Price books")
        else:
            note("No price book yet: bills have electricity only. Store one: wattlog book set FILE")


@book.command()
def show(
    version: Annotated[int | None, typer.Option(help="This version.", show_default="the newest")] = None,
    data: Data = None,
) -> None:
    """Print a book as it was stored."""
    with open_ledger_and_settings(data) as (reader, _):
        from contracts.errors import BadInput
        from warehouse.billing.price_books import book_of

        stored = book_of(reader, version)
        if stored is None:
            raise BadInput("--version", version, "there is no such book; `wattlog book list` has all of them")
        sys.stdout.write(stored.text)


@book.command()
def test(
    file: _File,
    use: Annotated[
        list[str] | None,
        typer.Option(help="TENANT:METER=QUANTITY, such as acme:output_tokens=25000000. May be repeated."),
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of all quantities, such as model=llama-70b. May be repeated.")
    ] = None,
    month: Annotated[str, typer.Option(help="The month that is made up.")] = "2026-01",
) -> None:
    """Bill a made-up month by a book, and show the arithmetic. Nothing is read or stored.

    Example: wattlog book test prices.toml --use acme:output_tokens=25000000 --scope model=llama-70b
    """
    with errors_reported():
        from billing.bills import bill, totals
        from billing.book_file import parse_book
        from billing.segments import segments
        from cli.close import month_name
        from contracts.time_zones import local_epoch_ms, next_month, zone_of

        parsed = parse_book(_read(file))
        zone = zone_of(parsed.time_zone)
        first = date.fromisoformat(f"{month_name(month)}-01")
        start_ms = local_epoch_ms(first.isoformat(), zone)
        end_ms = local_epoch_ms(next_month(first).isoformat(), zone)
        times = segments(parsed, start_ms, end_ms)
        quantities = [quantity for text in use or [] for quantity in _quantities(text, scope or [], times)]
        made_up = bill(parsed, month, start_ms, end_ms, quantities, [], {})
        console = stdout()
        for line in made_up.lines:
            amount = "unknown" if line.amount is None else f"{line.amount} {line.currency}"
            console.print(f"{line.tenant}  {line.name}  {amount}", markup=False)
            for step in line.steps:
                console.print(f"    {step}", markup=False)
        for (tenant, currency, side), total in sorted(totals(made_up.lines).items()):
            console.print(f"{tenant} {side}: {'unknown' if total is None else total} {currency}", markup=False)
        if made_up.unpriced_meters:
            note(f"Without a rate in the book: {', '.join(made_up.unpriced_meters)}.")
        if len(times.rates) > 1:
            note("Rates change inside this month: quantities are spread evenly over its time.")


def _quantities(text: str, scope: list[str], times: Segments) -> list[MeteredQuantity]:
    """Return one quantity of a made-up month, spread evenly over the classes of its time."""
    from billing.places import SCOPES, Place
    from billing.quantities import LEDGER_METERS, MeteredQuantity
    from contracts.errors import BadInput

    tenant, _, pair = text.partition(":")
    meter, _, amount = pair.partition("=")
    if not (tenant and meter and amount.replace(".", "", 1).isdecimal()):
        raise BadInput("--use", text, "give TENANT:METER=QUANTITY, such as acme:output_tokens=25000000")
    values = dict(pair.partition("=")[::2] for pair in scope)
    if unknown := set(values) - set(SCOPES):
        raise BadInput("--scope", sorted(unknown)[0], f"give any of {', '.join(SCOPES)}")
    place = Place(**{**values, "tenant": tenant})
    span_ms = times.end_ms - times.start_ms
    return [
        MeteredQuantity(
            meter, LEDGER_METERS.get(meter, "unit"), Decimal(amount) * times.time_ms(number) / span_ms, place, number
        )
        for number in range(len(times.rates))
    ]


def _changes(before: str, after: str) -> list[str]:
    """Return the changed lines of a book, each after + or -."""
    from difflib import unified_diff

    return list(unified_diff(before.splitlines(), after.splitlines(), "stored", "new", lineterm="", n=1))


def _read(file: Path) -> str:
    from billing.book_file import MAX_BYTES
    from contracts.errors import BadInput

    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BadInput("FILE", str(file), f"it has more than {MAX_BYTES} bytes")
        return content.decode("utf-8")
    except OSError as error:
        raise BadInput("FILE", str(file), f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput("FILE", str(file), "write it in UTF-8") from None
