"""Numbers of sources that more than one message claims: what a partition saw of them, for notices to producers. Pure.

A notice changes nothing in the ledger. It tells the producer, which may not read the log, that another sends under its
source and numbers.
"""

from __future__ import annotations

from contracts.events import Event
from contracts.number_claims import NumberClaim

EVERY_MS = 60_000
"""Time between two notices of one run of a source: a producer looks for them as often."""
MAX_RUNS = 1_000
"""Runs of sources whose notices are due or remembered, each. Further ones get theirs with a later message."""

_Run = tuple[str, str, int]
"""(topic, source, epoch)."""


class NumberClaims:
    """Claims of a partition that are not published yet, and when a run's last notice was."""

    def __init__(self) -> None:
        self._due: dict[_Run, NumberClaim] = {}
        self._published_ms: dict[_Run, int] = {}

    def note(self, topic: str, event: Event, now_ms: int, *, compared: bool) -> None:
        """Note that the number of an event is taken. The first of a run since its last notice is kept."""
        run = topic, event.source, event.epoch
        if run in self._due or len(self._due) >= MAX_RUNS:
            return
        self._due[run] = NumberClaim(topic, event.source, event.epoch, event.seq, now_ms, compared)

    def take(self, now_ms: int) -> list[NumberClaim]:
        """Return the claims to publish now: of each run one in EVERY_MS at most."""
        if not (self._due or self._published_ms):
            return []
        self._published_ms = {r: ms for r, ms in self._published_ms.items() if now_ms - ms < EVERY_MS}
        runs = [run for run in self._due if run not in self._published_ms]
        runs = runs[: max(0, MAX_RUNS - len(self._published_ms))]
        self._published_ms.update(dict.fromkeys(runs, now_ms))
        return [self._due.pop(run) for run in runs]
