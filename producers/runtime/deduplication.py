"""Deduplication of retries and repeated reports: a bounded window of hashed identities, stored with the checkpoint.

The stream recognises a repeated event by its identity (source, epoch, number). It does not recognise a request that two
different events contain: that would count twice. So a source that may receive the same item again remembers the
identities of the last items. It stores them in one transaction with the events made of them: all in its own checkpoint
(`dump`), or in parts as separate checkpoints (`changed_parts`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np

from producers.runtime.batching import RequestRow
from producers.runtime.estimated_calls import EstimatedCall, EstimatedCalls
from producers.runtime.series_totals import SeriesTotals, SeriesTrial

MAX_IDENTITIES = 32_768
"""Default size of a window: 256 KiB, five minutes at 100 requests a second."""
PART = 512
"""Number of identities in one part: 4 KiB."""
CHECKPOINT_PREFIX = "recent/"
"""Prefix of a part's name in the spool; its position in the ring of parts follows."""
REPEATED = "double"
"""Reason of a row that is skipped because it arrived before."""
MARK = "~"
"""Begins an identity that is no item's but a note about several, such as a trace: many requests may bring it."""
_BYTES = 8
IDENTITY_BYTES = 170
"""Bytes of an identity in memory at most, measured (`python -m bench.senders`): a set has up to 8 places for each."""


class KnownCalls(Protocol):
    """Set of known identities that grows: a `DeduplicationWindow` or a `DeduplicationTrial`."""

    def has(self, identity: str) -> bool: ...
    def add(self, identities: Iterable[str], *, estimated: bool = False) -> None: ...
    def is_estimate(self, identity: str) -> bool: ...


