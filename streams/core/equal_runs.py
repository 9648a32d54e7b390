"""Boundaries of runs of equal numbers in a sorted column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from contracts.columns import I64


def run_starts(numbers: npt.NDArray[np.intp] | I64) -> npt.NDArray[np.bool_]:
    """Return a mask that is True where a run of equal numbers begins."""
    mask = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=mask[1:])
    return mask


def run_ends(numbers: npt.NDArray[np.intp] | I64) -> npt.NDArray[np.bool_]:
    """Return a mask that is True where a run of equal numbers ends."""
    mask = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=mask[:-1])
    return mask
