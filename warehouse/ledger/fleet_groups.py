"""The fleet by any of cluster, node, hardware and model, over time, and compared with another period or cluster.

For operators. Errors are those of `chargeback_queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contracts.errors import BadQuery
from contracts.fiscal_calendar import CALENDAR_YEAR, FiscalCalendar
from contracts.units import MS_PER_HOUR
from warehouse.calendar_steps import STEPS, step_parameters, step_sql
from warehouse.chargeback.rollups import WINDOWS, hours_or_windows
from warehouse.filters import Filter
from warehouse.ledger.known_names import check_names
from warehouse.periods import Period, resolve_period
from warehouse.reader import LedgerReader
from warehouse.results import METHODS, FleetGroup

GROUPS = ("cluster", "node", "hardware", "model")
"""Names that the fleet can be grouped by."""
BUCKETS = ("hour", *STEPS)
MAX_ROWS = 10_000
"""Rows of one answer; more are refused."""
COMPARED_FIELDS = (
    "other_gpus", "other_energy_uj", "other_gpu_seconds", "other_mean_w", "other_utilisation_ratio", "other_idle_ratio",
    "energy_change_ratio",
)  # fmt: skip
"""Fields of `FleetGroup` of a comparison."""
_ALL = Filter()


@dataclass(frozen=True, slots=True)
class FleetGroups:
    """Rows by group, in their order, and the total, in which each GPU is counted once."""

    rows: list[FleetGroup]
    total: FleetGroup


def check_groups(by: Sequence[str], bucket: str | None) -> tuple[str, ...]:
    """Return the groups, the bucket of time first. Raises BadQuery for one that does not exist, or both node and model.

    Models are known by workload, and nodes by GPU.
    """
    for name in by:
        if name not in GROUPS:
            raise BadQuery("by", name, f"group by any of {', '.join(GROUPS)}")
    if {"node", "model"} <= set(by):
        raise BadQuery("by", ",".join(by), "a model is known by workload, not by node: leave one of the two out")
    if bucket is not None and bucket not in BUCKETS:
        raise BadQuery("bucket", bucket, f"give {', '.join(BUCKETS)}")
    return tuple(dict.fromkeys([*([bucket] if bucket else []), *by]))


def fleet_groups(
    reader: LedgerReader, period: Period, by: Sequence[str], bucket: str | None = None, filter: Filter = _ALL
) -> FleetGroups:
    """Return energy, GPUs, mean power and ratios by group. Raises BadQuery for more than MAX_ROWS.

    A GPU that moved is in each group that it was in, with the energy that it drew there; the total counts it once.
    """
    names = check_groups(by, bucket)
    steps = step_parameters(names, period)
    starts = [ms for name, value in steps.items() if name.endswith("_starts") for ms in value]
    table = WINDOWS if any(ms % MS_PER_HOUR for ms in starts) else hours_or_windows(period)
    is_by_model = "model" in names
    at_ms = f"toUnixTimestamp64Milli(g.{table['time'] if is_by_model else 'window_start'})"
    groups, keys = zip(*(_dimension(name, at_ms) for name in names), strict=True) if names else ((), ())
    rows = reader.ask(
        "ledger/fleet_models" if is_by_model else "ledger/fleet_groups",
        filter,
        fragments={
            **table,
            "only": table["only"].replace("t.", "g.") if is_by_model else table["only"],
            "groups": "".join(f"{group}, " for group in groups if group),
            "keys": ", ".join(keys),
        },
        start_ms=period.start,
        end_ms=period.end,
        limit=MAX_ROWS + 2,
        **steps,
    )
    if len(rows) > MAX_ROWS + 1:
        raise BadQuery("by", ",".join(names), f"more than {MAX_ROWS} rows: group more coarsely, or narrow the period")
    by_total = {bool(row["is_total"]): row for row in rows if row["is_total"] or not names}
    total = _group((), by_total[True]) if by_total.get(True) else _NOTHING
    return FleetGroups([_group(names, row) for row in rows if names and not row["is_total"]], total)


def _dimension(name: str, at_ms: str) -> tuple[str, str]:
    """Return the SQL of a group over the facts `g`, if the question has it not anyway, and its text over `h`."""
    if name in GROUPS:
        return "", f"toString(h.{name})"
    if name == "hour":
        text = "formatDateTime(fromUnixTimestamp64Milli(h.hour_no * 3600000, 'UTC'), '%Y-%m-%dT%H:00:00Z')"
        return "", text
    return step_sql(name, at_ms, "h")


def _group(names: Sequence[str], row: Mapping[str, Any]) -> FleetGroup:
    energy_uj, covered_ms = row["energy_uj"], row["covered_ms"]
    return FleetGroup(
        gpus=row["gpus"],
        energy_uj=energy_uj,
        gpu_seconds=row["gpu_ms"] / 1000,
        mean_w=energy_uj / covered_ms / 1000 if covered_ms else None,  # 1 µJ/ms = 1 mW
        utilisation_ratio=row["utilisation_ratio"],
        idle_ratio=row["idle_uj"] / row["known_uj"] if row["known_uj"] else None,
        unallocated_ratio=row["unallocated_uj"] / energy_uj if energy_uj else 0.0,
        method=METHODS[row["method"]],
        simulated=bool(row["simulated"]),
        **dict(zip(names, row["keys"], strict=True)),
    )


_NOTHING = FleetGroup(
    gpus=0, energy_uj=0, gpu_seconds=0.0, mean_w=None, utilisation_ratio=None, idle_ratio=None, unallocated_ratio=0.0,
    method=METHODS[0], simulated=False,
)  # fmt: skip


def fleet_columns(names: Sequence[str], *, compared: bool) -> list[str]:
    """Return the fields that rows grouped by `names` show, in order."""
    hidden = {*GROUPS, *BUCKETS, *(() if compared else COMPARED_FIELDS)}
    return [*names, *(name for name in FleetGroup.__dataclass_fields__ if name not in hidden)]


def grouped_fleet(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str],
    bucket: str | None = None,
    compare: str | None = None,
    filter: Filter = _ALL,
    fiscal: FiscalCalendar = CALENDAR_YEAR,
) -> FleetGroups:
    """Return `fleet_groups`, or with `compare` `compared_fleet`, which has no buckets of time."""
    if compare is None:
        return fleet_groups(reader, period, by, bucket, filter)
    if bucket is not None:
        raise BadQuery("bucket", bucket, "leave it out where two periods or clusters are compared")
    check_groups(by, None)
    return compared_fleet(reader, period, by, compare, filter, fiscal)


def compared_fleet(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str],
    other: str,
    filter: Filter = _ALL,
    fiscal: FiscalCalendar = CALENDAR_YEAR,
) -> FleetGroups:
    """Return the groups of a period with the figures of another period, or of another cluster, beside them.

    `other` is the name of a period, or else of a cluster, which takes `filter.cluster` for the first. Raises BadQuery
    for a name of neither.
    """
    try:
        other_period = resolve_period(reader, other, time_zone=period.time_zone, fiscal=fiscal)
        other_filter = filter
    except BadQuery:
        if not filter.cluster:
            raise BadQuery("compare", other, "give a period, or name a cluster on both sides") from None
        check_names(reader, Filter(cluster=other))
        other_period, other_filter = period, Filter(cluster=other)
        by = [name for name in by if name != "cluster"]
    first = fleet_groups(reader, period, by, filter=filter)
    second = fleet_groups(reader, other_period, by, filter=other_filter)

    def key(group: FleetGroup) -> tuple[str, ...]:
        return tuple(getattr(group, name) for name in by)

    left, right = {key(group): group for group in first.rows}, {key(group): group for group in second.rows}
    keys = sorted(left.keys() | right.keys())
    rows = [_beside(left.get(k) or _named(by, k), right.get(k) or _named(by, k)) for k in keys]
    return FleetGroups(rows, _beside(first.total, second.total))


def _named(by: Sequence[str], key: tuple[str, ...]) -> FleetGroup:
    """Return the group of this key without any GPU."""
    return replace(_NOTHING, **dict(zip(by, key, strict=True)))  # type: ignore[arg-type]


def _beside(group: FleetGroup, other: FleetGroup) -> FleetGroup:
    """Return a group with another's figures beside its own."""
    return replace(
        group,
        simulated=group.simulated or other.simulated,
        other_gpus=other.gpus,
        other_energy_uj=other.energy_uj,
        other_gpu_seconds=other.gpu_seconds,
        other_mean_w=other.mean_w,
        other_utilisation_ratio=other.utilisation_ratio,
        other_idle_ratio=other.idle_ratio,
        energy_change_ratio=group.energy_uj / other.energy_uj - 1 if other.energy_uj else None,
    )
