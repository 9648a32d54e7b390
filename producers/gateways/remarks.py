"""Remarks that the log shows once: the first of each, up to a bound."""

from __future__ import annotations

from collections.abc import Iterable

MAX_REMARKS = 1_000
"""Remarks that are remembered. Their texts may hold names that senders make up."""


class FirstRemarks:
    """The remarks so far. Several threads may add to it; then a remark may be shown twice."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def new(self, remarks: Iterable[str]) -> list[str]:
        """Return those of these remarks that no earlier call has returned. Beyond the bound, none."""
        new = [remark for remark in remarks if remark not in self._known][: MAX_REMARKS - len(self._known)]
        self._known.update(new)
        return new
