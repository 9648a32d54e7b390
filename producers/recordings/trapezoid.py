"""Watts over time to joules, exactly: the trapezoid rule in integers.

Power is in whole microwatts, time in milliseconds, so twice the area of a trapezoid, (P0 + P1) * dt, is a whole
number of 1/2000 microjoules. The remainder of the division is carried into the next interval: the intervals of a
device sum to the whole trapezoid, rounded down once, however many they are.
"""

from __future__ import annotations

import math

MAX_WATTS = 1_000_000
"""More than any one device or server draws. A greater figure is a fault (DCGM's blank is 9.2e18)."""


def microwatts(text: str, *, max_w: int = MAX_WATTS) -> int:
    """Return watts as text, such as `215.34` or `215.34 W`, in whole microwatts.

    Raises ValueError, which says what would be right, for what is no number from 0 to `max_w`.
    """
    try:
        watts = float(text.removesuffix("W"))
    except ValueError:
        raise ValueError("not a number of watts") from None
    if not (math.isfinite(watts) and 0 <= watts <= max_w):
        raise ValueError(f"give 0 to {max_w} watts")
    return round(watts * 1e6)


class Trapezoid:
    """Sums the trapezoids of one device, and carries the remainder."""

    __slots__ = ("_carry",)

    def __init__(self) -> None:
        self._carry = 0

    def energy_uj(self, power0_uw: int, power1_uw: int, dt_ms: int) -> int:
        """Return the energy between two readings `dt_ms` apart, in microjoules. The fraction is kept for the next
        call.
        """
        energy_uj, self._carry = divmod((power0_uw + power1_uw) * dt_ms + self._carry, 2000)
        return energy_uj


def power_at(t_ms: int, t0_ms: int, power0_uw: int, t1_ms: int, power1_uw: int) -> int:
    """Return the power at a time between two readings, on the straight line between them, to the nearest microwatt."""
    return power0_uw + round((power1_uw - power0_uw) * (t_ms - t0_ms) / (t1_ms - t0_ms))


def spread(total: int, parts: int) -> list[int]:
    """Apportion a whole number to equal parts: each is the floor or the ceiling of its share, together exactly
    `total`.
    """
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]
