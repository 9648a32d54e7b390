"""Totals of counters that senders report since their own start, so that a receiver can take the growth. Pure.

A total is stored in one transaction with the events made of its growth, in parts as separate checkpoints
(`changed_parts`). Two requests that grow one series at the same time conflict: the second is sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

PARTS, SERIES_A_PART = 64, 512
"""Parts, and the most series of one: 32,768 in all. Beyond, those that were reported longest ago are forgotten."""
CHECKPOINT_PREFIX = "series/"
"""Prefix of a part's name in the spool."""
SERIES_BYTES = 264
"""Bytes of a series in memory, measured (`python -m bench.senders`)."""


class SeriesTotal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Total of a counter at a time. `start_ns` is when it began, 0 if its sender does not say; times are Unix ns."""

    start_ns: int
    time_ns: int
    total: int
    count: int = 0
    """Number of values that the total sums up, of a histogram."""


TotalChanges = Mapping[int, tuple["SeriesTotal | None", "SeriesTotal"]]
"""The old and the new total of each series."""


class TotalGrowth(msgspec.Struct, frozen=True):
    """Growth of a counter since `t0_ns`."""

    t0_ns: int
    total: int
    count: int


class _Part(msgspec.Struct, array_like=True):
    since_ns: int
    totals: dict[int, SeriesTotal]


class SeriesTotals:
    """The last total of each series. `since_ns` is when they began to be kept.

    A series that is not among them goes on from its total in `older`.
    """

    def __init__(self, since_ns: int = 0, older: SeriesTotals | None = None) -> None:
        self.since_ns, self._older = since_ns, older
        self._parts: list[dict[int, SeriesTotal]] = [{} for _ in range(PARTS)]
        """The series that was set longest ago first."""
        self._changed: set[int] = set()

    def load(self, checkpoints: Mapping[str, bytes]) -> None:
        """Restore the totals from the parts that earlier runs stored as checkpoints; other checkpoints are ignored."""
        stored = [
            (int(name.removeprefix(CHECKPOINT_PREFIX)), msgspec.msgpack.decode(value, type=_Part))
            for name, value in checkpoints.items()
            if name.startswith(CHECKPOINT_PREFIX) and value
        ]
        for number, part in stored:
            self._parts[number] = dict(part.totals)
        if stored:
            self.since_ns = max(part.since_ns for _, part in stored)

    def get(self, series: int) -> SeriesTotal | None:
        return self._parts[series % PARTS].get(series)

    def last(self, series: int) -> SeriesTotal | None:
        """Return the total that a series goes on from."""
        own = self.get(series)
        return self._older.last(series) if own is None and self._older is not None else own

    def fits(self, changes: TotalChanges) -> bool:
        """Return whether each series still has the total that its change began with."""
        return all(self.get(series) == old for series, (old, _) in changes.items())

    def apply(self, changes: TotalChanges) -> None:
        """Set the new totals. The series that were set longest ago make room."""
        for series, (_, new) in changes.items():
            part = self._parts[series % PARTS]
            part.pop(series, None)  # So that it comes last.
            part[series] = new
            if len(part) > SERIES_A_PART:
                self._forget(part, [next(iter(part))])
            self._changed.add(series % PARTS)

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, estimated."""
        return SERIES_BYTES * sum(map(len, self._parts))

    def shrink(self) -> None:
        """Forget an eighth of the series, those that were set longest ago."""
        for number, part in enumerate(self._parts):
            if part:
                self._forget(part, list(part)[: (len(part) + 7) // 8])
                self._parts[number] = dict(part)  # One that loses some stays large.
                self._changed.add(number)

    def _forget(self, part: dict[int, SeriesTotal], many: Iterable[int]) -> None:
        """Forget series. If one is reported again it only begins: its growth so far was counted."""
        for series in many:
            self.since_ns = max(self.since_ns, part.pop(series).start_ns + 1)

    def undo(self, changes: TotalChanges) -> None:
        """Set the old totals again, because the new ones could not be stored."""
        for series, (old, _) in changes.items():
            part = self._parts[series % PARTS]
            if old is None:
                part.pop(series, None)
            else:
                part[series] = old

    def names(self) -> list[str]:
        """Return the names of all checkpoints that may be stored."""
        return [f"{CHECKPOINT_PREFIX}{number}" for number in range(PARTS)]

    def changed_parts(self) -> dict[str, bytes]:
        """Return the parts that changed since `mark_stored`, as checkpoints by name; `load` restores them."""
        return {
            f"{CHECKPOINT_PREFIX}{number}": msgspec.msgpack.encode(_Part(self.since_ns, dict(self._parts[number])))
            for number in self._changed
        }

    def mark_stored(self) -> None:
        """Note that the result of `changed_parts` is on disk."""
        self._changed.clear()


class SeriesTrial:
    """Totals that one request would set: `changes` maps a series to its old and its new total."""

    def __init__(self, totals: SeriesTotals) -> None:
        self._totals = totals
        self.changes: dict[int, tuple[SeriesTotal | None, SeriesTotal]] = {}

    def growth(self, series: int, now: SeriesTotal) -> TotalGrowth | None:
        """Set a series to a total and return its growth, or None where it only begins or is not newer than the last.

        A series that is seen first grew from its start if that was since totals are kept; else it only begins: how much
        of it was counted before is unknown. A total that fell, or another start, is a counter that began again.
        """
        old = self._totals.get(series)
        last = self.changes[series][1] if series in self.changes else self._totals.last(series)
        if last is not None and now.time_ns <= last.time_ns:
            return None
        self.changes[series] = (old, now)
        if last is None:
            grew = now.start_ns and now.start_ns >= self._totals.since_ns
            return TotalGrowth(now.start_ns, now.total, now.count) if grew else None
        if now.start_ns > last.start_ns or now.total < last.total or now.count < last.count:
            return TotalGrowth(max(now.start_ns, last.time_ns), now.total, now.count)
        return TotalGrowth(last.time_ns, now.total - last.total, now.count - last.count)

    def is_repeated(self, series: int, now: SeriesTotal) -> bool:
        """Return whether a total of this series and time was seen before."""
        last = self._totals.last(series)
        return last is not None and now.time_ns <= last.time_ns


def series_of(*names: bytes) -> int:
    """Return the number of a series by the parts of its name: 63 bits, as msgpack and the spool have them."""
    digest = blake2b(digest_size=8)
    for name in names:
        digest.update(len(name).to_bytes(4, "little") + name)
    return int.from_bytes(digest.digest(), "little") >> 1
