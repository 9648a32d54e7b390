"""Calls whose tokens were estimated, remembered so that a later report of the same call replaces them. Pure.

A call is remembered by its identities, with the row that was sent for it. It is stored in one transaction with the
events (`changed_parts`), in parts that are filled one after the other, so that few of them change at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Self

import msgspec

from producers.runtime.batching import RequestRow

PARTS, CALLS_A_PART = 64, 64
"""Parts, and the most calls of one: 4,096 in all, by each of their identities. Beyond, the oldest are forgotten."""
CHECKPOINT_PREFIX = "estimates/"
"""Prefix of a part's name in the spool; its position in the ring of parts follows."""


class EstimatedCall(msgspec.Struct, frozen=True, array_like=True):
    """A call as it was sent: its workload, the columns of its row that have a value, and its price, or ""."""

    cluster: str
    workload: str
    columns: dict[str, str | int]
    spend: str
    identities: tuple[int, ...]
    """Digests by which it is recognised."""

    @classmethod
    def of(cls, cluster: str, workload: str, row: RequestRow, spend: str, identities: Iterable[int]) -> Self:
        columns = {name: value for name, value in row._asdict().items() if value != _DEFAULTS.get(name)}
        return cls(cluster, workload, columns, spend, tuple(identities))

    @property
    def row(self) -> RequestRow:
        """The row as it was sent. Columns of another version are left out."""
        return RequestRow(**{name: value for name, value in self.columns.items() if name in RequestRow._fields})  # type: ignore[arg-type]

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, estimated (`python -m bench.senders`)."""
        texts = [value for value in self.columns.values() if isinstance(value, str)]
        return 700 + sum(60 + 4 * len(text) if not text.isascii() else 60 + len(text) for text in texts)


_DEFAULTS = RequestRow._field_defaults
EstimateChanges = Mapping[int, tuple[EstimatedCall | None, EstimatedCall | None]]
"""By digest: what was remembered before, and what is now; None for nothing."""
_Part = dict[int, EstimatedCall]


def is_estimate(row: RequestRow) -> bool:
    """Return whether any token of a request was estimated."""
    return row.estimated_prompt_tokens + row.estimated_completion_tokens > 0


class EstimatedCalls:
    """The last estimated calls, by digest of each of their identities."""

    def __init__(self) -> None:
        self._parts: deque[tuple[int, _Part]] = deque([(0, {})])
        self._calls: _Part = {}
        """All of them: other threads read it while parts change."""
        self._changed: set[int] = set()
        self._erased: set[str] = set()
        self.size_bytes = 0
        """Bytes in memory, estimated."""

    def load(self, checkpoints: Mapping[str, bytes]) -> None:
        """Restore the calls from the parts that earlier runs stored as checkpoints; other checkpoints are ignored."""
        stored = [
            msgspec.msgpack.decode(value, type=tuple[int, _Part])
            for name, value in checkpoints.items()
            if name.startswith(CHECKPOINT_PREFIX) and value
        ]
        if parts := sorted(stored, key=lambda part: part[0])[-PARTS:]:
            self._parts = deque(parts)
            self._calls = {digest: call for _, part in parts for digest, call in part.items()}
            self.size_bytes = sum(call.size_bytes for call in self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, digest: int) -> EstimatedCall | None:
        return self._calls.get(digest)

    def fits(self, changes: EstimateChanges) -> bool:
        """Return whether each call is still what its change began with."""
        return all(self.get(digest) == old for digest, (old, _) in changes.items())

    def apply(self, changes: EstimateChanges) -> None:
        """Remember and forget calls. The oldest parts make room."""
        for digest, (_, new) in changes.items():
            self._set(digest, new)

    def undo(self, changes: EstimateChanges) -> None:
        """Take changes back that could not be stored."""
        for digest, (old, _) in changes.items():
            self._set(digest, old)

    def parts(self) -> dict[str, bytes]:
        """Return all parts as checkpoints by name; `load` restores them."""
        return {self._slot(number): msgspec.msgpack.encode((number, part)) for number, part in self._parts if part}

    def names(self) -> list[str]:
        """Return the names of all checkpoints that may be stored."""
        return [self._slot(number) for number in range(PARTS + 1)]

    def changed_parts(self) -> dict[str, bytes]:
        """Return the parts that changed since `mark_stored`."""
        return dict.fromkeys(self._erased, b"") | {
            self._slot(number): msgspec.msgpack.encode((number, part))
            for number, part in self._parts
            if number in self._changed
        }

    def mark_stored(self) -> None:
        """Note that the result of `changed_parts` is on disk."""
        self._changed.clear()
        self._erased.clear()

    def shrink(self) -> None:
        """Forget the oldest eighth of the parts, but for the last one."""
        for _ in range(min((len(self._parts) + 7) // 8, len(self._parts) - 1)):
            self._erased.add(self._slot(self._parts[0][0]))
            self._drop_oldest()
        self._calls = dict(self._calls)  # One that loses some stays large.

    def _drop_oldest(self) -> None:
        for digest in self._parts.popleft()[1]:
            self.size_bytes -= self._calls.pop(digest).size_bytes

    def _set(self, digest: int, call: EstimatedCall | None) -> None:
        if digest in self._calls:
            number, part = next(numbered for numbered in self._parts if digest in numbered[1])
        elif call is None:
            return
        else:
            number, part = self._newest()
        self._changed.add(number)
        if old := self._calls.get(digest):
            self.size_bytes -= old.size_bytes
        if call is None:
            del part[digest], self._calls[digest]
        else:
            part[digest] = self._calls[digest] = call
            self.size_bytes += call.size_bytes

    def _newest(self) -> tuple[int, _Part]:
        """Return the part that has room, after a new one was begun if need be."""
        if len(self._parts[-1][1]) >= CALLS_A_PART:
            self._parts.append((self._parts[-1][0] + 1, {}))
            if len(self._parts) > PARTS:
                self._drop_oldest()
        return self._parts[-1]

    @staticmethod
    def _slot(number: int) -> str:
        return f"{CHECKPOINT_PREFIX}{number % (PARTS + 1)}"  # A ring on disk: a dropped part stays until the next one.
