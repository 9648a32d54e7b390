"""`wattlog audit log`: lists the audit log, and verifies its chain."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Data, Format, FormatOption, Json, output_format
from cli.output import errors_reported, note, print_csv, print_json
from cli.settings import load_settings
from cli.tables import print_table, text_column

if TYPE_CHECKING:
    from access.audit_chain import Verdict

_FIELDS = ("at", "actor", "action", "subject", "outcome")
_CHAIN = ("number", "previous", "hash")
_COLUMNS = tuple(text_column(name, name) for name in ("number", *_FIELDS, "details"))


def audit_log(
    since: Annotated[str | None, typer.Option(help="Entries from this time on: RFC 3339 or a day.")] = None,
    actor: Annotated[str | None, typer.Option(help="Entries of this actor.")] = None,
    action: Annotated[str | None, typer.Option(help="Entries of this action: prices.set, or prices for all of it.")] = (
        None
    ),
    verify: Annotated[bool, typer.Option("--verify", help="Check that each entry follows the one before it.")] = False,
    head: Annotated[str, typer.Option(help="With --verify: a head that was noted elsewhere, which must be in it.")] = (
        ""
    ),
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest entries that are listed.")] = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List who changed, was refused or exported something, or verify that nothing in the list was changed.

    Exit status of --verify 0: Each entry follows. 1: One does not, or the noted head is gone. 3: Each follows, but
    lines were cut off when their writers were stopped. 2: The log could not be read.

    Example: wattlog audit log --verify --json | jq -r .head
    """
    with errors_reported():
        from contracts.errors import BadInput

        path, chosen = load_settings(data, quiet=True).audit_log_path, output_format(format_, as_json)
        if verify:
            if since or actor or action or chosen is Format.CSV:
                raise BadInput("verify", True, "it checks the log as one: give neither filters nor --format csv")
            status = _verify(path, head, as_json=chosen is Format.JSON)
        else:
            if head:
                raise BadInput("head", head, "give --verify with it")
            _list(path, _since(since), actor, action, limit, chosen)
            status = 0
    if status:
        raise typer.Exit(status)


def _list(path: Path, since: str, actor: str | None, action: str | None, limit: int, format_: Format) -> None:
    from access.audit_chain import entry_of
    from contracts.units import counted

    newest, count, unreadable = deque[dict[str, Any]](maxlen=limit), 0, 0
    for line in _lines(path):
        entry = entry_of(line.removesuffix(b"\n"))
        if entry is None:
            unreadable += 1
        elif _matches(entry, since, actor, action):
            count += 1
            newest.append(entry)
    rows = [_row(entry) for entry in newest]
    if format_ is Format.JSON:
        print_json(list(newest))
    elif format_ is Format.CSV:
        print_csv(rows, ["number", *_FIELDS, "details", "previous", "hash"])
    elif rows:
        print_table(rows, _COLUMNS, title="Audit log")
    else:
        note(f"No such entries in {path}.")
    if count > limit:
        note(f"The newest {limit:,} of {count:,} entries: see --limit.")
    if unreadable:
        lines = counted(unreadable, "line", "is no entry", "are no entries")
        note(f"{lines}: wattlog audit log --verify names the first.")


def _matches(entry: dict[str, Any], since: str, actor: str | None, action: str | None) -> bool:
    own = str(entry.get("action", ""))
    in_action = action is None or own == action or own.startswith(f"{action}.")
    return in_action and (actor is None or entry.get("actor") == actor) and str(entry.get("at", "")) >= since


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    details = {name: value for name, value in entry.items() if name not in (*_FIELDS, *_CHAIN)}
    return entry | {"details": " ".join(f"{name}={value}" for name, value in details.items())}


def _verify(path: Path, noted_head: str, *, as_json: bool) -> int:
    from access.audit_chain import verify

    verdict = verify(_lines(path), noted_head)
    fault = verdict.fault
    if noted_head and verdict.head_entry is None:
        gone = f"no entry has the noted head {noted_head}: what was written up to it was cut off or replaced"
        fault = f"{fault}; {gone}" if fault else gone
    if as_json:
        print_json({
            "entries": verdict.link.number, "head": verdict.link.head, "fault": fault, "torn": verdict.torn,
            "noted_head_entry": verdict.head_entry,
        })  # fmt: skip
    else:
        _print_verdict(verdict, fault)
    return 1 if fault else 3 if verdict.torn else 0


def _print_verdict(verdict: Verdict, fault: str) -> None:
    typer.echo(f"{verdict.link.number} entries follow each other; head {verdict.link.head}")
    if verdict.head_entry is not None:
        typer.echo(f"the noted head is entry {verdict.head_entry}")
    for number in verdict.torn:
        note(f"line {number} was cut off: its writer was stopped in the middle. No entry was lost but that one.")
    if fault:
        note(f"Not in order: {fault}")


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of the log with their line feeds; of one that is too long, pieces."""
    from access.audit_chain import MAX_LINE_BYTES
    from contracts.errors import Unavailable

    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 2):
                yield line
    except FileNotFoundError:
        hint = "The first key, price, refusal or export makes it; the setting audit_log says where."
        raise Unavailable(f"There is no audit log at {path}", hint) from None


def _since(text: str | None) -> str:
    """Return the time as entries have it."""
    from contracts.errors import BadInput
    from contracts.units import epoch_ms, rfc3339

    try:
        return "" if text is None else rfc3339(epoch_ms(text))
    except ValueError:
        raise BadInput("since", text, "give RFC 3339 or a day, such as 2026-01-01") from None
