"""Holdings of the tables: they say whether bills, which read hours and days, have all of a period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.audit.report import shortfall
from warehouse.client import Warehouse
from warehouse.periods import Period


@dataclass(frozen=True, slots=True)
class Holdings:
    """Sums over a period, in integers: energies in microjoules.

    `hours_off_*` and `days_off_*` sum the differences of hours from their windows, and of days from their hours.
    `hours_lack_uj` and `days_lack_uj` are the same with signs: positive where bills would lack energy.
    """

    measured_uj: int
    charged_uj: int
    tokens: int
    requests: int
    provisional_rows: int
    hours_off_uj: int
    hours_lack_uj: int
    hours_off_counts: int
    days_off_uj: int
    days_lack_uj: int
    days_off_counts: int

    @property
    def shortfalls(self) -> list[str]:
        """Reasons for which bills are not those of the period's final windows; empty if they are."""
        texts = []
        if self.provisional_rows:
            texts.append(f"{self.provisional_rows} rows of windows are not final")
        if self.measured_uj != self.charged_uj:
            texts.append(f"windows charge {self.charged_uj:,} of {self.measured_uj:,} measured µJ")
        if self.hours_off_uj or self.hours_off_counts:
            texts.append(shortfall("hours", self.hours_off_uj, self.hours_lack_uj, self.hours_off_counts))
        if self.days_off_uj or self.days_off_counts:
            texts.append(shortfall("days", self.days_off_uj, self.days_lack_uj, self.days_off_counts))
        return texts


def holdings(warehouse: Warehouse, period: Period, clusters: Sequence[str]) -> Holdings:
    """Return what the tables hold of these clusters in a period, and in the full hours and days that it touches."""
    start_ms, end_ms = period.start, period.end
    (row,) = warehouse.ask(
        "audit/holdings", clusters=list(clusters), start_ms=start_ms, end_ms=end_ms,
        first_hour_ms=start_ms // MS_PER_HOUR * MS_PER_HOUR, end_hour_ms=-(-end_ms // MS_PER_HOUR) * MS_PER_HOUR,
        first_day_ms=start_ms // MS_PER_DAY * MS_PER_DAY, end_day_ms=-(-end_ms // MS_PER_DAY) * MS_PER_DAY,
    )  # fmt: skip
    return Holdings(**{name: int(value) for name, value in row.items()})
