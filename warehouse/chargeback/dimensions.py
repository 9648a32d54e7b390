"""What a chargeback can be grouped by, as SQL for queries/chargeback.sql.

Rows are grouped by `raw`, which is cheap, and only the few sums that come of it get `text`: text in every case, so that
one sort key fits all groupings; times as text sort as times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.errors import BadQuery


@dataclass(frozen=True, slots=True)
class _Dimension:
    raw: str
    """Name and SQL over the facts `f`, whose time is `f.at`: what the text depends on, and hardly finer."""
    text: str
    """SQL over the sums `h` and, for what belongs to a tenant, `who`."""


_TENANT = "f.tenant AS of_tenant"
_FOUND: Mapping[str, _Dimension] = {
    "tenant": _Dimension(_TENANT, "toString(h.of_tenant)"),
    "team": _Dimension(_TENANT, "toString(who.team)"),
    "cost_centre": _Dimension(_TENANT, "toString(who.cost_centre)"),
    "cluster": _Dimension("f.cluster AS of_cluster", "toString(h.of_cluster)"),
    "workload": _Dimension("f.workload AS of_workload", "toString(h.of_workload)"),
    "model": _Dimension("f.model AS of_model", "toString(h.of_model)"),
    "hardware": _Dimension("f.hardware AS of_hardware", "toString(h.of_hardware)"),
    "hour": _Dimension(
        "intDiv(toUnixTimestamp64Milli(f.at), 3600000) AS hour_no",
        "formatDateTime(fromUnixTimestamp64Milli(h.hour_no * 3600000, 'UTC'), '%Y-%m-%dT%H:00:00Z')",
    ),
    "day": _Dimension(
        "intDiv(toUnixTimestamp64Milli(f.at), 86400000) AS day_no",
        "formatDateTime(fromUnixTimestamp64Milli(h.day_no * 86400000, 'UTC'), '%Y-%m-%d')",
    ),
    "month": _Dimension(
        "toYYYYMM(f.at) AS month_no",
        "concat(toString(intDiv(h.month_no, 100)), '-', leftPad(toString(h.month_no % 100), 2, '0'))",
    ),
}
DIMENSIONS = tuple(_FOUND)
"""What a chargeback can be grouped by."""

_WHO = "LEFT ANY JOIN (SELECT tenant, team, cost_centre FROM tenants FINAL) AS who ON who.tenant = h.of_tenant"


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """The dimensions, each once. BadQuery for one that there is not."""
    for name in by:
        if name not in _FOUND:
            raise BadQuery("by", name, f"group by any of {', '.join(DIMENSIONS)}")
    return tuple(dict.fromkeys(by))


def grouping(by: Sequence[str]) -> dict[str, str]:
    """What chargeback.sql leaves open: `$groups`, `$keys` and `$who`, for dimensions that `check_by` let pass."""
    # Every sum is of one cluster, because prices are a cluster's.
    raw = dict.fromkeys([*(_FOUND[name].raw for name in by), _FOUND["cluster"].raw])
    return {
        "groups": ", ".join(raw),
        "keys": ", ".join(_FOUND[name].text for name in by),
        "who": _WHO if {"team", "cost_centre"} & set(by) else "",
    }
