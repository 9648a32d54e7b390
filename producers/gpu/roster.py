"""Roster of the GPUs that an agent meters: which appear and which leave while it runs.

The agent notes the GPUs of each sample, and the threads that read bindings list them. A GPU that is not in the samples
for a while has left. A sample that fails as a whole shows nothing of any GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from producers.gpu.readings import GpuReading

LEFT_MS = 120_000
"""Time without a reading after which a GPU has left. Up to there, its counter bridges the time."""
PERIODS_UNTIL_LEFT = 3


class RosterChange(NamedTuple):
    """UUIDs of the GPUs that appeared, and of those that left."""

    appeared: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class GpuRoster:
    """UUIDs of the GPUs that are metered now, at first `uuids`. `changed` is set when one appears or leaves."""

    def __init__(self, uuids: Iterable[str] = ()) -> None:
        self.uuids = tuple(dict.fromkeys(uuids))
        self.changed = threading.Event()
        self._absent_ms: dict[str, int] = {}
        """Monotonic time of the first sample without a GPU, by UUID."""
        self._period_ms = 0

    def add(self, uuids: Iterable[str]) -> None:
        """Add GPUs that an earlier run metered: they leave if they are not read."""
        self.uuids = tuple(dict.fromkeys((*self.uuids, *uuids)))

    def note(self, readings: Iterable[GpuReading], now_ms: int) -> RosterChange:
        """Note the readings of a sample at a monotonic time."""
        present: dict[str, None] = {}
        for reading in readings:
            present[reading.gpu_uuid] = None
            self._period_ms = reading.period_ms
        appeared = tuple(uuid for uuid in present if uuid not in self.uuids)
        absent = [uuid for uuid in self.uuids if uuid not in present]
        self._absent_ms = {uuid: self._absent_ms.get(uuid, now_ms) for uuid in absent}
        patience_ms = max(LEFT_MS, PERIODS_UNTIL_LEFT * self._period_ms)
        left = tuple(uuid for uuid, since_ms in self._absent_ms.items() if now_ms - since_ms >= patience_ms)
        if appeared or left:
            self.uuids = tuple(uuid for uuid in (*self.uuids, *appeared) if uuid not in left)
            self.changed.set()
        return RosterChange(appeared, left)
