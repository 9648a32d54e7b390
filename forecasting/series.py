"""Regular time series: one value per hour or day, with gaps kept and counted.

A series in this package is a float `pd.Series` over a UTC `DatetimeIndex` with one fixed step. The stamp is the
*start* of its hour or day, as in the ledger. Values may have any unit. A missing value is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, MS_PER_HOUR, rfc3339

MAX_POINTS = 100_000
"""Eleven years of hours. Longer series are refused, which bounds memory and time."""

F64 = npt.NDArray[np.float64]


def regular(
    rows: Iterable[tuple[int, float | int | Decimal]],
    *,
    step_ms: int,
    until_ms: int | None = None,
    absent: Literal["gap", "zero"] = "gap",
) -> pd.Series:
    """Build a regular series from rows of (epoch ms of the step's start, value) in any order.

    `until_ms` is the exclusive end of the data. A step that ends later is partial and dropped; steps between the last
    row and `until_ms` are absent. `absent` is the meaning of a step without a row. "gap" means unknown: NaN. "zero"
    means that nothing was used, as for an idle tenant, which has no rows in the ledger.

    Raises BadInput for a duplicate, misaligned or non-finite row, and for more than MAX_POINTS steps.
    """
    pairs = sorted((int(t), float(v)) for t, v in rows)
    t = np.array([p[0] for p in pairs], np.int64)
    values = np.array([p[1] for p in pairs], np.float64)
    if (t % step_ms).any():
        bad = int(t[np.argmax(t % step_ms != 0)])
        raise BadInput("time", rfc3339(bad), f"give the start of a step: a multiple of {step_ms} ms since the epoch")
    if (np.diff(t) == 0).any():
        raise BadInput("time", rfc3339(int(t[1:][np.diff(t) == 0][0])), "give one row per step: sum or drop duplicates")
    if not np.isfinite(values).all():
        bad_row = int(np.argmax(~np.isfinite(values)))
        raise BadInput(f"value at {rfc3339(int(t[bad_row]))}", values[bad_row], "leave an unknown step out")
    if until_ms is not None:
        keep = t + step_ms <= until_ms
        t, values = t[keep], values[keep]
    if not len(t):
        return pd.Series([], index=pd.DatetimeIndex([], tz="UTC"), dtype=np.float64)
    end = max(int(t[-1]) + step_ms, until_ms // step_ms * step_ms if until_ms is not None else 0)
    n = (end - int(t[0])) // step_ms
    if n > MAX_POINTS:
        raise BadInput("rows", n, f"spans more than {MAX_POINTS} steps; ask for a shorter period")
    out = np.full(n, np.nan if absent == "gap" else 0.0)
    out[(t - t[0]) // step_ms] = values
    return pd.Series(out, index=_index(int(t[0]), n, step_ms))


def daily(hourly: pd.Series, *, min_hours: int = 24) -> pd.Series:
    """Sum hours to UTC days. Partial days at both ends are dropped.

    A day with fewer than `min_hours` known hours is NaN. With at least that many, the sum is scaled up to 24 hours:
    this assumes that the missing hours were like the others of their day. Sum energy and tokens first and divide
    afterwards: the mean of hourly J/token is not the day's J/token.
    """
    if not 1 <= min_hours <= 24:
        raise BadInput("min_hours", min_hours, "give 1 to 24")
    stamps, values = stamps_ms(hourly), hourly.to_numpy(np.float64)
    if step_of(hourly) != MS_PER_HOUR:
        raise BadInput("hourly", step_of(hourly), f"give a series with a step of one hour, {MS_PER_HOUR} ms")
    skip = int(-stamps[0] % MS_PER_DAY // MS_PER_HOUR)
    days = (len(values) - skip) // 24
    if days <= 0:
        return pd.Series([], index=pd.DatetimeIndex([], tz="UTC"), dtype=np.float64)
    table = values[skip : skip + days * 24].reshape(days, 24)
    known = np.isfinite(table).sum(axis=1)
    sums = np.nansum(table, axis=1)
    out = np.where(known >= min_hours, sums * 24 / np.maximum(known, 1), np.nan)
    return pd.Series(out, index=_index(int(stamps[0]) + skip * MS_PER_HOUR, days, MS_PER_DAY), name=hourly.name)


@dataclass(frozen=True, slots=True)
class FilledValues:
    """Series without gaps, for models that need every point."""

    values: F64
    """Values from index `start` of the input on, none missing."""
    start: int
    """Index of the first point kept. Earlier points are missing, or precede a gap too long to fill."""
    interpolated: int
    """Number of `values` that are interpolated, not measured."""
    longest_gap: int
    """Longest run of missing points in the input, in steps, filled or not."""


def fill(values: F64, season: int, *, max_gap: int) -> FilledValues:
    """Fill gaps of up to `max_gap` steps, and cut the history at the last longer one.

    A missing point becomes the mean of the nearest known points of the same phase before and after it, one season
    apart or more. No trend is added inside a gap. Where no point of that phase is known, the value is interpolated
    linearly between its neighbours. Missing points at the tail are filled in the same way, with the same bound.
    """
    known = np.isfinite(values)
    if not known.any():
        return FilledValues(np.zeros(0), len(values), 0, len(values))
    first = int(np.argmax(known))
    longest, start = 0, first
    for lo, hi in runs(~known[first:]):
        longest = max(longest, hi - lo)
        if hi - lo > max_gap:
            start = first + hi
    out = values[start:].copy()
    missing = np.flatnonzero(~np.isfinite(out))
    if len(missing):
        out[missing] = _same_phase(out, missing, season)
        unknown = ~np.isfinite(out)
        if unknown.any() and not unknown.all():
            at = np.arange(len(out))
            out[unknown] = np.interp(at[unknown], at[~unknown], out[~unknown])
    return FilledValues(out, start, len(missing), longest)


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the half-open ranges [lo, hi) in which `mask` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False]))))
    return [(int(lo), int(hi)) for lo, hi in edges.reshape(-1, 2)]


def stamps_ms(series: pd.Series) -> npt.NDArray[np.int64]:
    """Return the index as UTC epoch ms. An index without a zone is UTC. Raises BadInput if it is not a time index."""
    index = series.index
    if not isinstance(index, pd.DatetimeIndex):
        raise BadInput("series.index", type(index).__name__, "give a DatetimeIndex")
    return np.asarray(index.as_unit("ms").asi8, np.int64)


def step_of(series: pd.Series) -> int:
    """Return the step in ms. Raises BadInput unless the index is strictly regular, as `regular` makes it."""
    stamps = stamps_ms(series)
    if len(stamps) > MAX_POINTS:
        raise BadInput("series", len(stamps), f"give at most {MAX_POINTS} points")
    if len(stamps) < 2:
        return MS_PER_DAY
    steps = np.diff(stamps)
    if steps[0] <= 0 or (steps != steps[0]).any():
        raise BadInput(
            "series.index", steps.min().item(), "give a regular, ascending index without duplicates: use regular()"
        )
    return int(steps[0])


def checked(series: pd.Series) -> tuple[npt.NDArray[np.int64], F64, int]:
    """Return (stamps in ms, values with NaN where missing, step in ms). Raises BadInput for an irregular series."""
    step = step_of(series)
    values = np.asarray(series.to_numpy(), np.float64).copy()
    if np.isinf(values).any():
        raise BadInput("series", "inf", "give finite values, or NaN where unknown")
    return stamps_ms(series), values, step


def _same_phase(values: F64, missing: npt.NDArray[np.int64], season: int) -> F64:
    """Return for each missing index the mean of the nearest known values of its phase on either side, NaN if none."""
    rows = -(-len(values) // season)
    table = np.full(rows * season, np.nan)
    table[: len(values)] = values
    frame = pd.DataFrame(table.reshape(rows, season))
    both = np.stack([frame.ffill().to_numpy().ravel()[missing], frame.bfill().to_numpy().ravel()[missing]])
    known = np.isfinite(both)
    total = np.where(known, both, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _index(start_ms: int, n: int, step_ms: int) -> pd.DatetimeIndex:
    stamps = np.arange(n, dtype=np.int64) * step_ms + start_ms
    return pd.DatetimeIndex(stamps.astype("datetime64[ms]")).tz_localize("UTC")