class DeduplicationWindow:
    """Window of the last `max_identities` identities, to a precision of one part.

    `dumped` is the result of an earlier `dump`. Each identity is stored as a digest of 64 bits. Two with the same one
    would count as one, about once in 10^14 requests. `estimates` are the calls whose tokens were estimated. What
    `older` knows is known here, too.
    """

    def __init__(
        self, dumped: bytes = b"", max_identities: int = MAX_IDENTITIES, older: DeduplicationWindow | None = None
    ) -> None:
        self._older = older
        self._max_parts = max(1, max_identities // PART)
        self._parts: deque[tuple[int, list[int]]] = deque([(0, [])])
        """By part: its number, and the digests in it."""
        self._known: set[int] = set()
        self._changed: set[int] = set()
        self._erased: set[str] = set()
        self.estimates = EstimatedCalls()
        self._put(np.frombuffer(dumped[: len(dumped) // _BYTES * _BYTES], "<u8").tolist())

    def load(self, checkpoints: Mapping[str, bytes]) -> None:
        """Restore the window from the parts that earlier runs stored as checkpoints; other checkpoints are ignored."""
        self.estimates.load(checkpoints)
        stored = [
            np.frombuffer(value, "<u8").tolist()
            for name, value in checkpoints.items()
            if name.startswith(CHECKPOINT_PREFIX) and value
        ]
        parts = sorted(((number, digests) for number, *digests in stored), key=lambda part: part[0])[-self._max_parts :]
        if parts:
            self._parts = deque(parts)
            self._known.update(digest for _, digests in parts for digest in digests)

    def __len__(self) -> int:
        return len(self._known)

    def has(self, identity: str) -> bool:
        return _digest(identity) in self._known or (self._older is not None and self._older.has(identity))

    def is_estimate(self, identity: str) -> bool:
        return self.estimates.get(_digest(identity)) is not None

    def add(self, identities: Iterable[str], *, estimated: bool = False) -> None:
        """Add identities; the oldest parts are dropped to make room. A trial says which calls were estimated."""
        self._put(_digest(identity) for identity in identities)

    def forget(self, identities: Iterable[str]) -> None:
        """Remove identities that were just added but could not be stored."""
        for digest in {_digest(identity) for identity in identities} & self._known:
            for number, digests in reversed(self._parts):
                if digest in digests:
                    digests.remove(digest)
                    self._changed.add(number)
                    break
            self._known.discard(digest)

    def dump(self) -> bytes:
        """Return the whole window for a checkpoint; `DeduplicationWindow(dump)` restores it."""
        return np.array([digest for _, digests in self._parts for digest in digests], "<u8").tobytes()

    def names(self) -> list[str]:
        """Return the names of all checkpoints that a window may have stored."""
        return [f"{CHECKPOINT_PREFIX}{slot}" for slot in range(self._max_parts + 1)] + self.estimates.names()

    def changed_parts(self) -> dict[str, bytes]:
        """Return the parts that changed since `mark_stored`, as checkpoints by name; `load` restores them."""
        return (
            dict.fromkeys(self._erased, b"")
            | {
                self._slot(number): np.array([number, *digests], "<u8").tobytes()
                for number, digests in self._parts
                if number in self._changed
            }
            | self.estimates.changed_parts()
        )

    def mark_stored(self) -> None:
        """Note that the result of `changed_parts` is on disk."""
        self._changed.clear()
        self._erased.clear()
        self.estimates.mark_stored()

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, estimated."""
        return IDENTITY_BYTES * len(self._known) + self.estimates.size_bytes

    def shrink(self) -> None:
        """Forget the oldest eighth of the parts, but for the last one, and of the estimated calls."""
        for _ in range(min((len(self._parts) + 7) // 8, len(self._parts) - 1)):
            self._erased.add(self._slot(self._parts.popleft()[0]))
        self._known = {digest for _, digests in self._parts for digest in digests}  # A set that loses some stays large.
        self.estimates.shrink()

    def _slot(self, number: int) -> str:
        # A ring on disk: the part that was dropped last stays until the next one.
        return f"{CHECKPOINT_PREFIX}{number % (self._max_parts + 1)}"

    def _put(self, digests: Iterable[int]) -> None:
        for digest in digests:
            if digest in self._known:
                continue
            if len(self._parts[-1][1]) >= PART:
                self._parts.append((self._parts[-1][0] + 1, []))
                if len(self._parts) > self._max_parts:
                    self._known.difference_update(self._parts.popleft()[1])
            number, newest = self._parts[-1]
            newest.append(digest)
            self._known.add(digest)
            self._changed.add(number)


class DeduplicationTrial:
    """Identities that one request would add to a window: `added` are those that the window does not know.

    `series` are the totals of counters that it would set.
    """

    def __init__(self, window: DeduplicationWindow, totals: SeriesTotals | None = None) -> None:
        self._window = window
        self._totals = SeriesTotals() if totals is None else totals
        self.series = SeriesTrial(self._totals)
        self.added: list[str] = []
        self._new: set[str] = set()
        self._estimated: set[str] = set()
        self._estimates: dict[int, tuple[EstimatedCall | None, EstimatedCall | None]] = {}

    @property
    def changes(self) -> list[tuple[Any, Any]]:
        """Stores that it would change, with the old and the new value of each key."""
        return [(self._totals, self.series.changes), (self._window.estimates, self._estimates)]

    def has(self, identity: str) -> bool:
        return identity in self._new or self._window.has(identity)

    def is_estimate(self, identity: str) -> bool:
        return identity in self._estimated or self._estimate(_digest(identity)) is not None

    def add(self, identities: Iterable[str], *, estimated: bool = False) -> None:
        for identity in identities:
            if not self.has(identity):
                self._new.add(identity)
                self.added.append(identity)
                if estimated and not identity.startswith(MARK):
                    self._estimated.add(identity)

    def remember_estimate(
        self, cluster: str, workload: str, row: RequestRow, spend: str, identities: Iterable[str]
    ) -> None:
        """Remember what is sent for a call whose tokens were estimated."""
        digests = [_digest(identity) for identity in identities if not identity.startswith(MARK)]
        call = EstimatedCall.of(cluster, workload, row, spend, digests)
        for digest in digests:
            self._estimates[digest] = (self._window.estimates.get(digest), call)

    def estimate_of(self, identities: Iterable[str]) -> EstimatedCall | None:
        """Return what was sent for an estimated call, or None."""
        estimates = (self._estimate(_digest(identity)) for identity in identities)
        return next((call for call in estimates if call is not None), None)

    def take_estimate(self, call: EstimatedCall) -> None:
        """Forget an estimated call: a report takes its place."""
        for digest in call.identities:
            self._estimates[digest] = (self._window.estimates.get(digest), None)
        self._estimated = {one for one in self._estimated if _digest(one) not in call.identities}

    def commit(self) -> None:
        """Add all of it to the window and the totals."""
        self._window.add(self.added)
        for store, changes in self.changes:
            store.apply(changes)

    def _estimate(self, digest: int) -> EstimatedCall | None:
        if digest in self._estimates:
            return self._estimates[digest][1]
        return self._window.estimates.get(digest)


def _digest(identity: str) -> int:
    return int.from_bytes(blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest(), "little")
