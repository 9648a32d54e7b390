"""Spool of a producer: the events that the broker has not acknowledged, and the checkpoints of their source, on disk.

A checkpoint is the state that the events were made up to: a GPU's counter, or the offset in a file. Events and
checkpoints are written in one transaction before the events are sent. After kill -9 or a loss of power, the next run
sends again what was not acknowledged, under the same identities, and continues from the checkpoint. Nothing is lost
between the two, and nothing is counted twice.

The file is SQLite: it gives a transaction over both tables and is in the standard library. Every transaction is synced
to disk. Otherwise a loss of power could take back the checkpoint of events that the broker has, and they would be
counted again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from contracts import codec
from contracts.errors import Unavailable
from contracts.private_folder import make_private_folder
from producers.runtime.topic_shares import room_for

FORMAT = 1
MAX_BYTES = 256 * 2**20
"""Default bound of a spool: ten days of a node with 8 GPUs at 1 Hz, at 35 bytes an interval."""
_OVERHEAD = 64
"""Bytes that SQLite needs for an event in addition to its content."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key BLOB NOT NULL, headers BLOB NOT NULL,
    value BLOB NOT NULL, t_ms INTEGER NOT NULL, size INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
_read_headers = msgspec.msgpack.Decoder(codec.Headers).decode
_write = msgspec.msgpack.encode


