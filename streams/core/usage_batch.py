"""Usage: messages of wattlog.usage.v1 to rows, and which copy of a row counts.

There are no windows and no join: a row is stored as it was sent. The difficulty is that each row counts once. A sender
may name a row (`origin`, `event_id`), and may send it again: in another event, under another subject, a month later. So
every copy is *registered* under its identity before anything is stored. Of all registered copies, the one that came
onto the log first counts.

A worker that registers first and asks then cannot miss a rival: of two workers that do so at the same time, at least
one sees both. The result is a function of the log alone, whatever the order, the batches and the crashes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts import codec, topics
from contracts.codec import AnyHeaders
from contracts.columns import I64
from contracts.errors import BadEvent
from contracts.events import USAGE_COLUMNS, Event, UsageBatch
from contracts.rows import USAGE, Table

STORED, TAKEN_BACK = 1, 2
"""Row versions: a deleted copy stays deleted, in whatever order the write and the deletion arrive."""

LAST_MS = 7_258_118_400_000
"""2200-01-01: the latest time that tables can hold. A producer that dates its messages itself may send any time."""

RowId = tuple[int, int]
"""Identity of a row: two halves of a 128-bit hash, wide enough that no two rows ever collide."""


class LogPosition(NamedTuple):
    """Time and place at which a row came onto the log. They sort by time first: of copies, the least counts."""

    log_ms: int
    log_id: str
    log_partition: int
    log_offset: int
    log_row: int


class UsageMessage(NamedTuple):
    """A raw message of the usage topic.

    `log_ms` is its timestamp in epoch ms: the broker's time if `appended`, else the time that its producer set.
    """

    partition: int
    offset: int
    log_ms: int
    appended: bool
    headers: AnyHeaders
    value: bytes | None


@dataclass(frozen=True)
class UsageLimits:
    """Bounds of a batch, and how far producers' clocks may be ahead."""

    rows: int = 50_000
    bytes: int = 8 * 2**20
    messages: int = 10_000
    skew_ms: int = 5_000


@dataclass
class UsageMicroBatch:
    """Messages of one log that are stored together.

    Check `full` before `add`: then a bound is exceeded by one message at most.
    """

    log_id: str
    limits: UsageLimits
    events: list[tuple[UsageMessage, Event]] = field(default_factory=list)
    rejected: list[tuple[UsageMessage, BadEvent]] = field(default_factory=list)
    next_offsets: dict[int, int] = field(default_factory=dict)
    """By partition, the offset to commit when all of this is stored."""
    rows: int = 0
    bytes: int = 0
    messages: int = 0

    @property
    def full(self) -> bool:
        limits = self.limits
        return self.rows >= limits.rows or self.bytes >= limits.bytes or self.messages >= limits.messages

    def add(self, message: UsageMessage, now_ms: int) -> None:
        """Add a message: its event, or the reason why it is rejected.

        A message that the broker dated is judged by that time, so that it is judged alike when it is read again.
        """
        message = message._replace(log_ms=min(max(message.log_ms, 0), LAST_MS))
        self.messages += 1
        self.bytes += len(message.value or b"")
        self.next_offsets[message.partition] = message.offset + 1
        try:
            event = _read(message, message.log_ms if message.appended else now_ms, self.limits.skew_ms)
        except BadEvent as error:
            self.rejected.append((message, error))
            return
        self.events.append((message, event))
        self.rows += len(event.batch)

    def identities(self) -> list[RowId]:
        """Return the identity of every row, in order."""
        return [row_id for _, event in self.events for row_id in identities(event)]

    def positions(self) -> list[LogPosition]:
        """Return the position of every row, in order."""
        return [
            LogPosition(m.log_ms, self.log_id, m.partition, m.offset, row)
            for m, event in self.events
            for row in range(len(event.batch))
        ]


def _read(message: UsageMessage, now_ms: int, skew_ms: int) -> Event:
    event = codec.decode(message.headers, message.value)
    if not isinstance(event.batch, UsageBatch):
        raise BadEvent("ce_type", type(event.batch).__name__, f"does not belong on {topics.USAGE}")
    if event.batch.event_ms > now_ms + skew_ms:
        raise BadEvent("t_ms", event.batch.event_ms, f"is in the future by more than {skew_ms} ms; correct the clock")
    return event


def identities(event: Event) -> list[RowId]:
    """Return the identity of each row: its tenant, meter, origin and event_id.

    Without an origin, the event's source stands in for it. Without an event_id, the identity is the event's source and
    number and the row's index in it. The meter belongs to it because several meters may count one event; the tenant,
    because senders choose origins freely, and must not be able to use the ids of another tenant.
    """
    batch = event.batch
    assert isinstance(batch, UsageBatch)
    named = batch.event_id or ("",) * len(batch)
    origins = batch.origin or ("",) * len(batch)
    return [
        _hashed("id", batch.tenant[row], batch.meter[row], origin or event.source, name)
        if name
        else _hashed("row", event.source, str(event.epoch), str(event.seq), str(row))
        for row, (origin, name) in enumerate(zip(origins, named, strict=True))
    ]


