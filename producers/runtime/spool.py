"""Events on their way, on disk: made, and not yet acknowledged by the broker. With them the marks of what they were
made from: the counter a GPU stood at, how far a file was read.

Events and marks are written in one transaction, before the events are sent. So whatever ends a producer (kill -9, loss
of power), the next run sends again what was not acknowledged, under the same identities, and goes on from the mark:
nothing is lost between the two, nothing is counted twice.

SQLite, because a transaction over both is exactly what it is for, and it is in the standard library. It syncs every
transaction: a mark that a power loss took back, under events that the broker has, would count them again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from contracts.codec import Headers
from contracts.errors import Unavailable

FORMAT = 1
MAX_BYTES = 256 * 2**20
"""What waits at most, unless set: ten days of a node with 8 GPUs at 1 Hz, at 35 bytes an interval."""
_OVERHEAD = 64
"""Bytes that SQLite takes for an event beside its own."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key BLOB NOT NULL, headers BLOB NOT NULL,
    value BLOB NOT NULL, t_ms INTEGER NOT NULL, size INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
_read_headers = msgspec.msgpack.Decoder(Headers).decode
_write = msgspec.msgpack.encode


class Outgoing(NamedTuple):
    """One message, as the broker will get it; `t_ms` is its event time."""

    topic: str
    key: bytes
    headers: Headers
    value: bytes
    t_ms: int

    @property
    def size(self) -> int:
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.topic) + len(self.key) + headers + len(self.value) + _OVERHEAD


class Full(Unavailable):
    """There is no room for more: by the spool's own bound, or on the disk. What was offered was not taken."""


class Spool:
    """SQLite file of events and checkpoints. One process at a time has a spool; its threads may share it.

    Raises Unavailable where the file cannot be used: another producer has it, it is damaged, or of a later version.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._lock = threading.Lock()
        with self._told():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # Names of tenants and requests are in it.
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
            self.events, self.bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM waiting"
            ).fetchone()

    def put(self, messages: Sequence[Outgoing], marks: Mapping[str, bytes] | None = None) -> range:
        """Keep messages, and set marks, together. Returns the messages' numbers, which grow.

        Raises Full where there is no room: then neither is kept. One that holds nothing has room for whatever comes at
        once: else what is larger than the bound, and cannot be parted from its marks, could never go out again.
        """
        size = sum(m.size for m in messages)
        with self._lock:
            if messages and self.bytes and self.bytes + size > self.max_bytes:
                raise Full(
                    f"The spool {self.path} is full: {self.events:,} events, {self.bytes:,} of {self.max_bytes:,} B",
                    "Are the brokers reachable? Try `wattlog doctor`. `spool_mb` bounds it.",
                    reason="spool_full",
                )
            with self._transaction():
                self._db.executemany(
                    "INSERT INTO waiting (topic, key, headers, value, t_ms, size) VALUES (?, ?, ?, ?, ?, ?)",
                    ((m.topic, m.key, _write(m.headers), m.value, m.t_ms, m.size) for m in messages),
                )
                last: int = self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]
                self._set_marks(marks or {})
            self.events += len(messages)
            self.bytes += size
        return range(last + 1 - len(messages), last + 1)

    def done(self, numbers: Iterable[int]) -> None:
        """The broker has these. Raises Full where even that cannot be written: they would be sent again, no more."""
        with self._lock, self._transaction():
            for number in numbers:
                found = self._db.execute("DELETE FROM waiting WHERE id = ? RETURNING size", (number,)).fetchone()
                if found:
                    self.events -= 1
                    self.bytes -= found[0]

    def after(self, number: int, limit: int) -> list[tuple[int, Outgoing]]:
        """Return waiting messages with greater numbers, in order."""
        with self._lock, self._told():
            rows = self._db.execute(
                "SELECT id, topic, key, headers, value, t_ms FROM waiting WHERE id > ? ORDER BY id LIMIT ?",
                (number, limit),
            ).fetchall()
        return [(i, Outgoing(topic, key, _read_headers(h), value, t_ms)) for i, topic, key, h, value, t_ms in rows]

    def ends(self) -> tuple[int | None, int | None]:
        """The least and the greatest number of what waits; None where nothing does."""
        with self._lock, self._told():
            least, greatest = self._db.execute("SELECT min(id), max(id) FROM waiting").fetchone()
        return least, greatest

    def marks(self) -> dict[str, bytes]:
        """All marks, by name."""
        with self._lock, self._told():
            return dict(self._db.execute("SELECT name, value FROM marks"))

    def close(self) -> None:
        """Let go of the file. What waits in it stays."""
        with self._lock:
            self._db.close()

    def _set_marks(self, marks: Mapping[str, bytes]) -> None:
        self._db.executemany(
            "INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            marks.items(),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        events, size = self.events, self.bytes
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self.events, self.bytes = events, size
                if self._db.in_transaction:  # SQLite itself rolls back what a full disk interrupts.
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorname", "") or type(error).__name__
            if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                raise Full(
                    f"The spool {self.path} cannot be written: {error}", "Free space on its disk.", reason="disk_full"
                ) from error
            if code.startswith("SQLITE_BUSY"):
                mend = "Give each producer a folder of its own (`data`)."
                raise Unavailable(f"Another producer has the spool {self.path}", mend) from error
            mend = "Move it away to go on without what waits in it, and see whether its folder can be written."
            raise Unavailable(f"The spool {self.path} cannot be used: {error}", mend, lasting=True) from error
