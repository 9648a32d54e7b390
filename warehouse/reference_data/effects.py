"""Effects of changes on the ledger's final hours: which ones get another price, or another team, than before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from contracts.units import MS_PER_HOUR, counted, kwh
from warehouse.ledger.known_names import names_of
from warehouse.periods import newest
from warehouse.reader import LedgerReader
from warehouse.reference_data.changes import Changes
from warehouse.reference_data.tables import InTime, ReferenceTable, Row
from warehouse.reference_data.validity import ANY, END_MS

MAX_NAMED = 5
"""Clusters or tenants that one effect names."""
_UNKNOWN = None


@dataclass(frozen=True, slots=True)
class Effect:
    """Final hours of the ledger that a change touches."""

    aspect: str
    """Kind of price, or `tenant`."""
    names: tuple[str, ...]
    """Clusters or tenants."""
    hours: int
    energy_uj: int
    months: tuple[str, ...]
    first: bool
    """True where nothing was known before: an unknown cost becomes known, and none changes."""

    def __str__(self) -> str:
        names = ", ".join(self.names[:MAX_NAMED]) + (" and others" if len(self.names) > MAX_NAMED else "")
        amount = f"{counted(self.hours, 'hour')}, {kwh(self.energy_uj):,.3f} kWh ({', '.join(self.months)})"
        if self.aspect == "tenant":
            verb = "assigns for the first time" if self.first else "moves"
            return f"{verb} {amount} of {names} in bills by team or cost centre"
        verb = "prices for the first time" if self.first else "re-prices"
        return f"{verb} {amount} of {names}: {self.aspect}"


class _Span(NamedTuple):
    start_ms: int
    end_ms: int


def effects(
    reader: LedgerReader, table: ReferenceTable, stored: Sequence[Row], changes: Changes, zone: str
) -> list[Effect]:
    """Return what changes of prices or tenants do to final hours. Other tables change no stored row's money.

    Hours count whole where a change is inside them. Months are of a zone.
    """
    last = newest(reader).final_end
    touched = [row for change in changes.changes for row in (change.before, change.after) if row is not None]
    if table.in_time not in (InTime.DISJOINT, InTime.STEPS) or last is None or not touched:
        return []
    first = reader.ask("ledger/oldest")[0]["start"]
    bounds = _Span(first, -(-last // MS_PER_HOUR) * MS_PER_HOUR)
    if all(row.valid_from_ms >= bounds.end_ms for row in touched):
        return []
    after = {table.key_of(row): row for row in stored}
    for change in changes.changes:
        after[table.key_of(change.before or change.after)] = change.after
    remaining = [row for row in after.values() if row is not None]
    if table.in_time is InTime.STEPS:
        spans = _tenant_spans(stored, remaining, {row.tenant for row in touched}, bounds)
    else:
        scopes = {(row.kind, row.cluster) for row in touched}
        spans = _price_spans(stored, remaining, scopes, names_of(reader, "cluster") - {ANY, *reader.aliases}, bounds)
    return list(_summed(reader, "tenant" if table.in_time is InTime.STEPS else "cluster", spans, zone))


_Spans = Mapping[tuple[str, bool, tuple[_Span, ...]], Sequence[str]]
"""Names by aspect, whether it is the first, and the spans."""


def _summed(reader: LedgerReader, column: str, spans: _Spans, zone: str) -> Iterator[Effect]:
    for (aspect, first, pieces), names in spans.items():
        (row,) = reader.ask(
            "reference_data/touched_hours", fragments={"column": column}, names=_stored_names(reader, names), zone=zone,
            starts=[piece.start_ms for piece in pieces], ends=[piece.end_ms for piece in pieces],
        )  # fmt: skip
        if row["hours"]:
            months = tuple(f"{month // 100}-{month % 100:02d}" for month in row["months"])
            yield Effect(aspect, tuple(names), row["hours"], row["energy_uj"], months, first)


def _stored_names(reader: LedgerReader, names: Sequence[str]) -> list[str]:
    """Return names with the former names of clusters among them."""
    return [*names, *(alias for alias, cluster in reader.aliases.items() if cluster in names)]


def _price_spans(
    before: Iterable[Row], after: Iterable[Row], scopes: set[tuple[str, str]], clusters: Iterable[str], bounds: _Span
) -> _Spans:
    sides = [_by(rows, lambda row: (row.kind, row.cluster), bounds) for rows in (before, after)]
    out: dict[tuple[str, bool, tuple[_Span, ...]], list[str]] = defaultdict(list)
    for kind in sorted({kind for kind, _ in scopes}):
        named = {cluster for aspect, cluster in scopes if aspect == kind}
        own = {cluster for side in sides for aspect, cluster in side if aspect == kind}
        alike: list[str] = []
        for cluster in sorted(clusters):
            if ANY in named or cluster in named:
                if cluster not in own:
                    alike.append(cluster)
                else:
                    _add(out, kind, [cluster], sides, [(kind, cluster), (kind, ANY)], _price_value, bounds)
        if alike:
            _add(out, kind, alike, sides, [(kind, ANY)], _price_value, bounds)
    return out


def _tenant_spans(before: Iterable[Row], after: Iterable[Row], tenants: set[str], bounds: _Span) -> _Spans:
    sides = [_by(_held(rows), lambda row: row[0].tenant, bounds, lambda row: row[1:]) for rows in (before, after)]
    out: dict[tuple[str, bool, tuple[_Span, ...]], list[str]] = defaultdict(list)
    for tenant in sorted(tenants):
        _add(out, "tenant", [tenant], sides, [tenant], _account, bounds)
    return out


def _held(rows: Iterable[Row]) -> list[tuple[Row, int, int]]:
    """Return rows of tenants with the times from and until which they hold."""
    ordered = sorted(rows, key=lambda row: (row.tenant, row.valid_from_ms))
    return [
        (row, row.valid_from_ms, END_MS if other is None or other.tenant != row.tenant else other.valid_from_ms)
        for row, other in pairwise([*ordered, None])
        if row is not None
    ]


def _by(
    rows: Iterable[Any],
    scope: Callable[[Any], Any],
    bounds: _Span,
    validity: Callable[[Any], tuple[int, int]] = lambda row: (row.valid_from_ms, row.valid_to_ms),
) -> dict[Any, list[tuple[int, int, Any]]]:
    """Return rows within bounds by scope, each with its start and end, in order."""
    out = defaultdict(list)
    for row in rows:
        start_ms, end_ms = validity(row)
        if start_ms < bounds.end_ms and end_ms > bounds.start_ms:
            out[scope(row)].append((max(start_ms, bounds.start_ms), min(end_ms, bounds.end_ms), row))
    return {name: sorted(pieces, key=lambda piece: piece[0]) for name, pieces in out.items()}


def _price_value(row: Row) -> object:
    return row.value, row.currency


def _account(row: tuple[Row, int, int]) -> object:
    return (row[0].team, row[0].cost_centre) if row[0].team or row[0].cost_centre else _UNKNOWN


def _add(
    out: dict[tuple[str, bool, tuple[_Span, ...]], list[str]],
    aspect: str,
    names: Sequence[str],
    sides: Sequence[Mapping[Any, list[tuple[int, int, Any]]]],
    scopes: Sequence[Any],
    value: Callable[[Any], object],
    bounds: _Span,
) -> None:
    """Add the spans in which a value differs between two sides. The first of `scopes` with a row counts."""
    columns = [[side.get(scope, []) for scope in scopes] for side in sides]
    times = sorted({bounds.start_ms, bounds.end_ms} | {
        at_ms for column in columns for pieces in column for piece in pieces for at_ms in piece[:2]
    })  # fmt: skip
    spans_by_first: dict[bool, list[_Span]] = {True: [], False: []}
    walks = [[_Walk(pieces) for pieces in column] for column in columns]
    for start_ms, end_ms in pairwise(times):
        old, new = (_value_at(walk, start_ms, value) for walk in walks)
        if old != new:
            spans = spans_by_first[old is _UNKNOWN]
            if spans and spans[-1].end_ms == start_ms:
                spans[-1] = _Span(spans[-1].start_ms, end_ms)
            else:
                spans.append(_Span(start_ms, end_ms))
    for first, spans in spans_by_first.items():
        if spans:
            out[aspect, first, tuple(spans)].extend(names)


class _Walk:
    """Finds the row that is valid at times that only grow."""

    def __init__(self, pieces: Sequence[tuple[int, int, Any]]) -> None:
        self._pieces, self._at = pieces, 0

    def row(self, at_ms: int) -> Any:
        """Return the row, or None."""
        while self._at < len(self._pieces) and self._pieces[self._at][1] <= at_ms:
            self._at += 1
        piece = self._pieces[self._at] if self._at < len(self._pieces) else None
        return piece[2] if piece is not None and piece[0] <= at_ms else None


def _value_at(walks: Sequence[_Walk], at_ms: int, value: Callable[[Any], object]) -> object:
    for walk in walks:
        if (row := walk.row(at_ms)) is not None:
            return value(row)
    return _UNKNOWN