class Outgoing(NamedTuple):
    """Message as it is sent to the broker. `t_ms` is its event time in UTC epoch ms."""

    topic: str
    key: bytes
    headers: codec.Headers
    value: bytes
    t_ms: int

    @property
    def source(self) -> str:
        """Source of the event, whose numbers have no gaps."""
        return dict(self.headers)["ce_source"].decode()

    def renumber(self, epoch: int, seq: int) -> Outgoing:
        """Return the message under another identity."""
        return self._replace(headers=codec.renumber(self.headers, epoch, seq))

    @property
    def size(self) -> int:
        """Bytes that the message takes in the spool, estimated."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.topic) + len(self.key) + headers + len(self.value) + _OVERHEAD


def sizes_of(messages: Iterable[Outgoing]) -> Counter[str]:
    """Return the bytes of messages by topic."""
    sizes = Counter[str]()
    for message in messages:
        sizes[message.topic] += message.size
    return sizes


class SpoolFull(Unavailable):
    """Error of a write that found no room: the spool has reached its bound, or the disk is full. Nothing was stored."""


class Spool:
    """SQLite file of events and checkpoints. One process at a time opens a spool; its threads may share it.

    Each topic has its share of `max_bytes` (`producers.runtime.topic_shares`), so one that the brokers refuse does not
    fill it. Raises Unavailable where the file cannot be used: another producer has it open, it is damaged, or a later
    version wrote it.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._lock = threading.Lock()
        with self._translate_errors():
            make_private_folder(path.parent)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # The file holds names of tenants and requests.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                raise Unavailable(
                    f"{path} was written by a later version of Wattlog", "Use that version, or empty the spool with it."
                )
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
            rows = self._db.execute("SELECT topic, count(*), sum(size) FROM waiting GROUP BY topic").fetchall()
            self._events = Counter({topic: count for topic, count, _ in rows})
            self._bytes = Counter({topic: size for topic, _, size in rows})

    @property
    def events(self) -> int:
        """Number of events that wait."""
        return self._events.total()

    @property
    def size_bytes(self) -> int:
        """Bytes of the events that wait, estimated."""
        return self._bytes.total()

    def events_for(self, topic: str) -> int:
        """Return the number of events that wait for a topic."""
        return self._events[topic]

    def put(self, messages: Sequence[Outgoing], checkpoints: Mapping[str, bytes] | None = None) -> range:
        """Store messages and set checkpoints in one transaction. Return the messages' numbers, which increase.

        Raises SpoolFull where there is no room; then neither is stored.
        """
        sizes = sizes_of(messages)
        with self._lock:
            self.check_room(sizes)
            with self._transaction():
                self._db.executemany(
                    "INSERT INTO waiting (topic, key, headers, value, t_ms, size) VALUES (?, ?, ?, ?, ?, ?)",
                    ((m.topic, m.key, _write(m.headers), m.value, m.t_ms, m.size) for m in messages),
                )
                last: int = self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]
                self._set_checkpoints(checkpoints or {})
            self._events.update(message.topic for message in messages)
            self._bytes.update(sizes)
        return range(last + 1 - len(messages), last + 1)

    def check_room(self, sizes: Mapping[str, int]) -> None:
        """Raise SpoolFull where a topic has no room for so many bytes.

        A topic of which nothing waits accepts any size. Messages that exceed the bound together, and belong to one
        checkpoint, could otherwise never be sent.
        """
        for topic, size in sizes.items():
            if self._bytes[topic] and size > room_for(topic, self._bytes, self.max_bytes):
                raise SpoolFull(
                    f"The spool {self.path} is full: {self._events[topic]:,} events, {self._bytes[topic]:,} B for "
                    f"{topic} of {self._bytes.total():,} in all; {self.max_bytes:,} B bound it",
                    "Are the brokers reachable, and may this producer write the topic? Try `wattlog doctor`. "
                    "`spool_mb` bounds it.",
                    reason="spool_full",
                )

    def discard(self, numbers: Iterable[int]) -> None:
        """Delete messages that the broker has acknowledged.

        Raises SpoolFull where the disk takes not even that; the next run would then send them again, harmlessly.
        """
        with self._lock, self._transaction():
            for number in numbers:
                row = self._db.execute("DELETE FROM waiting WHERE id = ? RETURNING topic, size", (number,)).fetchone()
                if row:
                    self._events[row[0]] -= 1
                    self._bytes[row[0]] -= row[1]

    def topics(self) -> list[str]:
        """Return the topics that messages wait for."""
        with self._lock, self._translate_errors():
            return [topic for (topic,) in self._db.execute("SELECT DISTINCT topic FROM waiting ORDER BY topic")]

    def after(self, number: int, limit: int, topic: str | None = None) -> list[tuple[int, Outgoing]]:
        """Return up to `limit` messages with numbers greater than `number`, in order: of one topic, or of all."""
        with self._lock, self._translate_errors():
            rows = self._db.execute(
                "SELECT id, topic, key, headers, value, t_ms FROM waiting WHERE id > :number"
                " AND (:topic IS NULL OR topic = :topic) ORDER BY id LIMIT :limit",
                {"number": number, "topic": topic, "limit": limit},
            ).fetchall()
        return [(i, Outgoing(topic, key, _read_headers(h), value, t_ms)) for i, topic, key, h, value, t_ms in rows]

    def ends(self) -> tuple[int | None, int | None]:
        """Return the least and the greatest number of the stored messages; None for both in an empty spool."""
        with self._lock, self._translate_errors():
            least, greatest = self._db.execute("SELECT min(id), max(id) FROM waiting").fetchone()
        return least, greatest

    def checkpoints(self) -> dict[str, bytes]:
        """Return all checkpoints by name."""
        with self._lock, self._translate_errors():
            return dict(self._db.execute("SELECT name, value FROM marks"))

    def close(self) -> None:
        """Close the file. Its messages remain for the next run."""
        with self._lock:
            self._db.close()

    def _set_checkpoints(self, checkpoints: Mapping[str, bytes]) -> None:
        self._db.executemany(
            "INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            checkpoints.items(),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        events, size = self._events.copy(), self._bytes.copy()
        with self._translate_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._events, self._bytes = events, size
                if self._db.in_transaction:  # SQLite itself rolls back what a full disk interrupts.
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate errors of SQLite and of the file system into SpoolFull or Unavailable."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorname", "") or type(error).__name__
            if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                raise SpoolFull(
                    f"The spool {self.path} cannot be written: {error}", "Free space on its disk.", reason="disk_full"
                ) from error
            if code.startswith("SQLITE_BUSY"):
                fix = "Give each producer a folder of its own (`data`)."
                raise Unavailable(f"Another producer has the spool {self.path}", fix) from error
            fix = "Move it away to continue without the events in it, and check that its folder can be written."
            raise Unavailable(f"The spool {self.path} cannot be used: {error}", fix, lasting=True) from error
