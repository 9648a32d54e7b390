"""When a window ends: `@every 1m`, `@hourly`, or a cron expression. In UTC, and the same whenever it is asked.

cronsim reads cron, because it is small, typed, without dependencies, in use by a service whose whole business is cron
(Healthchecks), takes seconds as the first of six fields as OpenMeter's collector does, and also goes backwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cronsim import CronSim, CronSimError

from contracts.errors import BadInput

MEND = "give '@every 1m' (h, m, s), '@hourly', '@daily', or a cron expression of 5 fields, or 6 with seconds first"
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
        """The last boundary that is not after `t_ms`."""
        ...

    def following(self, t_ms: int) -> int:
        """The first boundary after `t_ms`."""
        ...


@dataclass(frozen=True)
class EverySchedule:
    """Boundaries at the multiples of a period since 1970, so that a restart, or a lost mark, finds the same ones."""

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
        # Backwards means strictly before: ask from the second after, since cron knows whole seconds only.
        after = _time(t_ms) + timedelta(seconds=1)
        return _ms(next(CronSim(self.expression, after, reverse=True)))

    def following(self, t_ms: int) -> int:
        return _ms(next(CronSim(self.expression, _time(t_ms))))


def read(text: str) -> WindowSchedule:
    """Raises BadInput for what is no schedule, or has no time in the next 50 years."""
    said = text.strip()
    if said.startswith("@every"):
        return EverySchedule(_duration_ms(text, said.removeprefix("@every").strip()))
    cron = CronSchedule(_NAMED.get(said.lower(), said))
    try:
        cron.following(0)
        cron.latest(4_000_000_000_000)
    except (CronSimError, StopIteration):
        raise BadInput("schedule", text, MEND) from None
    return cron


def _duration_ms(text: str, said: str) -> int:
    if not _DURATION.fullmatch(said):
        raise BadInput("schedule", text, MEND)
    every_ms = sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(said))
    if not MIN_EVERY_MS <= every_ms <= MAX_EVERY_MS:
        raise BadInput("schedule", text, "give a period of 1s to 24h")
    return every_ms


def _time(t_ms: int) -> datetime:
    return datetime.fromtimestamp(t_ms // 1000, UTC)


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
