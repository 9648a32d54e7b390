"""Units in headers and cells, converted exactly: power to microwatts, energy to microjoules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

POWER_UNITS: Mapping[str, int] = {
    "W": 10**6, "mW": 10**3, "uW": 1, "µW": 1, "μW": 1, "kW": 10**9,
    "watt": 10**6, "watts": 10**6, "milliwatt": 10**3, "milliwatts": 10**3, "kilowatt": 10**9, "kilowatts": 10**9,
    "microwatt": 1, "microwatts": 1,
}  # fmt: skip
"""Microwatts in a unit of power."""
ENERGY_UNITS: Mapping[str, int] = {
    "J": 10**6, "mJ": 10**3, "uJ": 1, "µJ": 1, "μJ": 1, "kJ": 10**9, "MJ": 10**12, "Ws": 10**6,
    "Wh": 3_600 * 10**6, "mWh": 3_600 * 10**3, "kWh": 3_600 * 10**9,
    "joule": 10**6, "joules": 10**6, "millijoule": 10**3, "millijoules": 10**3, "kilojoule": 10**9,
    "kilojoules": 10**9, "microjoule": 1, "microjoules": 1,
}  # fmt: skip
"""Microjoules in a unit of energy."""
TIME_UNITS: Mapping[str, int] = {
    "ms": 1, "msec": 1, "milliseconds": 1, "s": 10**3, "sec": 10**3, "secs": 10**3, "second": 10**3, "seconds": 10**3,
    "min": 60_000, "minute": 60_000, "minutes": 60_000, "h": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
}  # fmt: skip
"""Milliseconds in a unit of time."""
POWER_FIX = "write W, mW, uW or kW"
ENERGY_FIX = "write J, mJ, uJ, kJ, MJ, Wh, mWh or kWh"
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?)\s*(\D*)", re.ASCII)
_BRACKETS = re.compile(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]")
_SUFFIX = re.compile(r"(.*)[_ .]([A-Za-zµμ]+)")


class Header(NamedTuple):
    """A header: its name in lower case, with `_` for every separator and without its unit; its unit, "" without."""

    name: str
    unit: str


def parse_header(cell: str) -> Header:
    """Return the name and unit of a header such as `power.draw [W]`, `Power (mW)` or `energy_mj`.

    A unit in brackets counts before one at the end of the name. In a name that is all upper or all lower case, `MJ` and
    `mj` are millijoules, since case says nothing there.
    """
    name, unit = cell.strip(), ""
    if brackets := _BRACKETS.fullmatch(name):
        name, unit = brackets[1], brackets[2]
    if (suffix := _SUFFIX.fullmatch(name)) and (plain := _suffix_unit(name, suffix[2])):
        name, unit = suffix[1], unit or plain
    return Header(re.sub(r"[ .\-]+", "_", name.strip().lower()), unit)


def _suffix_unit(name: str, suffix: str) -> str:
    """Return the unit at the end of a name, or "" if it is none."""
    units = {**POWER_UNITS, **ENERGY_UNITS, **TIME_UNITS}
    if suffix in units and not name.isupper():
        return suffix
    return _IGNORING_CASE.get(suffix.lower(), "")


_IGNORING_CASE = {
    unit.lower(): unit for unit in (*TIME_UNITS, *POWER_UNITS, "J", "uJ", "µJ", "kJ", "mJ", "Wh", "kWh", "mWh",
                                    *(unit for unit in ENERGY_UNITS if len(unit) > 4))
}  # fmt: skip


def scale_of(unit: str, units: Mapping[str, int]) -> int | None:
    """Return how many of the smallest unit make one of `unit`, or None for a unit that is not among `units`.

    Case is ignored where it decides nothing: `w` is W, but `MW` is no unit that a GPU needs.
    """
    if unit in units:
        return units[unit]
    if unit.startswith("MW"):
        return None
    return units.get(_IGNORING_CASE.get(unit.lower(), ""))


def quantity(text: str, units: Mapping[str, int], scale: int | None, fix: str) -> int:
    """Return a cell such as `300.12 W` or `300.12` in whole smallest units; `scale` is that of a cell without a unit.

    Raises ValueError, which says what would be right.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        decimal_comma = re.fullmatch(r"[\d.]+,\d+\s*\D*", text, re.ASCII)
        raise ValueError("write a decimal point, not a comma" if decimal_comma else "not a number")
    unit = match[2].strip()
    if unit:
        scale = scale_of(unit, units)
        if scale is None:
            raise ValueError(f"unknown unit {unit}: {fix}")
    elif scale is None:
        raise ValueError(f"no unit here or in the header: {fix}")
    try:
        amount = Decimal(match[1]) * scale
        if amount.adjusted() > 40:
            raise ValueError("too large")
        return round(amount)
    except ArithmeticError:
        raise ValueError("not a number") from None
