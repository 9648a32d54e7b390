"""`wattlog tenants`, `floors`, `weights`, `prices`, `clusters`: list, set, import and remove rows of reference data.

Their commands are made from `warehouse.reference_data.tables`, whose fields are their arguments and options. They are
made when they are asked for, because the image of an agent has no warehouse.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli.audit_entries import recorded_change
from cli.electricity_series import SERIES_HELP, SERIES_OPTIONS, add_remarks, electricity_series
from cli.ledger_access import open_ledger_and_settings
from cli.options import Data, Format, FormatOption, Json, output_format
from cli.output import note, print_csv, print_json, stderr
from cli.reference_report import print_changes, print_meaning
from cli.tables import print_table, text_column

if TYPE_CHECKING:
    from contracts.settings import Settings
    from warehouse.reader import LedgerReader
    from warehouse.reference_data.editing import Edit
    from warehouse.reference_data.fields import Reading, ReferenceField
    from warehouse.reference_data.tables import ReferenceTable

GROUPS: Mapping[str, str] = {
    "tenants": "Teams and cost centres of tenants, each from a time on. A move leaves the bills of the time before.",
    "floors": "Idle floors: watts of a GPU that is on without work. They divide its energy into idle and active.",
    "weights": "Work weights: the work of prompt, cached and completion tokens, by which tenants share energy.",
    "prices": "Tariffs, PUE and carbon intensity of clusters, each valid for a time. Bills use them at once.",
    "clusters": "Clusters, and whether their energy is simulated. A renamed one: set NEW --was OLD.",
    "aliases": "Former names of clusters. All rows of a cluster are read under its name.",
}
"""Names of the groups, and their help."""
_COMMANDS = ("list", "set", "import", "remove")
_TEST = "test"
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and store nothing.")]
_New = Annotated[bool, typer.Option("--new", help="Accept names that the ledger does not have yet.")]
_Yes = Annotated[
    bool, typer.Option("--yes", help="Do not ask before hours that had a price are re-priced, or rows are removed.")
]
_Zone = Annotated[
    str | None,
    typer.Option("--tz", help="Zone of times without an offset, such as Europe/Berlin.", show_default="time_zone, UTC"),
]
_At = Annotated[str | None, typer.Option("--at", help="Only rows that are valid then: RFC 3339 or a day.")]
_File = Annotated[Path, typer.Argument(metavar="FILE", help="CSV or JSON; - reads stdin.")]
_Replace = Annotated[bool, typer.Option("--replace", help="The file is the whole table: remove stored rows not in it.")]
_Currency = Annotated[
    str | None, typer.Option("--currency", help="Currency of rows without one.", show_default="setting currency")
]


_Was = Annotated[str | None, typer.Option("--was", help="Its former name: rows of that are read under this one.")]


class ReferenceGroup(TyperGroup):
    """The commands of one table, by the name of the group."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_COMMANDS, *([_TEST] if self.name == "prices" else [])]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from warehouse.reference_data.tables import TABLES

        if cmd_name == _TEST and self.name == "prices":
            return _book_test()
        if cmd_name not in _COMMANDS:
            return None
        table = TABLES[self.name or ""]
        function, parameters, text = {"list": _list, "set": _set, "import": _import, "remove": _remove}[cmd_name](table)
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        # A negative price begins like an option.
        app.command(name=cmd_name, help=text, context_settings={"ignore_unknown_options": cmd_name == "set"})(
            _with_signature(function, parameters)
        )
        return typer.main.get_command(app)


def _book_test() -> Any:
    """Return `wattlog book test` as the command `wattlog prices test`, because a bill of prices is looked for there."""
    from cli.book import test

    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name=_TEST)(test)
    return typer.main.get_command(app)


_Command = tuple[Callable[..., None], list[inspect.Parameter], str]


