"""Dimensions of a chargeback, as SQL for chargeback.sql.

Rows are grouped by `raw`, which is cheap, and only their few sums become `text`. All keys are text, so that one sort
key fits all groupings; times as text sort as times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts import events
from contracts.errors import BadQuery
from warehouse.calendar_steps import STEPS, step_sql, step_starts
from warehouse.chargeback.references import CURRENT, References


@dataclass(frozen=True, slots=True)
class _Dimension:
    raw: str
    """SQL over the charges `c`, whose time is `c.at`, and its name. The text depends on it, and it is hardly finer."""
    text: str
    """SQL over the sums `h` and, for a tenant's team and cost centre, over `account`."""


_AT_MS = "toUnixTimestamp64Milli(c.at)"
_TENANT = "c.tenant AS of_tenant"
_BY_NAME: Mapping[str, _Dimension] = {
    "tenant": _Dimension(_TENANT, "toString(h.of_tenant)"),
    "team": _Dimension(_TENANT, "toString(account.team)"),
    "cost_centre": _Dimension(_TENANT, "toString(account.cost_centre)"),
    "cluster": _Dimension("c.cluster AS of_cluster", "toString(h.of_cluster)"),
    "workload": _Dimension("c.workload AS of_workload", "toString(h.of_workload)"),
    "model": _Dimension("c.model AS of_model", "toString(h.of_model)"),
    "hardware": _Dimension("c.hardware AS of_hardware", "toString(h.of_hardware)"),
    **{name: _Dimension(f"c.{name} AS of_{name}", f"toString(h.of_{name})") for name in events.DIMENSIONS},
    "hour": _Dimension(
        f"intDiv({_AT_MS}, 3600000) AS hour_no",
        "formatDateTime(fromUnixTimestamp64Milli(h.hour_no * 3600000, 'UTC'), '%Y-%m-%dT%H:00:00Z')",
    ),
    **{name: _Dimension(*step_sql(name, _AT_MS, "h")) for name in STEPS},
}
TIMES = ("hour", *STEPS)
"""Dimensions that are steps of time."""
DIMENSIONS = tuple(_BY_NAME)
"""Names that a chargeback can be grouped by."""

_ACCOUNT = """ASOF LEFT JOIN
        (SELECT tenant, team, cost_centre, toUnixTimestamp64Milli(valid_from) AS from_ms FROM $tenants) AS account
            ON account.tenant = h.of_tenant AND account.from_ms <= h.span"""
_MOVES = """(
            SELECT groupUniqArray(toUnixTimestamp64Milli(valid_from) AS from_ms) FROM $tenants
            WHERE from_ms > {start_ms:Int64} AND from_ms < {end_ms:Int64})"""
"""SQL: the times at which tenants move to another team or cost centre."""


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions, each once. Raises BadQuery for an unknown one."""
    for name in by:
        if name not in _BY_NAME:
            raise BadQuery("by", name, f"group by any of {', '.join(DIMENSIONS)}")
    return tuple(dict.fromkeys(by))


def account_of(references: References) -> dict[str, str]:
    """Return `$account`, which joins the team and cost centre to sums `h` of a tenant, and `$breaks`, its moves."""
    moves = _MOVES.replace("$tenants", references.tenants)
    return {"account": _ACCOUNT.replace("$tenants", references.tenants), "breaks": _breaks([moves])}


def grouping(by: Sequence[str], references: References = CURRENT) -> dict[str, str]:
    """Return `$groups`, `$keys`, `$account` and `$breaks` of chargeback.sql, for dimensions that passed `check_by`."""
    # Every sum is of one cluster, because prices are a cluster's.
    by_account = bool({"team", "cost_centre"} & set(by))
    moves = _MOVES.replace("$tenants", references.tenants)
    raw = dict.fromkeys([*(_BY_NAME[name].raw for name in by), _BY_NAME["cluster"].raw])
    return {
        "groups": ", ".join(raw),
        "keys": ", ".join(_BY_NAME[name].text for name in by),
        "account": _ACCOUNT.replace("$tenants", references.tenants) if by_account else "",
        "breaks": _breaks([*([moves] if by_account else []), *step_starts(by)]),
    }


def _breaks(arrays: Sequence[str]) -> str:
    """Return the SQL of the times inside the period at which a group may end, beside those of prices."""
    if not arrays:
        return "[]::Array(Int64)"
    return f"arrayFilter(ms -> ms > {{start_ms:Int64}}, arrayConcat({', '.join(arrays)}))"
