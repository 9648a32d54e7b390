"""Scope of an energy counter: the GPU, or its module. Pure.

NVML does not say which one a counter counts. On Grace Hopper it is the module, CPU and memory included, as Zeus'
maintainers found (https://github.com/ml-energy/zeus/pull/172). So the counter's advance is compared with the watts of
both scopes over the same time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

TRIAL_MS = 3_000
"""Least time over which the counter is compared."""
CLOSE = math.log(1.2)
"""Ratio of the counter's energy to that of watts up to which a scope fits: counters advance in steps."""
APART = math.log(1.1)
"""Ratio by which the other scope must fit worse."""


class ScopeTrial:
    """Comparison of one GPU's counter with the watts of each scope, from the counter's first advance on."""

    def __init__(self) -> None:
        self._last_ms: int | None = None
        self._last_watts: Mapping[str, float] = {}
        self._counter_mj: int | None = None
        self._begin: tuple[int, int] | None = None
        """Time and counter of its first advance."""
        self._energy_mj: dict[str, float] = {}
        """Energy by watts since then, by scope."""

    def add(self, monotonic_ms: int, counter_mj: int, watts: Mapping[str, float]) -> str | None:
        """Add a reading with the watts of each scope that answers. Return the scope that fits, None while none does."""
        elapsed_ms = 0 if self._last_ms is None else monotonic_ms - self._last_ms
        for scope in list(self._energy_mj):
            if scope not in watts:
                del self._energy_mj[scope]
            elif scope in self._last_watts:
                self._energy_mj[scope] += (watts[scope] + self._last_watts[scope]) * elapsed_ms / 2
        has_advanced = self._counter_mj is not None and counter_mj > self._counter_mj
        has_restarted = self._counter_mj is not None and counter_mj < self._counter_mj
        self._last_ms, self._last_watts, self._counter_mj = monotonic_ms, watts, counter_mj
        if has_restarted:
            self._begin = None
        if not has_advanced:
            return None
        if self._begin is None:
            self._begin, self._energy_mj = (monotonic_ms, counter_mj), dict.fromkeys(watts, 0.0)
            return None
        begin_ms, begin_mj = self._begin
        return fitting_scope(counter_mj - begin_mj, self._energy_mj) if monotonic_ms - begin_ms >= TRIAL_MS else None


def fitting_scope(counter_mj: float, energy_mj: Mapping[str, float]) -> str | None:
    """Return the scope whose energy by watts is about the counter's, None where none is, or several are."""
    if counter_mj <= 0:
        return None
    errors = sorted((abs(math.log(counter_mj / mj)), scope) for scope, mj in energy_mj.items() if mj > 0)
    if not errors or errors[0][0] > CLOSE or (len(errors) > 1 and errors[1][0] - errors[0][0] < APART):
        return None
    return errors[0][1]
