"""Slots: the energy of a day by hour or quarter of an hour, and of an hour by quarter, priced row by row.

Where prices change inside days, a bill would read 24 times the rows (hours), or 8,640 times (windows). Rows of
`ledger_day` and `ledger_hour` carry their energy by slot instead, so that a month of quarter-hourly prices is read from
days. Times at which a group ends, and prices that change inside a quarter, still cut days and hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.chargeback.rollups import DAYS, HOURS, OF_CUT_HOURS, WINDOWS, left_out, step_no
from warehouse.sql_files import cluster_of, sql_file

MS_PER_QUARTER = MS_PER_HOUR // 4


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a day's rows."""

    column: str
    slot_ms: int

    @property
    def count(self) -> int:
        """Return the number of slots in a day."""
        return MS_PER_DAY // self.slot_ms


BY_HOUR = Slots("hour_uj", MS_PER_HOUR)
BY_QUARTER = Slots("quarter_uj", MS_PER_QUARTER)

NO_FRAGMENTS = {
    # A single span (no price change in the period) is a constant, which costs nothing to group by.
    "span": "if(length(spans) = 1, {start_ms:Int64}, roundDown(toUnixTimestamp64Milli(c.at), spans))",
    "plain_uj": "energy_uj",
    "slot_sums": "",
    "slot_facility": "",
    "slot_cost": "",
    "slot_gco2": "",
    "lacks": """h.energy_uj != 0 AND p.tariffs = 0 AS no_tariff,
            h.energy_uj != 0 AND p.pues = 0 AS no_pue,
            h.energy_uj != 0 AND p.carbons = 0 AS no_carbon""",
    "currencies": "groupUniqArrayIf(p.currency, p.currency != '' AND h.energy_uj != 0)",
}
"""Fragments of chargeback.sql for a bill without slots."""

FRAGMENTS = {
    "span": """if(c.is_slotted, roundDown(toUnixTimestamp64Milli(c.at), stays),
                roundDown(toUnixTimestamp64Milli(c.at), spans))""",
    "plain_uj": "plain_uj",
    "slot_sums": """, sum(toInt128(c.plain_uj)) AS plain_uj,
            sum(toInt256(c.slot_facility)) AS slot_facility, sum(c.slot_cost) AS slot_cost,
            sum(c.slot_gco2) AS slot_gco2,
            groupBitOr(c.slot_marks) AS slot_marks""",
    "slot_facility": " + h.slot_facility",
    "slot_cost": " + h.slot_cost",
    "slot_gco2": " + h.slot_gco2",
    "lacks": """(h.plain_uj != 0 AND p.tariffs = 0) OR bitTest(h.slot_marks, 0) AS no_tariff,
            (h.plain_uj != 0 AND p.pues = 0) OR bitTest(h.slot_marks, 1) AS no_pue,
            (h.plain_uj != 0 AND p.carbons = 0) OR bitTest(h.slot_marks, 2) AS no_carbon""",
    "currencies": """arrayDistinct(arrayConcat(
                groupUniqArrayIf(toString(p.currency), p.currency != '' AND h.plain_uj != 0),
                arrayFilter((code, no) -> bitTest(groupBitOr(h.slot_marks), 2 + no), known_currencies,
                    arrayEnumerate(known_currencies))))""",
}
"""Fragments of chargeback.sql for a bill with slots."""

_PLAIN = {
    "slot_columns": """,
    0 AS is_slotted, t.active_uj + t.idle_uj + t.unallocated_uj AS plain_uj,
    toInt128(0) AS slot_facility, toInt256(0) AS slot_cost, toInt256(0) AS slot_gco2,
    toUInt64(0) AS slot_marks""",
    "slot_join": "",
}


def _slotted(table: Mapping[str, str], column: str, slot_ms: int, count: int, starts: str) -> dict[str, str]:
    prices = sql_file("chargeback/slot_prices").render({"starts": starts, "count": str(count), "slot_ms": str(slot_ms)})
    slots, cluster = f"t.{column}", f"toString({cluster_of('t.cluster')})"
    return {
        **table,
        "slot_columns": f""",
    1 AS is_slotted, toInt64(0) AS plain_uj,
    arraySum((uj, pue) -> toInt128(uj) * pue, {slots}, s.pues) AS slot_facility,
    arraySum((uj, rate) -> toInt256(uj) * rate, {slots}, s.cost_rates) AS slot_cost,
    arraySum((uj, rate) -> toInt256(uj) * rate, {slots}, s.gco2_rates) AS slot_gco2,
    arrayReduce('groupBitOr', arrayMap((uj, mark) -> if(uj = 0, 0, mark), {slots}, s.marks)) AS slot_marks""",
        "slot_join": f"""LEFT ANY JOIN
(
{prices}) AS s
    ON s.scope = if(has(scopes, {cluster}), {cluster}, '*')
    AND s.at_ms = toUnixTimestamp64Milli(t.{table["time"]})""",
    }


def slot_rows(by: Sequence[str], slots: Slots, *, with_hours: bool, with_windows: bool) -> str:
    """Return the SQL of the rows that chargeback.sql adds up, where `slot_cuts` are in scope.

    As `rollups.rollup_rows`, but days and hours in which only prices change are priced by slot. `with_hours` says
    whether there may be any that are read from hours.
    """
    day, hour = step_no("day", MS_PER_DAY), step_no("hour", MS_PER_HOUR)
    of_cut_days = "1" if "hour" in by else f"{step_no('hour', MS_PER_DAY)} IN (SELECT arrayJoin(cut_days))"
    hours = {**HOURS, "only": f"NOT has(cut_hours, {hour}) AND NOT has(price_hours, {hour}) AND {of_cut_days}"}
    tables = [hours | _PLAIN] if with_hours else []
    if with_hours and slots is BY_QUARTER:
        priced = {**HOURS, "only": f"NOT has(cut_hours, {hour}) AND has(price_hours, {hour}) AND {of_cut_days}"}
        starts = f"arrayMap(no -> no * {MS_PER_HOUR}, price_hours)"
        tables.append(_slotted(priced, "quarter_uj", MS_PER_QUARTER, 4, starts))
    if "hour" not in by:
        days = {**DAYS, "only": f"NOT has(cut_days, {day}) AND NOT has(price_days, {day})"}
        priced = {**DAYS, "only": f"NOT has(cut_days, {day}) AND has(price_days, {day})"}
        starts = f"arrayMap(no -> no * {MS_PER_DAY}, price_days)"
        tables += [days | _PLAIN, _slotted(priced, slots.column, slots.slot_ms, slots.count, starts)]
    if with_windows:
        tables.append({**WINDOWS, "only": OF_CUT_HOURS} | _PLAIN)
    lacks = [] if with_windows else ["cut_hours"]
    if not with_hours:
        lacks.append("cut_days")
    for cuts in lacks:
        tables[0] = {**tables[0], "only": f"{tables[0]['only']} AND {left_out(cuts)}"}
    return "\nUNION ALL\n".join(sql_file("chargeback/rollup_rows").render(table) for table in tables)