def _hashed(*parts: str) -> RowId:
    # Texts are printable, so that NUL is in none of them.
    digest = blake2b("\0".join(parts).encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


class CopyResolution(NamedTuple):
    """Result of comparing a batch with all registered copies of its rows."""

    counts: npt.NDArray[np.bool_]
    """By row: True if it is the first copy."""
    superseded: list[RowId]
    """Identities of which this batch has the first of several copies: stored rows of the others are deleted."""

    @property
    def duplicates(self) -> int:
        """Number of rows that count elsewhere."""
        return int((~self.counts).sum())


def resolve_copies(
    ids: Sequence[RowId], positions: Sequence[LogPosition], first: Mapping[RowId, LogPosition]
) -> CopyResolution:
    """Return which rows count.

    `first` is the first position of each identity of which several copies are registered, including this batch's.
    """
    counts = np.array([first.get(i, at) == at for i, at in zip(ids, positions, strict=True)], np.bool_)
    superseded = [i for i, is_first in zip(ids, counts.tolist(), strict=True) if is_first and i in first]
    return CopyResolution(counts, superseded)


# -- columns ---------------------------------------------------------------------------------------------------------


def counted_at(t0_ms: I64, t1_ms: I64) -> I64:
    """Return the last millisecond of each `[t0, t1)`; t0 where those are equal."""
    at: I64 = np.maximum(t1_ms - 1, t0_ms)
    return at


def id_rows(batch: UsageMicroBatch, ids: Sequence[RowId]) -> Table:
    """Return the copies in a batch as rows of USAGE_IDS."""
    return {
        "id_hi": np.array([hi for hi, _ in ids], np.uint64), "id_lo": np.array([lo for _, lo in ids], np.uint64),
        "log_ms": _of_message(batch, [m.log_ms for m, _ in batch.events]), **_positions(batch), "at": _at(batch),
        "tenant": [tenant for b in _batches(batch) for tenant in b.tenant], "version": _constant(batch, STORED),
    }  # fmt: skip


def usage_rows(batch: UsageMicroBatch, counts: npt.NDArray[np.bool_]) -> Table:
    """Return the rows that count as rows of USAGE."""
    batches, events = _batches(batch), [event for _, event in batch.events]

    def text(name: str) -> list[str]:
        return [v for b in batches for v in (getattr(b, name) or ("",) * len(b))]

    def repeated(values: Sequence[str]) -> list[str]:
        return [v for b, v in zip(batches, values, strict=True) for _ in range(len(b))]

    table: Table = {
        "at": _at(batch), "cluster": repeated([e.cluster for e in events]),
        "workload": repeated([e.workload for e in events]),
        **{c.name: text(c.name) for c in USAGE_COLUMNS if c.form == "text"},
        "quantity": np.array([Decimal(q) for b in batches for q in b.quantity], np.object_),
        "t0": _joined([b.t0_ms for b in batches]), "t1": _joined([b.t1_ms for b in batches]),
        "dimensions": np.array([d for b in batches for d in (b.dimensions or ({},) * len(b))], np.object_),
        "source": repeated([e.source for e in events]),
        "epoch": _repeated(batch, np.array([e.epoch for e in events], np.uint64)),
        "seq": _repeated(batch, np.array([e.seq for e in events], np.uint64)),
        **_positions(batch), "version": _constant(batch, STORED), "deleted": _constant(batch, 0).astype(np.uint8),
    }  # fmt: skip
    at: list[int] = np.flatnonzero(counts).tolist()
    columns = ((name, table[name]) for name in USAGE)
    return {name: c[at] if isinstance(c, np.ndarray) else [c[i] for i in at] for name, c in columns}


def event_rows(batch: UsageMicroBatch) -> Table:
    """Return the events of a batch as rows of USAGE_EVENTS."""
    events = batch.events
    return {
        "source": [e.source for _, e in events], "epoch": np.array([e.epoch for _, e in events], np.uint64),
        "seq": np.array([e.seq for _, e in events], np.uint64), "log_id": [batch.log_id] * len(events),
        "log_partition": np.array([m.partition for m, _ in events], np.uint16),
        "log_offset": np.array([m.offset for m, _ in events], np.int64),
        "last_event": np.array([e.batch.event_ms for _, e in events], np.int64),
        "version": np.full(len(events), STORED, np.uint64),
    }  # fmt: skip


def simulated_clusters(batch: UsageMicroBatch, known: Collection[str]) -> list[str]:
    """Return the clusters of simulated sources that are not known yet."""
    names = {topics.simulated_cluster(event.source) for _, event in batch.events} - {None}
    return sorted(name for name in names if name is not None and name not in known)


def _batches(batch: UsageMicroBatch) -> list[UsageBatch]:
    return [event.batch for _, event in batch.events if isinstance(event.batch, UsageBatch)]


def _joined(columns: Sequence[I64]) -> I64:
    return np.concatenate(columns) if columns else np.zeros(0, np.int64)


def _at(batch: UsageMicroBatch) -> I64:
    return _joined([counted_at(b.t0_ms, b.t1_ms) for b in _batches(batch)])


def _of_message(batch: UsageMicroBatch, values: Sequence[int]) -> I64:
    return _repeated(batch, np.array(values, np.int64))


def _repeated(batch: UsageMicroBatch, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Repeat the value of each message for each of its rows."""
    return np.repeat(values, [len(b) for b in _batches(batch)])


def _constant(batch: UsageMicroBatch, value: int) -> npt.NDArray[np.uint64]:
    return np.full(batch.rows, value, np.uint64)


def _positions(batch: UsageMicroBatch) -> Table:
    messages = [m for m, _ in batch.events]
    rows = [np.arange(len(b), dtype=np.uint32) for b in _batches(batch)]
    return {
        "log_id": [batch.log_id] * batch.rows,
        "log_partition": _of_message(batch, [m.partition for m in messages]).astype(np.uint16),
        "log_offset": _of_message(batch, [m.offset for m in messages]),
        "log_row": np.concatenate(rows) if rows else np.zeros(0, np.uint32),
    }