def _list(table: ReferenceTable) -> _Command:
    scope = [table.field(attribute) for attribute in table.group]

    def list_rows(
        data: Path | None, at: str | None, tz: str | None, format_: Format, as_json: bool, **names: Any
    ) -> None:
        with open_ledger_and_settings(data) as (reader, settings):
            from warehouse.reference_data.editing import matching_rows

            narrowing = {name: value for name, value in names.items() if value is not None}
            rows = [table.texts(row) for row in matching_rows(reader, table, narrowing, at, _reading(settings, tz))]
            columns = [one.name for one in table.fields]
            chosen = output_format(format_, as_json)
            if chosen is Format.JSON:
                print_json([
                    {one.name: _json_value(one, row[one.name]) for one in table.fields} for row in rows
                ])  # fmt: skip
            elif chosen is Format.CSV:
                print_csv(rows, columns)
            elif rows:
                marked = [row | {"valid_from": _start_text(row.get("valid_from", ""))} for row in rows]
                print_table(marked, [text_column(name, name) for name in columns], title=table.name.capitalize())
            else:
                note(f"No {table.name} yet. Store one: wattlog {table.name} set {table.example}")

    options = [_option(one, f"--{one.name}", f"Only this {one.name}.") for one in scope]
    parameters = [
        *options, _parameter("at", _At, None), _parameter("tz", _Zone, None),
        _parameter("format_", FormatOption, Format.TABLE), _parameter("as_json", Json, False),
        _parameter("data", Data, None),
    ]  # fmt: skip
    return list_rows, parameters, f"List {table.name}. As CSV they can be imported again."


def _set(table: ReferenceTable) -> _Command:
    def set_row(
        data: Path | None, tz: str | None, dry_run: bool, new: bool, yes: bool, as_json: bool, **values: Any
    ) -> None:
        with open_ledger_and_settings(data) as (reader, settings):
            from warehouse.reference_data.editing import edit_of
            from warehouse.reference_data.files import TextRow

            texts = _texts(values)
            edited = table
            if "was" in texts:
                edited, texts = _alias_of(texts)
            edit = edit_of(reader, edited, [TextRow("", texts)], _reading(settings, tz), new_names=new)
            subject = " ".join(texts[one.name] for one in edited.fields if not one.option)
            details = {name: text for name, text in texts.items() if edited.field(name).option}
            change = recorded_change(settings, f"{edited.name}.set", subject, **details)
            _finish(reader, edit, change, dry_run=dry_run, yes=yes, as_json=as_json, may_ask=True)

    parameters = [
        *(_argument(one) if not one.option else _option(one, one.option, one.help) for one in table.fields),
        *([_parameter("was", _Was, None)] if table.name == "clusters" else ()),
        *_edit_parameters(new=True),
    ]
    help_ = (
        f"Store one {table.noun}. What is not given stays as it was before.\n\n"
        f"Example: wattlog {table.name} set {table.example}"
    )
    return set_row, parameters, help_


def _import(table: ReferenceTable) -> _Command:
    def import_file(
        file: Path, data: Path | None, tz: str | None, dry_run: bool, new: bool, yes: bool, as_json: bool,
        replace: bool, currency: str | None = None, **of_series: str | None,
    ) -> None:  # fmt: skip
        with open_ledger_and_settings(data) as (reader, settings):
            from contracts.errors import BadRows
            from warehouse.reference_data.editing import edit_of
            from warehouse.reference_data.files import read_file

            content, source = _content(file)
            try:
                series = electricity_series(content, source, settings, tz, currency, of_series) if of_series else None
                rows = read_file(table, content, source) if series is None else series.rows(of_series["cluster"] or "")
                edit = edit_of(
                    reader, table, rows, _reading(settings, tz, currency), source, replaces=replace, new_names=new
                )
                add_remarks(edit, series)
            except BadRows as error:
                for one in error.errors:
                    stderr.print(str(one), soft_wrap=True, markup=False)
                stderr.print(f"[red]error:[/red] {source}: {error.summary}", soft_wrap=True)
                raise typer.Exit(2) from None
            sums: dict[str, str | int] = {sort: len(edit.changes.of(sort)) for sort in ("added", "changed", "removed")}
            sums["sha256"] = sha256(content).hexdigest()
            change = recorded_change(settings, f"{table.name}.import", source, **sums)
            _finish(reader, edit, change, dry_run=dry_run, yes=yes, as_json=as_json, may_ask=str(file) != "-")

    money = [_parameter("currency", _Currency, None)] if any(one.name == "currency" for one in table.fields) else []
    of_prices = SERIES_OPTIONS.items() if table.name == "prices" else ()
    parameters = [
        _parameter("file", _File), _parameter("replace", _Replace, False), *money,
        *(_parameter(name, annotation, None) for name, annotation in of_prices), *_edit_parameters(new=True),
    ]  # fmt: skip
    columns = ", ".join(one.name for one in table.fields)
    return import_file, parameters, (
        f"Import {table.name} from CSV or JSON: all rows, or none if one is wrong.\n\nColumns: {columns}. "
        f"Those with a default may be left out.{SERIES_HELP if of_prices else ''}\n\n"
        f"Example: wattlog {table.name} import {table.name}.csv --dry-run"
    )  # fmt: skip


