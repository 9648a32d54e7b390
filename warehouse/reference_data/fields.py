"""Fields of reference data as people write them, on the command line, in CSV and in JSON: text to values and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from contracts.time_zones import local_epoch_ms
from contracts.units import rfc3339, shortest_decimal
from warehouse.reference_data.validity import END_MS, WINDOW_MS, check_whole_windows

ALWAYS = "always"
"""Start of a row that holds from the beginning."""
MAX_SOURCE = 500
"""Characters of a note or of the origin of a figure."""
_PLAIN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_COMMA = re.compile(r"-?[0-9]{1,20},[0-9]{1,20}")
_GROUPED = re.compile(r"-?[1-9][0-9]{0,2},[0-9]{3}")
_TIME = "give RFC 3339 or a day, such as 2026-12-01"


@dataclass(slots=True)
class Reading:
    """Zone and defaults under which texts are read, and what was noticed on the way."""

    zone: ZoneInfo
    start_ms: int
    """Start of the next window: a row without a start begins there."""
    currency: str = ""
    window_ms: int = WINDOW_MS
    local_times: int = 0
    """Times without an offset so far: they were read in the zone."""
    commas: int = 0
    """Numbers with a decimal comma so far."""
    points: list[str] = field(default_factory=list)
    """Numbers with a decimal point so far, the first only."""


@dataclass(frozen=True, slots=True)
class FieldForm:
    """Conversion of a field's text to a value and back. `read` raises ValueError that says what to give."""

    read: Callable[[str, Reading], Any]
    show: Callable[[Any], str] = str
    is_flag: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceField:
    """A field: the name that people use, the attribute of the row, and its form."""

    name: str
    attribute: str
    form: FieldForm
    help: str
    option: str = ""
    """Option of the command line; without one, the field is an argument."""
    optional: bool = False
    """A file may leave it out."""

    @property
    def label(self) -> str:
        """The field's name on the command line."""
        return self.option or self.name.upper()


def read_number(text: str, reading: Reading) -> Decimal:
    """Read a plain decimal number, with a point or a comma. A file has one or the other: `check_decimal_signs`."""
    if _GROUPED.fullmatch(text):
        digits, part = text.split(",")
        raise ValueError(f"this may be {digits}.{part} or {digits}{part}: write one of these")
    if _COMMA.fullmatch(text):
        reading.commas += 1
        return Decimal(text.replace(",", "."))
    if not _PLAIN.fullmatch(text):
        raise ValueError("give a plain decimal number, such as 0.083")
    if "." in text and not reading.points:
        reading.points.append(text)
    return Decimal(text)


def _thousandths(text: str, reading: Reading) -> int:
    value = read_number(text, reading)
    milli = int(value * 1000)
    if milli != value * 1000 or not 0 <= milli < 2**32:
        raise ValueError("give 0 to 4294967.295, with at most 3 decimals")
    return milli


def _version(text: str, reading: Reading) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError("give a whole number, or leave it out: the next one is taken")
    return int(text)


def _instant_ms(text: str, reading: Reading) -> int:
    try:
        stamp = datetime.fromisoformat(text)
        at_ms = local_epoch_ms(text, reading.zone)
    except (ValueError, OverflowError) as error:
        raise ValueError(str(error) if reading.zone.key in str(error) else _TIME) from None
    if stamp.microsecond % 1000:
        raise ValueError("give whole milliseconds")
    if not 0 <= at_ms <= END_MS:
        raise ValueError("give a time from 1970 to 2200")
    check_whole_windows("time", at_ms, reading.window_ms)
    reading.local_times += stamp.tzinfo is None
    return at_ms


def _start_ms(text: str, reading: Reading) -> int:
    return 0 if text == ALWAYS else _instant_ms(text, reading)


def _end_ms(text: str, reading: Reading) -> int:
    return _instant_ms(text, reading) if text else END_MS


def _words(text: str, reading: Reading) -> str:
    if len(text) > MAX_SOURCE or (text and not text.isprintable()):
        raise ValueError(f"give at most {MAX_SOURCE} printable characters")
    return text


def _flag(text: str, reading: Reading) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("give true or false")
    return text.lower() == "true"


TEXT = FieldForm(_words)
NUMBER = FieldForm(read_number, shortest_decimal)
THOUSANDTHS = FieldForm(_thousandths, lambda milli: shortest_decimal(Decimal(milli) / 1000))
VERSION = FieldForm(_version)
START = FieldForm(_start_ms, rfc3339)
END = FieldForm(_end_ms, lambda at_ms: "" if at_ms == END_MS else rfc3339(at_ms))
FLAG = FieldForm(_flag, lambda value: "true" if value else "false", is_flag=True)
