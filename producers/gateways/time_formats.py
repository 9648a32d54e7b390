"""Times and durations as gateways write them, in milliseconds. Pure.

A number is a time in seconds, milliseconds, microseconds or nanoseconds since 1970: its size says which, because the
four do not overlap between 1973 and 5138. A text is RFC 3339 in any case, the format of nginx and Apache, or a number.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from contracts.errors import BadInput
from contracts.events import MAX_TIME_MS

TIME_FIX = "give RFC 3339, or the time since 1970 in s, ms, us or ns"
_MAX_CHARS = 64
_SCALES = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6))
"""(bound, milliseconds of one): numbers below a bound are seconds, milliseconds, microseconds, nanoseconds."""
_CLF = re.compile(r"\[?(\d\d)/([A-Za-z]{3})/(\d{4}):(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))? ([+-])(\d\d)(\d\d)\]?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNITS_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h)")


def number_of(value: Any) -> int | float | None:
    """Return a finite number, which may be a text, or None for any other value."""
    if isinstance(value, str) and 0 < len(value) <= _MAX_CHARS and value.isascii():
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def time_ms(field: str, value: Any) -> int:
    """Return a time in epoch ms. One without a zone is UTC. Raises BadInput that names the field."""
    number = number_of(value)
    if number is not None:
        scale = next((ms for bound, ms in _SCALES if abs(number) < bound), None)
        if scale is None:
            raise BadInput(field, value, TIME_FIX)
        ms = number // round(1 / scale) if isinstance(number, int) and scale < 1 else round(number * scale)
    elif isinstance(value, str) and len(value) <= _MAX_CHARS:
        try:
            ms = round(_parse(value.strip()).timestamp() * 1000)
        except Exception:  # OverflowError of a year out of range, among others.
            raise BadInput(field, value, TIME_FIX) from None
    else:
        raise BadInput(field, value, TIME_FIX)
    if not 0 <= ms <= MAX_TIME_MS:
        raise BadInput(field, value, "is outside of 1970 to 9999")
    return int(ms)


def duration_ms(field: str, value: Any, unit_ms: float) -> float:
    """Return a duration in ms. A number is in units of `unit_ms`, a text may name its own (`1.5s`, `1m30s`).

    Raises BadInput that names the field.
    """
    ms: float | None = None
    number = number_of(value)
    if number is not None:
        ms = float(number * unit_ms) if abs(number) < 1e18 else None
    elif isinstance(value, str) and len(value) <= _MAX_CHARS:
        parts = _PART.findall(value)
        if parts and "".join(amount + unit for amount, unit in parts) == value.strip():
            ms = sum(float(amount) * _UNITS_MS[unit] for amount, unit in parts)
    if ms is None or ms < 0 or not math.isfinite(ms):
        raise BadInput(field, value, "give a duration, 0 or more")
    return ms


def _parse(text: str) -> datetime:
    """Return the time that a text says. Raises ValueError, or what datetime raises."""
    match = _CLF.fullmatch(text)
    if match is None:
        time = datetime.fromisoformat(text.upper())
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    day, month, year, hour, minute, second, fraction, sign, zone_h, zone_m = match.groups()
    offset = timedelta(hours=int(zone_h), minutes=int(zone_m)) * (-1 if sign == "-" else 1)
    micros = int((fraction or "0").ljust(6, "0"))
    return datetime(
        int(year), _MONTHS.index(month.lower()) + 1, int(day), int(hour), int(minute), int(second), micros,
        timezone(offset),
    )  # fmt: skip