def _remove(table: ReferenceTable) -> _Command:
    def remove_row(data: Path | None, tz: str | None, dry_run: bool, yes: bool, as_json: bool, **values: Any) -> None:
        with open_ledger_and_settings(data) as (reader, settings):
            from warehouse.reference_data.editing import removal_of

            edit = removal_of(reader, table, _texts(values), _reading(settings, tz))
            subject = table.subject(edit.changes.changes[0].before)
            change = recorded_change(settings, f"{table.name}.remove", subject)
            _finish(reader, edit, change, dry_run=dry_run, yes=yes, as_json=as_json, may_ask=True)

    named = [table.field(attribute) for attribute in table.key]
    parameters = [
        *(_argument(one) if not one.option else _option(one, one.option, "Its start.") for one in named),
        *_edit_parameters(new=False),
    ]
    return remove_row, parameters, f"Remove one {table.noun} by its key. --from may be left out where there is one."


def _finish(
    reader: LedgerReader,
    edit: Edit,
    change: AbstractContextManager[object],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    may_ask: bool,
) -> None:
    """Print what an edit means, and store it with the consent that it needs, inside the block that records it."""
    from contracts.errors import BadInput
    from warehouse.reference_data.editing import store_edit

    print_meaning(edit)
    ask = edit.needs_consent if not dry_run and not yes else []
    if ask:
        print_changes(edit, stored=False, as_json=as_json)
        if not (may_ask and sys.stdin.isatty() and stderr.is_terminal):
            raise BadInput("--yes", "", f"not stored: it {'; '.join(ask)}. Give --yes if that is meant")
        typer.confirm("Store this?", abort=True, err=True)
    stored = bool(edit.changes.changes) and not dry_run
    if stored:
        with change:
            store_edit(reader, edit)
    if not ask:
        print_changes(edit, stored=stored, as_json=as_json)


def _alias_of(texts: dict[str, str]) -> tuple[ReferenceTable, dict[str, str]]:
    """Return the table of aliases and its row for `clusters set NEW --was OLD`. Raises BadInput beside options."""
    from contracts.errors import BadInput
    from warehouse.reference_data.tables import ALIASES

    if others := texts.keys() - {"cluster", "was"}:
        raise BadInput("--was", texts["was"], f"give --{min(others)} in a command of its own")
    return ALIASES, {"alias": texts["was"], "cluster": texts["cluster"]}


def _reading(settings: Settings, tz: str | None, currency: str | None = None) -> Reading:
    from warehouse.reference_data.editing import reading_of

    return reading_of(settings, round(time.time() * 1000), tz, currency)


def _content(file: Path) -> tuple[bytes, str]:
    """Return the bytes of a file, at most one more than may be read, and its name."""
    from warehouse.reference_data.files import MAX_BYTES

    if str(file) == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1), "stdin"
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1), str(file)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in values.items()
        if value is not None
    }


def _json_value(one: ReferenceField, text: str) -> object:
    return text == "true" if one.form.is_flag else text or None


def _start_text(text: str) -> str:
    return "always" if text.startswith("1970-01-01T00:00:00") else text


def _edit_parameters(*, new: bool) -> list[inspect.Parameter]:
    return [
        _parameter("dry_run", _DryRun, False), *([_parameter("new", _New, False)] if new else []),
        _parameter("yes", _Yes, False), _parameter("tz", _Zone, None), _parameter("as_json", Json, False),
        _parameter("data", Data, None),
    ]  # fmt: skip


def _argument(one: ReferenceField) -> inspect.Parameter:
    return _parameter(one.name, Annotated[str, typer.Argument(metavar=one.name.upper(), help=one.help)])


def _option(one: ReferenceField, option: str, text: str) -> inspect.Parameter:
    if one.form.is_flag:
        flag = f"{option}/--no{option[1:]}"
        return _parameter(one.name, Annotated[bool | None, typer.Option(flag, help=text, show_default=False)], None)
    return _parameter(one.name, Annotated[str | None, typer.Option(option, help=text)], None)


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _with_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """Return the function with these parameters, as Typer reads them."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    return function
