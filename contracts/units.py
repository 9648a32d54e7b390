"""Units and the conversions between them. The log and the ledger hold integers; money is Decimal.

1 J = 1 W s, 1 kWh = 3.6e6 J (SI), hence 1 kWh = 3.6e12 µJ exactly.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NewType

EpochMs = NewType("EpochMs", int)
"""UTC milliseconds since 1970-01-01."""

UJ_PER_J = 1_000_000
UJ_PER_MJ = 1_000
"""Microjoules in a millijoule, the unit of NVML's and DCGM's energy counters."""
UJ_PER_KWH = 3_600_000_000_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def kwh(energy_uj: int) -> Decimal:
    """Convert microjoules to kilowatt-hours. Decimal represents them exactly."""
    return Decimal(energy_uj) / UJ_PER_KWH


def plain_decimal(value: Decimal) -> str:
    """Return a Decimal as digits, never with an exponent (`str` may say `3E+2` for 300), with its decimal places."""
    return format(value, "f")


def shortest_decimal(value: Decimal) -> str:
    """Return a Decimal as `plain_decimal` does, without zeros at its end: `0.083`, `300`, `0`."""
    text = plain_decimal(value)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def joules(energy_uj: int) -> float:
    """Convert microjoules to joules, for people; never for the ledger."""
    return energy_uj / UJ_PER_J


def rfc3339(t_ms: int) -> str:
    """Convert epoch milliseconds to RFC 3339 in UTC, with milliseconds: `2026-11-21T00:00:00.000Z`."""
    return (_EPOCH + timedelta(milliseconds=t_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(count: int, noun: str, one: str = "", many: str = "") -> str:
    """Return a count with its noun, and with the verb for one and for many: `1 node is`, `2,000 nodes are`."""
    verb = one if count == 1 else many
    return f"{count:,} {noun}{'' if count == 1 else 's'}{f' {verb}' if verb else ''}"


def duration(ms: int) -> str:
    """Return a duration for people: `3 hours`, `90 minutes`, `1.5 seconds`."""
    for unit_ms, name in ((MS_PER_DAY, "day"), (MS_PER_HOUR, "hour"), (60_000, "minute")):
        if ms and (ms % unit_ms == 0 or ms >= 2 * unit_ms):
            count = round(ms / unit_ms, 1)
            return f"{count:g} {name}{'' if count == 1 else 's'}"
    return f"{ms / 1000:g} seconds"


def epoch_ms(text: str) -> EpochMs:
    """Convert RFC 3339 or ISO 8601 to epoch milliseconds. A time without a zone is UTC; a bare date is its midnight.

    Raises ValueError if the text is no time.
    """
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    delta = stamp - _EPOCH
    return EpochMs((delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000)
