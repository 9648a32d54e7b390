"""Changes of a table of reference data: rows that are put, and the table before and after. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from contracts.errors import BadInput
from contracts.units import rfc3339
from warehouse.reference_data.files import Problems, placed
from warehouse.reference_data.tables import InTime, ReferenceTable, Row
from warehouse.reference_data.validity import END_MS


@dataclass(frozen=True, slots=True)
class PutRow:
    """A row that is put, and its place in the file."""

    place: str
    row: Row
    is_open: bool = False
    """True if no end is by_key: it is valid until the next row."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row before and after; None where there is none. `follows` from another row: it ends or resumes there."""

    before: Row | None
    after: Row | None
    follows: bool = False

    @property
    def sort(self) -> str:
        """Name of the sort of change."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass(slots=True)
class Changes:
    """Differences between a table before and after."""

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0

    def of(self, sort: str) -> list[Change]:
        """Return the changes of one sort."""
        return [change for change in self.changes if change.sort == sort]


def put_changes(
    table: ReferenceTable, stored: Sequence[Row], puts: Sequence[PutRow], problems: Problems, *, replaces: bool = False
) -> Changes:
    """Return the changes that rows make to the stored ones. with `replaces`, stored rows that are not put are removed.

    A put row without an end is valid until the next row, put or stored. A stored row that is valid until then, or until
    further notice, ends where a put one begins, and resumes where that ends. Any other overlap is a problem, as are two
    rows of one key.
    """
    after: dict[Any, Row] = {} if replaces else {table.key_of(row): row for row in stored}
    by_key: dict[Any, PutRow] = {}
    for put in puts:
        key = table.key_of(put.row)
        if key in by_key:
            problems.add(BadInput(
                put.place, table.subject(put.row), f"{by_key[key].place} has the same: keep one of the two"
            ))  # fmt: skip
        by_key[key] = put
    if table.in_time is InTime.DISJOINT:
        _make_disjoint(table, after, by_key, problems)
    after |= {key: put.row for key, put in by_key.items()}
    before = {table.key_of(row): row for row in stored}
    result = Changes(unchanged=sum(before.get(key) == put.row for key, put in by_key.items()))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            result.changes.append(Change(before.get(key), after.get(key), follows=key in after and key not in by_key))
    return result


def _make_disjoint(table: ReferenceTable, after: dict[Any, Row], by_key: dict[Any, PutRow], problems: Problems) -> None:
    """End and resume the rows of `after` and of `by_key` that are valid until further notice."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, put in by_key.items():
        groups[table.group_of(put.row)].append(key)
    old: dict[Any, list[Row]] = defaultdict(list)
    for key, row in after.items():
        if key not in by_key:
            old[table.group_of(row)].append(row)
    for group, keys in groups.items():
        keys.sort()
        for key, following in pairwise(keys):
            one, other = by_key[key], by_key[following]
            if one.is_open or one.row.valid_to_ms == END_MS:
                by_key[key] = replace(
                    one, row=replace(one.row, valid_to_ms=min(one.row.valid_to_ms, other.row.valid_from_ms))
                )
            elif one.row.valid_to_ms > other.row.valid_from_ms:
                problems.add(_overlap(table, other, one.row, f"the {table.noun} of {one.place}"))
        puts = [by_key[key] for key in keys]
        for row in old[group]:
            del after[table.key_of(row)]
            after |= {table.key_of(part): part for part in _beside(table, row, puts, problems)}


def _beside(table: ReferenceTable, row: Row, puts: Sequence[PutRow], problems: Problems) -> Iterable[Row]:
    """Return the parts of a stored row beside the put ones, which are in order of time."""
    at = bisect_left(puts, row.valid_from_ms, key=lambda put: put.row.valid_from_ms)
    if at and puts[at - 1].row.valid_to_ms > row.valid_from_ms:
        problems.add(_overlap(table, puts[at - 1], row, f"the stored {table.noun}"))
        return [row]
    following = puts[at:]
    if not following or following[0].row.valid_from_ms >= row.valid_to_ms:
        return [row]
    takes_rest = any(put.is_open and put.row.valid_to_ms == row.valid_to_ms for put in following)
    if row.valid_to_ms != END_MS and not takes_rest:
        problems.add(_overlap(table, following[0], row, f"the stored {table.noun}"))
        return [row]
    parts, start_ms = [], row.valid_from_ms
    for put in following:
        if start_ms < put.row.valid_from_ms:
            parts.append(replace(row, valid_from_ms=start_ms, valid_to_ms=put.row.valid_from_ms))
        start_ms = put.row.valid_to_ms
        if start_ms >= row.valid_to_ms:
            return parts
    return [*parts, replace(row, valid_from_ms=start_ms)]


def _overlap(table: ReferenceTable, put: PutRow, other: Row, noun: str) -> BadInput:
    """Return the error of a put row that another's validity overlaps."""
    start, end = rfc3339(other.valid_from_ms), rfc3339(other.valid_to_ms)
    if other.valid_from_ms > put.row.valid_from_ms:
        name, value, fix = "valid_to_ms", put.row.valid_to_ms, f"give {start} or before"
    else:
        name, value, fix = "valid_from_ms", put.row.valid_from_ms, f"give {end} or later"
    named = table.field(name)
    label = placed(put.place, named.name) if put.place else named.label
    scope = " ".join(map(str, table.group_of(other)))
    until = "until further notice" if other.valid_to_ms == END_MS else f"to {end}"
    return BadInput(
        label, named.form.show(value) or "further notice",
        f"{noun} of {scope} is valid from {start} {until}: {fix}, or change that one first",
    )  # fmt: skip
