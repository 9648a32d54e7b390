"""Edits of reference data: the rows that would change, checked against the ledger's names, and then stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from contracts.errors import BadInput
from contracts.settings import Settings
from contracts.time_zones import local_epoch_ms, zone_of
from contracts.units import rfc3339
from warehouse.client import Warehouse
from warehouse.ledger.known_names import MAX_NAMES, names_of
from warehouse.reader import LedgerReader
from warehouse.reference_data.aliases import list_aliases
from warehouse.reference_data.changes import Change, Changes, PutRow, put_changes
from warehouse.reference_data.effects import Effect, effects
from warehouse.reference_data.fields import Reading
from warehouse.reference_data.files import Problems, TextRow
from warehouse.reference_data.parsing import label_of, parse_rows
from warehouse.reference_data.prices import implausible_prices, list_prices
from warehouse.reference_data.renames import check_aliases, check_renamed, joined_prices, mirrored
from warehouse.reference_data.storage import put_and_remove, put_rows, put_versioned
from warehouse.reference_data.tables import ALIASES, PRICES, InTime, ReferenceTable, Row
from warehouse.reference_data.validity import ANY

_NAMED = 5


@dataclass(slots=True)
class Edit:
    """An edit that is checked and not stored yet."""

    table: ReferenceTable
    changes: Changes
    effects: list[Effect]
    prices: Changes = field(default_factory=Changes)
    """Changes of prices that follow from other changes, under former names of clusters."""
    notes: list[str] = field(default_factory=list)
    """Remarks for a person, one sentence each."""
    doubts: list[str] = field(default_factory=list)
    """What is stored only if a person says that it is meant, each after "it"."""

    @property
    def needs_consent(self) -> list[str]:
        """Decisions that only a person may take: other money for hours that had a price, and removals."""
        removed = len(self.changes.of("removed"))
        removals = [f"removes {removed} of the stored rows"] if removed else []
        return [str(effect) for effect in self.effects if not effect.first] + removals + self.doubts


def reading_of(settings: Settings, now_ms: int, time_zone: str | None = None, currency: str | None = None) -> Reading:
    """Return zone and defaults for texts. Raises BadInput for an unknown zone (`tz`)."""
    window_ms = settings.window_ms
    zone = zone_of(time_zone or settings.time_zone, "tz")
    return Reading(zone, -(-now_ms // window_ms) * window_ms, currency or settings.currency, window_ms)


def edit_of(
    reader: LedgerReader,
    table: ReferenceTable,
    rows: Sequence[TextRow],
    reading: Reading,
    source: str = "",
    *,
    replaces: bool = False,
    new_names: bool = False,
) -> Edit:
    """Return the edit that puts these rows; with `replaces`, all others are removed.

    `source` names their file, "" for one row of the command line. With `new_names`, names that the ledger does not have
    are not refused. Raises BadInput for a wrong row, BadRows for those of a file; nothing is stored.
    """
    problems = Problems(source)
    stored = table.stored(reader)
    puts = parse_rows(table, stored, rows, reading, problems)
    if not new_names:
        _check_names(reader, table, puts, problems)
    if table.in_time is InTime.VERSIONS:
        _check_versions(table, stored, puts, problems)
    problems.check(len(rows))
    if table is ALIASES:
        check_aliases(reader, stored, puts, problems)
    if table is PRICES:
        check_renamed(list_aliases(reader), puts, problems)
    problems.check(len(rows))
    changes = put_changes(table, stored, puts, problems, replaces=replaces)
    prices = list_prices(reader) if table is ALIASES else []
    follow = joined_prices(stored, prices, changes, problems) if table is ALIASES else Changes()
    problems.check(len(rows))
    _check_removals(reader, table, changes)
    zone = reading.zone.key
    touched = effects(reader, PRICES, prices, follow, zone) + effects(reader, table, stored, changes, zone)
    edit = Edit(table, changes, touched, follow)
    edit.notes += _notes(table, rows, puts, changes, reading)
    if table is PRICES:
        edit.doubts += implausible_prices([change.after for change in changes.changes if not change.follows])
    return edit


def removal_of(reader: LedgerReader, table: ReferenceTable, texts: Mapping[str, str], reading: Reading) -> Edit:
    """Return the edit that removes the row of a key. Raises BadInput with the nearest where there is none."""
    stored = table.stored(reader)
    key = []
    for attribute in table.key:
        one = table.field(attribute)
        if one.name not in texts:
            starts = [row for row in stored if _matches(table, row, texts)]
            if len(starts) == 1:
                key.append(getattr(starts[0], attribute))
                continue
            fix = f"give one of {', '.join(one.form.show(getattr(row, attribute)) for row in starts[:5])}"
            raise BadInput(one.label, "", fix if starts else "there is no such row")
        try:
            key.append(one.form.read(texts[one.name], reading))
        except BadInput as error:
            raise BadInput(one.label, texts[one.name], error.fix) from None
        except ValueError as error:
            raise BadInput(one.label, texts[one.name], str(error)) from None
    rows = {table.key_of(row): row for row in stored}
    if (row := rows.get(tuple(key))) is None:
        subject = " ".join(texts.get(table.field(name).name, "") for name in table.key).strip()
        nearest = get_close_matches(subject, [table.subject(one) for one in stored], 1, 0)
        raise BadInput(table.noun, subject, f"there is none{f'; the nearest is {nearest[0]}' if nearest else ''}")
    changes = Changes([Change(row, None)])
    _check_removals(reader, table, changes)
    return Edit(table, changes, effects(reader, table, stored, changes, reading.zone.key))


def store_edit(reader: LedgerReader, edit: Edit) -> None:
    """Store the changes of an edit: puts and marked removals in one insert."""
    warehouse, table = reader.operator_warehouse(), edit.table
    if edit.prices.changes:
        _store_marked(warehouse, PRICES.table, edit.prices)
    if table.marks_deleted:
        changes = mirrored(list_aliases(reader), edit.changes) if table is PRICES else edit.changes
        _store_marked(warehouse, table.table, changes)
        return
    puts = [change.after for change in edit.changes.changes if change.after is not None]
    removals = [change.before for change in edit.changes.of("removed")]
    if table.version:
        put_rows(warehouse, table.table, puts)
    else:
        put_versioned(warehouse, table.table, puts)
    if removals:
        columns = [
            f"toString(toUnixTimestamp64Milli({name.removesuffix('_ms')}))" if name.endswith("_ms") else name
            for name in table.key
        ]
        warehouse.execute(
            "reference_data/delete_rows",
            fragments={"table": table.table, "key": f"arrayStringConcat([{', '.join(columns)}], '\\n')"},
            keys=["\n".join(map(str, table.key_of(row))) for row in removals],
        )


def _store_marked(warehouse: Warehouse, table: str, changes: Changes) -> None:
    puts = [change.after for change in changes.changes if change.after is not None]
    put_and_remove(warehouse, table, puts, [change.before for change in changes.of("removed")])


def matching_rows(
    reader: LedgerReader, table: ReferenceTable, texts: Mapping[str, str], at: str | None, reading: Reading
) -> list[Row]:
    """Return the stored rows with these texts in their fields, and with `at` those that are valid then.

    Raises BadInput for a time that is none.
    """
    rows = [row for row in table.stored(reader) if _matches(table, row, texts)]
    if at is None:
        return rows
    try:
        datetime.fromisoformat(at)
        at_ms = local_epoch_ms(at, reading.zone)
    except ValueError:
        raise BadInput("at", at, "give RFC 3339 or a day, such as 2026-12-01") from None
    if table.in_time is InTime.STEPS:
        last = {table.group_of(row): row for row in rows if row.valid_from_ms <= at_ms}
        return list(last.values())
    return [row for row in rows if getattr(row, "valid_from_ms", 0) <= at_ms < getattr(row, "valid_to_ms", at_ms + 1)]


def _matches(table: ReferenceTable, row: Row, texts: Mapping[str, str]) -> bool:
    return all(table.field(name).form.show(getattr(row, table.field(name).attribute)) == text
               for name, text in texts.items())  # fmt: skip


def _check_names(reader: LedgerReader, table: ReferenceTable, puts: Sequence[PutRow], problems: Problems) -> None:
    for attribute, column in table.names.items():
        known: set[str] | None = None
        for put in puts:
            name = getattr(put.row, attribute)
            if name == ANY:
                continue
            if known is None:
                known = names_of(reader, column)
            if name not in known and len(known) < MAX_NAMES:
                nearest = get_close_matches(name, known, 1)
                hint = f"did you mean {nearest[0]}? " if nearest else ""
                problems.add(BadInput(
                    label_of(table, put.place, attribute), name,
                    f"{hint}The ledger has no {column} of this name; --new stores it all the same",
                ))  # fmt: skip


def _check_versions(table: ReferenceTable, stored: Sequence[Row], puts: Sequence[PutRow], problems: Problems) -> None:
    """Refuse a changed row under a version that its group has had: ledger rows name it."""
    known = set(stored)
    versions: dict[Any, set[int]] = {}
    for row in stored:
        versions.setdefault(table.group_of(row), set()).add(getattr(row, table.version))
    for put in puts:
        mine, version = versions.setdefault(table.group_of(put.row), set()), getattr(put.row, table.version)
        if put.row not in known and version in mine:
            problems.add(BadInput(
                label_of(table, put.place, table.version), version,
                f"a changed row needs a new version: {max(mine) + 1} or more, or leave it out",
            ))  # fmt: skip
        mine.add(version)


def _check_removals(reader: LedgerReader, table: ReferenceTable, changes: Changes) -> None:
    """Raise BadInput for the removal of a version that ledger rows name: their explanation would have no figure."""
    for row in [change.before for change in changes.of("removed")] if table.version else ():
        assert row is not None
        version = getattr(row, table.version)
        if reader.ask(
            "reference_data/named_versions", fragments={"version": table.version}, version=version,
            of_hardware=row.hardware, of_model=getattr(row, "model", ANY),
        ):  # fmt: skip
            raise BadInput(
                table.noun, table.subject(row),
                f"ledger rows name its version {version}: set another figure from a later time, or give it an end",
            )  # fmt: skip


def _notes(
    table: ReferenceTable, rows: Sequence[TextRow], puts: Sequence[PutRow], changes: Changes, reading: Reading
) -> list[str]:
    notes = []
    new = [change.after for change in changes.changes if change.after is not None and not change.follows]
    undated = any(not row.texts.get("valid_from") for row in rows) and "valid_from_ms" in table.key
    if undated and any(row.valid_from_ms == reading.start_ms for row in new):
        notes.append(
            f"Counts from {rfc3339(reading.start_ms)}, the next window, where no start is given. Time before that "
            "stays as it is; --from always would include all of it."
        )
    notes += _open_ends(table, puts, changes)
    if reading.local_times:
        notes.append(f"Times without an offset are of {reading.zone.key}.")
    if table is ALIASES and changes.changes:
        notes.append(
            "Bills, efficiency, forecasts, usage and the fleet now read all rows under the cluster's name, also those "
            "of the past. Its prices apply to them; former prices go on until its own begin. Windows, requests and "
            "SQL show names as they are stored."
        )
    if table.in_time is InTime.VERSIONS and changes.changes:
        notes.append(
            "Windows are attributed with it once the workers have started again. Stored rows stay as they are; a "
            "replay of windows in its validity would give others."
        )
    return notes


def _open_ends(table: ReferenceTable, puts: Sequence[PutRow], changes: Changes) -> list[str]:
    """Return a note on the last rows of series, where they have no end: each may hold for long."""
    last = {table.group_of(put.row): put for put in puts}
    counts = Counter(table.group_of(put.row) for put in puts)
    after = {table.key_of(change.after): change.after for change in changes.changes if change.after is not None}
    end = table.field("valid_to_ms").form if table.in_time is InTime.DISJOINT else None
    if end is None:
        return []
    subjects = [
        f"{table.subject(row)} to {end.show(row.valid_to_ms) or 'further notice'}"
        for group, put in last.items()
        if put.is_open and counts[group] > 1 and (row := after.get(table.key_of(put.row))) is not None
    ]
    more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
    return [f"Last rows without a valid_to hold: {', '.join(subjects[:_NAMED])}{more}."] if subjects else []
