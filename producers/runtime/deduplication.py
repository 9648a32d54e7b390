"""Deduplicates retries and repeated reports: a bounded window of hashed names, kept with the checkpoint.

On the log a double is known by its event (source, epoch, number), not by its request: two events that bring the same
request count it twice. So whoever reads from something that sends again keeps the last names that it took, with what it
made of them, in the same transaction: whole in its mark (`dump`), or in small parts as marks of their own (`marks`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Protocol

import numpy as np

MOST = 32_768
"""Names kept, unless told otherwise: 256 KiB. At 100 requests a second those of five minutes."""
PART = 512
"""Names in one part: 4 KiB."""
MARK = "recent/"
"""Before a part's place in the ring: the name of its mark."""
DOUBLE = "double"
"""Why a row does not count: it came before."""
_BYTES = 8


class Seen(Protocol):
    """Known names, which new ones are added to: `DeduplicationWindow`, `DeduplicationTrial`."""

    def has(self, name: str) -> bool: ...
    def add(self, names: Iterable[str]) -> None: ...


class DeduplicationWindow:
    """The last `most` names (some parts more or less), as 64 bits of a hash each: two names that share them would be
    taken for one, about once in 10^14 requests."""

    def __init__(self, kept: bytes = b"", most: int = MOST) -> None:
        self._most = max(1, most // PART)
        self._parts: deque[tuple[int, list[int]]] = deque([(0, [])])
        self._known: set[int] = set()
        self._changed: set[int] = set()
        self._put(np.frombuffer(kept[: len(kept) // _BYTES * _BYTES], "<u8").tolist())

    def load(self, marks: Mapping[str, bytes]) -> None:
        """Restore the window that an earlier run kept as checkpoints (`marks`)."""
        numbered = [np.frombuffer(value, "<u8").tolist() for name, value in marks.items() if name.startswith(MARK)]
        parts = sorted(((number, names) for number, *names in numbered), key=lambda part: part[0])[-self._most :]
        if parts:
            self._parts = deque(parts)
            self._known.update(name for _, names in parts for name in names)

    def __len__(self) -> int:
        return len(self._known)

    def has(self, name: str) -> bool:
        return _hash(name) in self._known

    def add(self, names: Iterable[str]) -> None:
        """These came now; the oldest are forgotten for them."""
        self._put(_hash(name) for name in names)

    def forget(self, names: Iterable[str]) -> None:
        """These, which came last, were not kept after all."""
        for number in {_hash(name) for name in names} & self._known:
            for part, numbers in reversed(self._parts):
                if number in numbers:
                    numbers.remove(number)
                    self._changed.add(part)
                    break
            self._known.discard(number)

    def dump(self) -> bytes:
        """For a mark; `DeduplicationWindow(dump)` knows the same."""
        return np.array([n for _, part in self._parts for n in part], "<u8").tobytes()

    def marks(self) -> dict[str, bytes]:
        """The parts that have changed since `saved`, as marks; `load` knows the same from all of them."""
        return {
            f"{MARK}{number % (self._most + 1)}": np.array([number, *part], "<u8").tobytes()
            for number, part in self._parts
            if number in self._changed
        }

    def saved(self) -> None:
        """Note that the result of `marks` is on disk."""
        self._changed.clear()

    def _put(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number in self._known:
                continue
            if len(self._parts[-1][1]) >= PART:
                self._parts.append((self._parts[-1][0] + 1, []))
                if len(self._parts) > self._most:
                    self._known.difference_update(self._parts.popleft()[1])
            part, there = self._parts[-1]
            there.append(number)
            self._known.add(number)
            self._changed.add(part)


class DeduplicationTrial:
    """Names that one request would add to a window: `added` are the names that `recent` did not know."""

    def __init__(self, recent: DeduplicationWindow) -> None:
        self._recent = recent
        self.added: list[str] = []
        self._here: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._here or self._recent.has(name)

    def add(self, names: Iterable[str]) -> None:
        for name in names:
            if not self.has(name):
                self._here.add(name)
                self.added.append(name)


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "little")
