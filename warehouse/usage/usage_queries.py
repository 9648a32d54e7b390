"""Metered quantities by meter, tenant, place and time.

Readers, periods, pages and errors are as in `chargeback_queries`. A row counts whole in the hour, day and month of its
last millisecond, and in a period that holds it: an hour's GPU minutes, `[10:00, 11:00)`, count in the hour of 10:00.
Splitting a row that spans more is its producer's task, which knows how the quantity spread over it. Sums are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from contracts.checks import MAX_TEXT
from contracts.errors import BadQuery
from contracts.units import shortest_decimal
from warehouse.calendar_steps import STEPS, step_parameters, step_sql
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import UsageGroup
from warehouse.sql_files import cluster_of

BUCKETS = ("hour", *STEPS)
_ALL = Filter()
_FIRST_PAGE = PageRequest()
KEY = "dimensions."
MAX_KEYS = 5
"""Dimension keys in one question."""

_GROUP_SQL: Mapping[str, tuple[str, str]] = {
    "tenant": ("u.tenant AS of_tenant", "toString(g.of_tenant)"),
    "cluster": (f"{cluster_of('u.cluster')} AS of_cluster", "toString(g.of_cluster)"),
    "workload": ("u.workload AS of_workload", "toString(g.of_workload)"),
    "hour": ("toStartOfHour(u.at) AS of_hour", "formatDateTime(g.of_hour, '%Y-%m-%dT%H:00:00Z')"),
    **{name: step_sql(name, "toUnixTimestamp64Milli(u.at)", "g") for name in STEPS},
}
"""By name: SQL over the rows `u`, and text over the sums `g`."""
GROUPS = ("tenant", "cluster", "workload", "meter")
"""Names that usage can be grouped by, beside `dimensions.KEY`. It is always grouped by meter and unit."""


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """Return the groups, each once, without `meter`. Raises BadQuery for an unknown one."""
    names = tuple(dict.fromkeys(by))
    for name in names:
        key = name.removeprefix(KEY) if name.startswith(KEY) else ""
        if name not in GROUPS and not (0 < len(key) <= MAX_TEXT and key.isprintable()):
            raise BadQuery("by", name, f"group by any of {', '.join(GROUPS)}, {KEY}KEY")
    if sum(name.startswith(KEY) for name in names) > MAX_KEYS:
        raise BadQuery("by", ",".join(names), f"give at most {MAX_KEYS} keys of dimensions")
    return tuple(name for name in names if name != "meter")


def usage(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str] = (),
    bucket: str | None = None,
    filter: Filter = _ALL,
    page: PageRequest = _FIRST_PAGE,
) -> Page[UsageGroup]:
    """Return quantities by meter and unit, and by any of `GROUPS`, `dimensions.KEY` and a `bucket`.

    A row without the key counts under "". A bucket is an hour, day, week or month. Rows are sorted by bucket,
    groups, meter and unit.
    """
    if bucket is not None and bucket not in BUCKETS:
        raise BadQuery("bucket", bucket, f"give {', '.join(BUCKETS)}, or none")
    names = (*((bucket,) if bucket else ()), *check_by(by))
    question = ("usage", period, *names, reader.narrow(filter))
    after = page.after(question, [str] * (len(names) + 2))
    keys = [name.removeprefix(KEY) for name in names if name.startswith(KEY)]
    rows = reader.ask(
        "usage/usage",
        filter,
        fragments=_grouping(names),
        start_ms=period.start,
        end_ms=period.end,
        after=after or [],
        limit=page.limit + 1,
        **step_parameters(names, period),
        **{f"key_{n}": key for n, key in enumerate(keys)},
    )
    return page.cut(question, [_row(names, row) for row in rows], lambda r: _key(names, r))


def _grouping(names: Sequence[str]) -> dict[str, str]:
    """Return `$groups` and `$keys` of usage.sql, for names that passed `check_by`. Keys of dimensions are bound."""
    groups: list[str] = []
    texts: list[str] = []
    for name in names:
        if name.startswith(KEY):
            n = sum(text.startswith("g.of_key_") for text in texts)
            group, text = f"u.dimensions[{{key_{n}:String}}] AS of_key_{n}", f"g.of_key_{n}"
        else:
            group, text = _GROUP_SQL[name]
        groups.append(group)
        texts.append(text)
    return {"groups": ", ".join(groups) or "1 AS of_all", "keys": ", ".join(texts)}


def _row(names: Sequence[str], row: Mapping[str, Any]) -> UsageGroup:
    groups = dict(zip(names, row["keys"], strict=True))
    dimensions = {name.removeprefix(KEY): value for name, value in groups.items() if name.startswith(KEY)}
    return UsageGroup(
        meter=row["meter"],
        unit=row["unit"],
        quantity=shortest(row["quantity"]),
        rows=row["rows"],
        simulated=bool(row["simulated"]),
        dimensions=dimensions or None,
        **{name: value for name, value in groups.items() if not name.startswith(KEY)},
    )


def _key(names: Sequence[str], row: UsageGroup) -> list[str | int]:
    dimensions = row.dimensions or {}
    groups = [dimensions[name.removeprefix(KEY)] if name.startswith(KEY) else getattr(row, name) for name in names]
    return [*groups, row.meter, row.unit]


def shortest(value: Decimal) -> Decimal:
    """Return the same number without trailing zeros, independent of the context's precision."""
    return Decimal(shortest_decimal(value))
