"""Policy of the attribution: idle floors and work weights, versioned and valid by event time.

A worker learns nothing of it from the log: a replay must give the same ledger. People accept new versions into the
tables `idle_floors` and `work_weights`; the shell passes them in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from contracts.boundary import Boundary, part_of

IdlePolicy = Literal["by-work", "owner", "apart"]
ANY = "*"
CACHE_SIZE = 65_536
"""Cached look-ups: one per hardware (or model and hardware) and period between two changes of the tables."""


class FloorVersion(NamedTuple):
    """Power of a GPU without work, in milliwatts: 1 mW for 1 ms is 1 µJ."""

    hardware: str
    valid_from_ms: int
    valid_to_ms: int
    idle_mw: int
    version: int


class WeightsVersion(NamedTuple):
    """Work per token, in thousandths, for a model on a hardware type ('*' stands for any)."""

    model: str
    hardware: str
    valid_from_ms: int
    valid_to_ms: int
    prompt_milli: int
    cached_milli: int
    completion_milli: int
    version: int


DEFAULT_WEIGHTS = WeightsVersion(
    model=ANY,
    hardware=ANY,
    valid_from_ms=0,
    valid_to_ms=2**62,
    prompt_milli=1000,
    cached_milli=0,
    completion_milli=3000,
    version=1,
)
"""1 per computed prompt token, 0 per cached, 3 per completion token (docs/ARCHITECTURE.md, "The rule")."""


@dataclass(frozen=True)
class Policy:
    """The tables, and who bears idle energy in a window with work."""

    floors: Sequence[FloorVersion] = ()
    weights: Sequence[WeightsVersion] = (DEFAULT_WEIGHTS,)
    idle: IdlePolicy = "by-work"

    def __post_init__(self) -> None:
        object.__setattr__(self, "floor", _cached_by_period(self.floor, self.floors))
        object.__setattr__(self, "weight", _cached_by_period(self.weight, self.weights))

    def floor(self, hardware: str, t_ms: int) -> tuple[int, int]:
        """Return (idle_mw, version) of a hardware type at a time; (0, 0) if unknown: all energy counts as active.

        A floor of any hardware is a GPU's: a node's host or wall has its own, or none.
        """
        names = (hardware, ANY) if part_of(hardware) is Boundary.GPU else (hardware,)
        valid = [f for f in self.floors if f.hardware in names and f.valid_from_ms <= t_ms < f.valid_to_ms]
        best = max(valid, key=lambda f: (f.hardware == hardware, f.version), default=None)
        return (best.idle_mw, best.version) if best else (0, 0)

    def weight(self, model: str, hardware: str, t_ms: int) -> tuple[int, int, int, int]:
        """Return (prompt, cached, completion, version), thousandths of work per token.

        The closest match wins: the model's own weights before those of the hardware, before those of any.
        """
        valid = [
            w
            for w in self.weights
            if w.model in (model, ANY) and w.hardware in (hardware, ANY) and w.valid_from_ms <= t_ms < w.valid_to_ms
        ]
        best = max(valid, key=lambda w: (w.model == model, w.hardware == hardware, w.version), default=DEFAULT_WEIGHTS)
        return best.prompt_milli, best.cached_milli, best.completion_milli, best.version


def _cached_by_period(
    look_up: Callable[..., Any], versions: Sequence[FloorVersion | WeightsVersion]
) -> Callable[..., Any]:
    """Cache `look_up`, whose last argument is a time, by period between two changes of the versions.

    So the cache grows with the tables and the names in them, not with the windows that pass.
    """
    begins = sorted({-(2**62), *(v.valid_from_ms for v in versions), *(v.valid_to_ms for v in versions)})
    cached = lru_cache(CACHE_SIZE)(look_up)
    return lambda *key: cached(*key[:-1], begins[bisect_right(begins, key[-1]) - 1])
