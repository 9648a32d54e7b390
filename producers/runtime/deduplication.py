"""Deduplication of retries and repeated reports: a bounded window of hashed names, stored with the checkpoint.

The stream recognises a repeated event by its identity (source, epoch, number). It does not recognise a request that two
different events contain: that would count twice. So a source that may receive the same item again remembers the names
of the last items. It stores them in one transaction with the events made of them: all in its own checkpoint (`dump`),
or in parts as separate checkpoints (`changed_parts`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Protocol

import numpy as np

MAX_NAMES = 32_768
"""Default size of a window: 256 KiB, five minutes at 100 requests a second."""
PART = 512
"""Number of names in one part: 4 KiB."""
CHECKPOINT_PREFIX = "recent/"
"""Prefix of a part's name in the spool; its position in the ring of parts follows."""
DOUBLE = "double"
"""Reason of a row that is skipped because it arrived before."""
_BYTES = 8


class KnownNames(Protocol):
    """Set of known names that grows: a `DeduplicationWindow` or a `DeduplicationTrial`."""

    def has(self, name: str) -> bool: ...
    def add(self, names: Iterable[str]) -> None: ...


class DeduplicationWindow:
    """Window of the last `max_names` names, to a precision of one part. `dumped` is the result of an earlier `dump`.

    Each name is stored as 64 bits of its hash. Two names with the same hash would count as one, about once in 10^14
    requests.
    """

    def __init__(self, dumped: bytes = b"", max_names: int = MAX_NAMES) -> None:
        self._max_parts = max(1, max_names // PART)
        self._parts: deque[tuple[int, list[int]]] = deque([(0, [])])
        self._known: set[int] = set()
        self._changed: set[int] = set()
        self._put(np.frombuffer(dumped[: len(dumped) // _BYTES * _BYTES], "<u8").tolist())

    def load(self, checkpoints: Mapping[str, bytes]) -> None:
        """Restore the window from the parts that earlier runs stored as checkpoints; other checkpoints are ignored."""
        numbered = [
            np.frombuffer(value, "<u8").tolist()
            for name, value in checkpoints.items()
            if name.startswith(CHECKPOINT_PREFIX)
        ]
        parts = sorted(((number, names) for number, *names in numbered), key=lambda part: part[0])[-self._max_parts :]
        if parts:
            self._parts = deque(parts)
            self._known.update(name for _, names in parts for name in names)

    def __len__(self) -> int:
        return len(self._known)

    def has(self, name: str) -> bool:
        return _hash(name) in self._known

    def add(self, names: Iterable[str]) -> None:
        """Add names; the oldest parts are dropped to make room."""
        self._put(_hash(name) for name in names)

    def forget(self, names: Iterable[str]) -> None:
        """Remove names that were just added but could not be stored."""
        for number in {_hash(name) for name in names} & self._known:
            for part, numbers in reversed(self._parts):
                if number in numbers:
                    numbers.remove(number)
                    self._changed.add(part)
                    break
            self._known.discard(number)

    def dump(self) -> bytes:
        """Return the whole window for a checkpoint; `DeduplicationWindow(dump)` restores it."""
        return np.array([n for _, part in self._parts for n in part], "<u8").tobytes()

    def changed_parts(self) -> dict[str, bytes]:
        """Return the parts that changed since `mark_stored`, as checkpoints by name; `load` restores them."""
        return {
            f"{CHECKPOINT_PREFIX}{number % (self._max_parts + 1)}": np.array([number, *part], "<u8").tobytes()
            for number, part in self._parts
            if number in self._changed
        }

    def mark_stored(self) -> None:
        """Note that the result of `changed_parts` is on disk."""
        self._changed.clear()

    def _put(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number in self._known:
                continue
            if len(self._parts[-1][1]) >= PART:
                self._parts.append((self._parts[-1][0] + 1, []))
                if len(self._parts) > self._max_parts:
                    self._known.difference_update(self._parts.popleft()[1])
            part, names = self._parts[-1]
            names.append(number)
            self._known.add(number)
            self._changed.add(part)


class DeduplicationTrial:
    """Names that one request would add to a window: `added` are those that the window does not know."""

    def __init__(self, window: DeduplicationWindow) -> None:
        self._window = window
        self.added: list[str] = []
        self._new: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._new or self._window.has(name)

    def add(self, names: Iterable[str]) -> None:
        for name in names:
            if not self.has(name):
                self._new.add(name)
                self.added.append(name)


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "little")
