"""The answer to an ad-hoc question: names of columns, and rows of values as JSON has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

MAX_ANSWER_BYTES = 64 * 2**20


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "Decimal": Decimal, "Float": float, "DateTime": datetime.fromisoformat, "Date": date.fromisoformat,
}  # fmt: skip
"""By how a type begins, for what the engine writes as text."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one question. More rows or bytes of an answer are refused, not cut off."""

    rows: int = 10_000
    timeout_s: int = 30
    bytes: int = MAX_ANSWER_BYTES


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns and rows. Times are aware, in UTC, and in arrays texts in RFC 3339."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def rows_of(types: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return the rows of the engine's JSON, with the types that JSON has not."""
    converters = [_converter(type_) for type_ in types]
    return [tuple(c(v) if v is not None else None for c, v in zip(converters, row, strict=True)) for row in rows]


def _converter(type_: str) -> Callable[[Any], Any]:
    inner = re.sub(r"^(?:Nullable|LowCardinality)\((?:Nullable\()?(.*?)\)+$", r"\1", type_)
    for prefix, convert in _CONVERTERS.items():
        if inner.startswith(prefix):
            return convert
    return lambda value: value


def engine_message(text: str) -> str:
    """Return the engine's own sentence without codes, versions and addresses."""
    text = text.partition("DB::Exception: ")[2] or text
    return re.split(r"\(version |\(for url |: In scope |\. In scope |, Stack trace", text)[0].strip()[:400]
