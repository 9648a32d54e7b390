"""Texts of rows to rows: values, defaults and checks, with errors that name the field as people know it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

from contracts.errors import BadInput
from warehouse.reference_data.changes import PutRow
from warehouse.reference_data.fields import Reading
from warehouse.reference_data.files import Problems, TextRow, placed
from warehouse.reference_data.tables import InTime, ReferenceTable, Row
from warehouse.reference_data.validity import END_MS


@dataclass(slots=True)
class _Values:
    place: str
    by_attribute: dict[str, Any]
    undated: bool = False


def parse_rows(
    table: ReferenceTable, stored: Sequence[Row], rows: Iterable[TextRow], reading: Reading, problems: Problems
) -> list[PutRow]:
    """Return the rows of texts. What is not given has its default: now, the row before it, or the next version.

    Wrong rows are problems.
    """
    parsed: list[_Values] = []
    for row in rows:
        values: dict[str, Any] = {}
        with problems.collected():
            for one in table.fields:
                if (text := row.texts.get(one.name)) is not None and (text or not _has_default(table, one.attribute)):
                    values[one.attribute] = _value(table, row, one.name, text, reading)
            parsed.append(_Values(row.place, values))
    if reading.commas and reading.points:
        problems.add(BadInput(
            "value", reading.points[0], "other numbers here have a decimal comma: write all with one sign"
        ))  # fmt: skip
    return _completed(table, stored, parsed, reading, problems)


def label_of(table: ReferenceTable, place: str, attribute: str) -> str:
    """Return the name of a field: in a file its column, on the command line its option."""
    try:
        one = table.field(attribute)
    except KeyError:
        return attribute
    return placed(place, one.name) if place else one.label


def _has_default(table: ReferenceTable, attribute: str) -> bool:
    """Return True for a field whose empty text stands for its default."""
    return attribute in ("valid_from_ms", "valid_to_ms", "currency", table.version)


def _value(table: ReferenceTable, row: TextRow, name: str, text: str, reading: Reading) -> Any:
    try:
        return table.field(name).form.read(text, reading)
    except BadInput as error:
        raise BadInput(label_of(table, row.place, name), text, error.fix) from None
    except ValueError as error:
        raise BadInput(label_of(table, row.place, name), text, str(error)) from None


def _completed(
    table: ReferenceTable, stored: Sequence[Row], parsed: Sequence[_Values], reading: Reading, problems: Problems
) -> list[PutRow]:
    """Return rows with their defaults, group by group in order of time, as each may inherit from the one before."""
    for one in parsed if "valid_from_ms" in table.key else ():
        one.undated = "valid_from_ms" not in one.by_attribute
        one.by_attribute.setdefault("valid_from_ms", reading.start_ms)
    known: Mapping[Any, dict[int, Row]] = defaultdict(dict)
    for row in stored:
        known[table.group_of(row)][getattr(row, "valid_from_ms", 0)] = row
    complete = [one for one in parsed if _names_its_group(table, one, problems)]
    puts = []
    for group, members in groupby(sorted(complete, key=lambda one: _order(table, one)), lambda one: _group(table, one)):
        past = _Past(table, known[group])
        for one in members:
            with problems.collected():
                puts.append(PutRow(one.place, _row(table, one, past, reading), "valid_to_ms" not in one.by_attribute))
    return puts


class _Past:
    """Rows of a group before the next put one, which come in order of their start."""

    def __init__(self, table: ReferenceTable, stored: Mapping[int, Row]) -> None:
        self._stored = stored
        self._following = deque(sorted(stored.items()))
        self._version = table.version
        self.before: Row | None = None
        """The last row that begins before the one that was asked for."""
        self.newest = max((getattr(row, table.version) for row in stored.values()), default=0) if table.version else 0
        """The greatest version."""

    def same(self, start_ms: int) -> Row | None:
        """Return the stored row of a start, and go on to it."""
        while self._following and self._following[0][0] < start_ms:
            self.before = self._following.popleft()[1]
        return self._stored.get(start_ms)

    def next_ms(self, start_ms: int) -> int:
        """Return the start of the stored row after this time, END_MS without one. Call `same` before."""
        return next((at_ms for at_ms, _ in islice(self._following, 2) if at_ms > start_ms), END_MS)

    def put(self, row: Row) -> None:
        """Add a row that was put."""
        self.before = row
        if self._version:
            self.newest = max(self.newest, getattr(row, self._version))


def _names_its_group(table: ReferenceTable, one: _Values, problems: Problems) -> bool:
    missing = [attribute for attribute in table.key if attribute not in one.by_attribute]
    if missing:
        problems.add(BadInput(label_of(table, one.place, missing[0]), "", "give one"))
    return not missing


def _group(table: ReferenceTable, one: _Values) -> tuple[Any, ...]:
    return tuple(one.by_attribute[attribute] for attribute in table.group)


def _order(table: ReferenceTable, one: _Values) -> tuple[Any, ...]:
    return (*_group(table, one), one.by_attribute.get("valid_from_ms", 0))


def _row(table: ReferenceTable, one: _Values, past: _Past, reading: Reading) -> Row:
    """Return one row of a group, of which `past` has the others. Raises BadInput."""
    values = dict(one.by_attribute)
    start_ms = values.get("valid_from_ms", 0)
    same = past.same(start_ms)
    before = same or past.before
    if "valid_to_ms" not in values and _has(table, "valid_to_ms"):
        is_disjoint = table.in_time is InTime.DISJOINT
        values["valid_to_ms"] = (
            same.valid_to_ms if same is not None else past.next_ms(start_ms) if is_disjoint else END_MS
        )
    for attribute in table.inherited if before is not None else ():
        values.setdefault(attribute, getattr(before, attribute))
    if _has(table, "currency") and "currency" not in values:
        values["currency"] = reading.currency if values["kind"] == "energy" else ""
    counted = table.version and table.version not in values
    if counted:
        values[table.version] = past.newest + 1
    _check_given(table, one, values)
    row = table.row(**values)
    if before is not None:
        as_before = {table.version: getattr(before, table.version)} if counted else {}
        if one.undated and getattr(before, "valid_to_ms", END_MS) > start_ms:
            as_before["valid_from_ms"] = before.valid_from_ms
        if as_before and replace(row, **as_before) == before:
            row = before
    past.put(row)
    _check(table, one.place, row)
    return row


def _has(table: ReferenceTable, attribute: str) -> bool:
    return any(one.attribute == attribute for one in table.fields)


def _check_given(table: ReferenceTable, one: _Values, values: Mapping[str, Any]) -> None:
    for needed in table.fields:
        if needed.attribute not in values and not (needed.optional and needed.attribute not in table.needed):
            raise BadInput(label_of(table, one.place, needed.attribute), "", "give one: no row before has it")
    if values.get("valid_to_ms", END_MS) <= values.get("valid_from_ms", 0):
        end = table.field("valid_to_ms").form.show(values["valid_to_ms"])
        raise BadInput(label_of(table, one.place, "valid_to_ms"), end, "give a time after the start")


def _check(table: ReferenceTable, place: str, row: Row) -> None:
    try:
        row.check()
    except BadInput as error:
        raise BadInput(label_of(table, place, error.field), error.value, error.fix) from None
