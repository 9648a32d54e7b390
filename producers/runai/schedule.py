"""Boundaries between windows: `@every 1m`, `@hourly`, or a cron expression. They are in UTC, and the same in each
run.

cronsim parses cron: it is small, typed and without dependencies, and a service built on cron uses it
(Healthchecks). It takes seconds as the first of six fields, as OpenMeter's collector does, and also goes
backwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cronsim import CronSim, CronSimError

from contracts.errors import BadInput

HINT = "give '@every 1m' (h, m, s), '@hourly', '@daily', or a cron expression of 5 fields, or 6 with seconds first"
MIN_EVERY_MS, MAX_EVERY_MS = 1_000, 24 * 3_600_000
_UNITS_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000}
_DURATION = re.compile(r"(?:(\d{1,8})([hms]))+")
_PART = re.compile(r"(\d{1,8})([hms])")
_NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


class WindowSchedule(Protocol):
    """Boundaries between windows, in UTC epoch ms."""

    def latest(self, t_ms: int) -> int:
        """Return the last boundary that is not after `t_ms`."""
        ...

    def following(self, t_ms: int) -> int:
        """Return the first boundary after `t_ms`."""
        ...


@dataclass(frozen=True)
class EverySchedule:
    """Boundaries at the multiples of a period since 1970, the same after a restart or a lost checkpoint."""

    every_ms: int

    def latest(self, t_ms: int) -> int:
        return t_ms - t_ms % self.every_ms

    def following(self, t_ms: int) -> int:
        return self.latest(t_ms) + self.every_ms


@dataclass(frozen=True)
class CronSchedule:
    """Boundaries at the times of a cron expression."""

    expression: str

    def latest(self, t_ms: int) -> int:
        # Backwards is strictly before, so start a second later: cron has whole seconds only.
        after = _time(t_ms) + timedelta(seconds=1)
        return _ms(next(CronSim(self.expression, after, reverse=True)))

    def following(self, t_ms: int) -> int:
        return _ms(next(CronSim(self.expression, _time(t_ms))))


def parse_schedule(setting: str) -> WindowSchedule:
    """Return the schedule of a setting. Raises BadInput for what is none, or has no time in the next 50 years."""
    text = setting.strip()
    if text.startswith("@every"):
        return EverySchedule(_period_ms(setting, text.removeprefix("@every").strip()))
    cron = CronSchedule(_NAMED.get(text.lower(), text))
    try:
        cron.following(0)
        cron.latest(4_000_000_000_000)
    except (CronSimError, StopIteration):
        raise BadInput("schedule", setting, HINT) from None
    return cron


def _period_ms(setting: str, period: str) -> int:
    if not _DURATION.fullmatch(period):
        raise BadInput("schedule", setting, HINT)
    every_ms = sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(period))
    if not MIN_EVERY_MS <= every_ms <= MAX_EVERY_MS:
        raise BadInput("schedule", setting, "give a period of 1s to 24h")
    return every_ms


def _time(t_ms: int) -> datetime:
    return datetime.fromtimestamp(t_ms // 1000, UTC)


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
