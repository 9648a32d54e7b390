"""Columns of numbers, as numpy arrays. Apart from units.py, since commands that only print need no numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
"""A column of 64-bit integers."""
