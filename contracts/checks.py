"""Checks of columns. Each raises BadEvent, which names the column, the row and the fix.

A column belongs to one batch, or to many batches end to end (`contracts.joined_batches`). The same checks serve both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.batch_columns import BatchColumn
from contracts.columns import I64
from contracts.errors import BadEvent

MAX_ROWS = 65_536
"""Most rows in one event."""
MAX_SPAN_MS = 6 * 3_600_000
"""Longest interval or request. Producers split longer ones, so that one row cannot touch millions of windows."""
MAX_TEXT = 253
MAX_ENERGY_UJ = 2**50
"""Most energy in one interval, about 313 kWh: far above any GPU, and far below where sums overflow int64."""
MAX_TOKENS = 2**31 - 1
MAX_TIME_MS = 253_402_300_799_999
"""Last millisecond of the year 9999, the last that RFC 3339 has. No time and no difference of two overflows int64."""
MAX_METHOD, CORRECTION = 2, 4
"""Weakest evidence of an interval that a producer may send, and a correction of intervals (`events.Method`)."""

WHOLE_DIGITS, FRACTION_DIGITS = 20, 12
"""Digits of a metered quantity: a trillion quantities sum to at most 38 digits, and a millionth of a cent is kept."""
MAX_DIMENSIONS = 32

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]


def lengths(n: int, **columns: Sized) -> None:
    """Check that every column has n rows. Raises BadEvent for the first that has not."""
    if n > MAX_ROWS:
        raise BadEvent("rows", n, f"send at most {MAX_ROWS} rows an event")
    for name, column in columns.items():
        if len(column) != n:
            raise BadEvent(name, len(column), f"every column needs {n} rows, like the others")


def sizes(**dictionaries: tuple[object, ...]) -> None:
    """Check the lengths of dictionaries. Raises BadEvent."""
    for name, values in dictionaries.items():
        if len(values) > MAX_ROWS:
            raise BadEvent(name, len(values), f"give at most {MAX_ROWS}, the ones that rows point at")


def text(name: str, values: Collection[str], *, empty: bool = True) -> None:
    """Check that texts are printable and short enough, and not empty unless they may be. Raises BadEvent."""
    lengths = set(map(len, values))
    if "".join(values).isprintable() and max(lengths, default=0) <= MAX_TEXT and (empty or 0 not in lengths):
        return
    for value in values:
        if len(value) > MAX_TEXT or not value.isprintable() or not (value or empty):
            raise BadEvent(name, value, f"give {0 if empty else 1} to {MAX_TEXT} printable characters")


def texts(columns: Sequence[BatchColumn], values: Mapping[str, Collection[str]]) -> None:
    """Check the text columns of rows, of one batch or of many, by their declarations. Raises BadEvent."""
    for c in columns:
        if c.form != "text":
            continue
        column = values[c.name]
        if c.decimal:
            decimals(c.name, column)
        elif c.payer:
            payers(c.name, column, empty=c.empty)
        else:
            text(c.name, column, empty=c.empty)


def decimals(name: str, values: Collection[str]) -> None:
    """Check that texts are plain decimal numbers. Raises BadEvent."""
    for value in values:
        if not is_decimal(value):
            raise BadEvent(
                name, value,
                f"give a plain decimal number as text, such as '12.5': at most {WHOLE_DIGITS} digits before the point "
                f"and {FRACTION_DIGITS} after it",
            )  # fmt: skip


def payers(name: str, values: Collection[str], *, empty: bool = True) -> None:
    """Check texts that name who pays. Raises BadEvent."""
    text(name, values, empty=empty)
    for value in values:
        if value.startswith("__"):
            raise BadEvent(name, value, "names that begin with '__' are Wattlog's own")


def clock(t_ms: int) -> None:
    """Check the time up to which a batch is complete. Raises BadEvent."""
    if not 0 <= t_ms <= MAX_TIME_MS:
        raise BadEvent("t_ms", t_ms, "give UTC epoch milliseconds, to the year 9999")


def is_decimal(text: str) -> bool:
    """True if a text is a plain decimal number that is not too long."""
    integer, point, fraction = text.removeprefix("-").partition(".")
    if not text.isascii() or not integer.isdecimal() or len(integer) > WHOLE_DIGITS or len(fraction) > FRACTION_DIGITS:
        return False
    return fraction.isdecimal() or not point


def dimensions(name: str, column: Collection[Mapping[str, str]]) -> None:
    """Check the dimensions by which each row is broken down. Raises BadEvent."""
    for row, dimension in enumerate(column):
        if len(dimension) > MAX_DIMENSIONS:
            raise BadEvent(f"{name}[{row}]", len(dimension), f"give at most {MAX_DIMENSIONS} dimensions")
        text(f"{name}[{row}]", dimension.keys(), empty=False)
        text(f"{name}[{row}]", dimension.values())


def times(name: str, column: I64) -> None:
    """Check that a column holds epoch milliseconds. Raises BadEvent."""
    rows(name, (column >= 0) & (column <= MAX_TIME_MS), column, "give UTC epoch milliseconds, to the year 9999")


def rows(name: str, ok: Bools, column: npt.NDArray[np.generic], fix: str) -> None:
    """Check that every row is ok. Raises BadEvent for the first that is not."""
    if not ok.all():
        row = int(np.argmin(ok))
        raise BadEvent(f"{name}[{row}]", column[row].item(), fix)


def intervals(t0: I64, t1: I64, energy_uj: I64, method: Ints, busy_ms: I64) -> None:
    """Check the columns of intervals. Raises BadEvent."""
    times("t0_ms", t0)
    times("t1_ms", t1)
    span = t1 - t0
    rows("t1_ms", (span > 0) & (span <= MAX_SPAN_MS), t1, f"must be 1 to {MAX_SPAN_MS} ms after t0_ms")
    rows("energy_uj", (energy_uj >= 0) & (energy_uj <= MAX_ENERGY_UJ), energy_uj, "give 0 to 2^50 microjoules")
    known = (method <= MAX_METHOD) | (method == CORRECTION)
    rows("method", known, method, "use counter, integrated, estimated or correction")
    rows("busy_ms", (busy_ms >= -1) & (busy_ms <= span), busy_ms, "give 0 to the interval's length, or -1 for unknown")


def requests(start: I64, first: I64, end: I64, number: I64 | None = None, queue: I64 | None = None) -> None:
    """Check the times of requests, in ms, and how many each row stands for (None: one). Raises BadEvent.

    `queue` is the time that each waited, -1 where it is unknown; None where all are.
    """
    times("t_start_ms", start)
    times("t_end_ms", end)
    rows(
        "t_end_ms", (end >= start) & (end - start <= MAX_SPAN_MS), end,
        f"must be 0 to {MAX_SPAN_MS} ms after t_start_ms",
    )  # fmt: skip
    rows(
        "t_first_ms", (first == 0) | ((first >= start) & (first <= end)), first,
        "must lie in [t_start_ms, t_end_ms], or be 0 for unknown",
    )  # fmt: skip
    if number is not None:
        rows("requests", (number >= -1) & (number <= MAX_TOKENS), number, "give 0 to 2^31-1 requests, or -1")
    if queue is not None:
        rows(
            "queue_ms", (queue >= -1) & (queue <= MAX_SPAN_MS), queue,
            f"give 0 to {MAX_SPAN_MS} milliseconds, or -1 for unknown",
        )  # fmt: skip


def tokens(columns: Sequence[BatchColumn], counts: Sequence[I64] | I64) -> None:
    """Check the counts of tokens of requests, in the order of their declarations. Raises BadEvent."""
    by_name = {c.name: count for c, count in zip(columns, counts, strict=True)}
    for name, count in by_name.items():
        rows(name, (count >= 0) & (count <= MAX_TOKENS), count, "give 0 to 2^31-1 tokens")
    for c in columns:
        if c.part_of:
            part, total, kind = by_name[c.name], by_name[c.part_of], c.name.removesuffix("_tokens")
            rows(c.name, part <= total, part, f"{kind} tokens are a subset of {c.part_of}")


def codes(name: str, column: Ints, size: int | npt.NDArray[np.intp], dictionary: str) -> None:
    """Check indexes into a dictionary of this size; an array of sizes has one for each row. Raises BadEvent."""
    rows(name, column < size, column, f"must index `{dictionary}`")
