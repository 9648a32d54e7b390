"""Requests beside a history: those of a CSV file (`producers.recordings.csv_requests`) that lie in its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from contracts.units import counted
from producers.recordings.base import BadRow, TokenRow
from producers.recordings.batches import Group
from producers.recordings.csv_defaults import CsvDefaults
from producers.recordings.csv_requests import readable_requests, token_rows

MAX_NAMES = 8
"""Workloads that a note names."""


class HistoryRequests:
    """Requests of a file that lie within `[start_ms, end_ms]`, in the cluster of `defaults`.

    Others belong to the replay of another time or cluster, so that one file can be given to each. Whoever reads a
    request across the limit would fill windows of that other replay.
    """

    def __init__(self, path: Path, defaults: CsvDefaults, start_ms: int, end_ms: int) -> None:
        self._path, self._defaults, self._start_ms, self._end_ms = path, defaults, start_ms, end_ms
        self._counts: dict[Group, int] = {}
        self._left_out = self._across = 0

    @property
    def name(self) -> str:
        return self._path.name

    def check(self) -> None:
        """Read the file. Raises BadInput if it is of another format, or if no row of it can be read."""
        for _ in readable_requests(self._path, self._defaults):
            pass

    def readable(self) -> Iterator[TokenRow]:
        """Yield the requests, and count them for `notes`. Raises BadInput as `check` does."""
        self._counts, self._left_out, self._across = {}, 0, 0
        for row in readable_requests(self._path, self._defaults):
            if not self._is_inside(row):
                self._left_out += 1
                self._across += self._is_across(row)
                continue
            group = row.cluster, row.workload
            self._counts[group] = self._counts.get(group, 0) + 1
            yield row

    def rows(self) -> Iterator[TokenRow | BadRow]:
        """Yield the same requests, with the bad rows of the whole file between them."""
        for row in token_rows(self._path, self._defaults):
            if isinstance(row, BadRow) or self._is_inside(row):
                yield row

    def _is_inside(self, row: TokenRow) -> bool:
        is_in_time = self._start_ms <= row.t_start_ms < self._end_ms and row.t_end_ms <= self._end_ms
        return is_in_time and row.cluster == self._defaults.cluster

    def _is_across(self, row: TokenRow) -> bool:
        """Return whether a request that is not inside ran for a part of the time."""
        is_in_part = row.t_start_ms < self._end_ms and row.t_end_ms > self._start_ms
        return is_in_part and row.cluster == self._defaults.cluster

    def notes(self, measured: Set[Group]) -> Iterator[str]:
        """Yield what was left out, and which workloads have requests but no energy."""
        if self._left_out:
            yield (
                f"{counted(self._left_out, 'request')} of {self.name} {_verb(self._left_out, 'does', 'do')} not lie "
                f"within --from and --to in cluster {self._defaults.cluster}, and "
                f"{_verb(self._left_out, 'is', 'are')} left out."
            )
        if self._across:
            yield (
                f"{self._across:,} of them {_verb(self._across, 'begins', 'begin')} before --from "
                f"or {_verb(self._across, 'ends', 'end')} after --to, and {_verb(self._across, 'runs', 'run')} in "
                f"between: their energy is in the figures, their tokens are not, so J/token is too high by them. "
                "Choose --from and --to in hours without requests."
            )
        unmetered = {group: count for group, count in self._counts.items() if group not in measured}
        if unmetered:
            count = sum(unmetered.values())
            yield (
                f"{counted(count, 'request')} {_verb(count, 'is', 'are')} unmetered, because no GPU had "
                f"{_verb(count, 'its', 'their')} workload: {_names(unmetered)}. GPUs had {_names(measured)}."
            )


def _verb(count: int, singular: str, plural: str) -> str:
    return singular if count == 1 else plural


def _names(groups: Iterable[Group]) -> str:
    names = sorted(workload for _, workload in groups)
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES:,} others" if len(names) > MAX_NAMES else "")
