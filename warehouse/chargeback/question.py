"""The question of a bill: which tables it reads, and how their rows are priced, as the fragments of chargeback.sql."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.errors import BadQuery
from contracts.units import rfc3339
from warehouse.calendar_steps import step_parameters
from warehouse.chargeback import slots, token_kinds
from warehouse.chargeback.dimensions import grouping
from warehouse.chargeback.pricing import KINDS, within_windows
from warehouse.chargeback.references import CURRENT, References, prices_between
from warehouse.chargeback.rollups import CUTS, OF_CUT_HOURS, Cuts, cuts_of, rollup_rows
from warehouse.cursors import Key
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.sql_files import sql_file

MAX_DIVIDED = 10_000
"""Clusters and times at which prices change inside windows, in one question."""


def question_of(
    reader: LedgerReader,
    period: Period,
    by: tuple[str, ...],
    filter: Filter,
    limit: int,
    after: Key,
    references: References = CURRENT,
    *,
    per_million: bool = False,
) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return the question of a chargeback: its name, its fragments and its parameters."""
    span: dict[str, Any] = {"start_ms": period.start, "end_ms": period.end, **references.parameters}
    by_group = grouping(by, references)
    breaks = {"breaks": by_group["breaks"], "prices": references.prices}
    spans = sql_file("chargeback/spans").render(breaks)
    span |= step_parameters(by, period)
    cuts = cuts_of(reader, period, filter, by_group["breaks"], step_parameters(by, period), references)
    if per_million:
        reads = _Reads(sql_file("chargeback/kind_rows").render(), CUTS, cuts.in_quarters or cuts.in_hours)
    elif cuts.in_days:
        reads = _slotted(reader, by, filter, cuts, spans, breaks, span)
    else:
        reads = _Reads(rollup_rows(by, with_windows=cuts.in_quarters), CUTS, cuts.in_quarters)
    divided = _divided(reader, filter, span, reads, spans, references) if reads.windows else []
    priced = slots.FRAGMENTS if reads.parameters else slots.NO_FRAGMENTS
    fragments = {
        "charges": reads.charges,
        **(token_kinds.FRAGMENTS if per_million else token_kinds.NO_FRAGMENTS),
        **priced,
        "spans": spans,
        "cuts": reads.cuts,
        "divided": _DIVIDED.replace("$plain_uj", priced["plain_uj"]) if divided else _UNDIVIDED,
        **by_group,
    }
    # The engine refuses a parameter that the SQL does not use.
    only_divided = {"divided": divided} if divided else {}
    return (
        "chargeback/chargeback",
        fragments,
        {**span, **reads.parameters, **only_divided, "after": after, "limit": limit + 1},
    )


@dataclass(frozen=True, slots=True)
class _Reads:
    """The rows that a bill adds up."""

    charges: str
    cuts: str
    """SQL of the days and hours that are read from a finer table."""
    windows: bool
    """Whether some are windows, inside which a price may change."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _slotted(
    reader: LedgerReader,
    by: tuple[str, ...],
    filter: Filter,
    cuts: Cuts,
    spans: str,
    breaks: Mapping[str, str],
    span: Mapping[str, Any],
) -> _Reads:
    """Return the rows of a period in which prices change inside days."""
    of_day = slots.BY_QUARTER if cuts.in_hours else slots.BY_HOUR
    slot_cuts = sql_file("chargeback/slot_cuts").render(breaks)
    (row,) = reader.ask(
        "chargeback/unslotted",
        filter,
        fragments={"spans": spans, "slot_cuts": slot_cuts, "day_slots": of_day.column},
        **span,
        unslotted_days=[],
        unslotted_hours=[],
        day_count=of_day.count,
        by_hour="hour" in by,
    )
    with_windows = cuts.in_quarters or bool(row["hours"])
    with_hours = with_windows or cuts.groups_in_days or bool(row["days"]) or "hour" in by
    return _Reads(
        slots.slot_rows(by, of_day, with_hours=with_hours, with_windows=with_windows),
        slot_cuts,
        with_windows,
        {"unslotted_days": row["days"], "unslotted_hours": row["hours"]},
    )


_UNDIVIDED = "[]::Array(String)"
_DIVIDED = """if(h.$plain_uj = 0, [], arrayFilter(
                kind -> has({divided:Array(String)}, concat(kind, ' ', cluster, ' ', toString(h.span))),
                ['energy', 'pue', 'carbon']))"""


def _divided(
    reader: LedgerReader,
    filter: Filter,
    span: Mapping[str, Any],
    reads: _Reads,
    spans: str,
    references: References,
) -> list[str]:
    """Return where prices change inside windows: kind, cluster and span, in the form that chargeback.sql takes."""
    windows = reader.ask(
        "chargeback/divided_windows",
        filter,
        fragments={"spans": spans, "cuts": reads.cuts, "only": OF_CUT_HOURS},
        **span,
        **reads.parameters,
        limit=MAX_DIVIDED + 1,
    )
    if len(windows) > MAX_DIVIDED:
        raise BadQuery(
            "period",
            rfc3339(span["start_ms"]),
            f"prices change inside windows at more than {MAX_DIVIDED} times: ask less",
        )
    book = prices_between(
        reader,
        [window["cluster"] for window in windows],
        min((window["from_ms"] for window in windows), default=0),
        max((window["until_ms"] for window in windows), default=0),
        references,
    )
    return [
        f"{kind} {window['cluster']} {window['span']}"
        for window in windows
        for kind in KINDS
        if book.find(kind, window["cluster"], window["from_ms"], window["until_ms"])[1] == within_windows(kind)
    ]
