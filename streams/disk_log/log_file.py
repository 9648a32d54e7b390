"""Event log in one SQLite file: messages by topic and offset, and how far each topic is stored in the warehouse.

It keeps what Kafka would keep for a group: every message from the committed offset on. What is committed is deleted.
Every transaction is synced, so an acknowledged message survives kill -9 and a loss of power. SQLite is in the standard
library and is the spool's format too (docs/adr/0011).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from contracts import codec, topics
from contracts.errors import Unavailable
from contracts.private_folder import make_private_folder
from warehouse.sink.owed_hours import EMBEDDED_LOG

FORMAT = 1
OVERHEAD = 64
"""Bytes that SQLite needs for a message in addition to its content."""
LETTERS_BYTES = 16 * 2**20
"""Bytes of dead letters that are kept: the newest. They are appended to a full log too, or it could not move on."""
READ_ROWS, READ_BYTES = 500, 4 * 2**20
"""Bounds on what one read returns; the first message is returned whatever its size."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    topic TEXT NOT NULL, position INTEGER NOT NULL, headers BLOB NOT NULL, value BLOB, append_ms INTEGER NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (topic, position)
) STRICT;
CREATE TABLE IF NOT EXISTS topics (topic TEXT PRIMARY KEY, ending INTEGER NOT NULL, committed INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL) STRICT;
"""
_read_headers = msgspec.msgpack.Decoder(codec.Headers).decode
_write = msgspec.msgpack.encode


class NewMessage(NamedTuple):
    """Message to append."""

    topic: str
    headers: codec.Headers
    value: bytes | None

    @property
    def size(self) -> int:
        """Bytes that the message takes in the file, estimated."""
        return sum(len(name) + len(text) for name, text in self.headers) + len(self.value or b"") + OVERHEAD


class StoredMessage(NamedTuple):
    """Message of a topic; `append_ms` is when the log took it, in UTC epoch ms."""

    offset: int
    headers: codec.Headers
    value: bytes | None
    append_ms: int


class LogFull(Unavailable):
    """Error of an append that found no room: the bound is reached, or the disk is full. Nothing was appended."""


class DiskLog:
    """Log of one partition a topic. One process at a time opens it; its threads may share it.

    Raises Unavailable where the file cannot be used: another process has it open, it is damaged, or a later version
    wrote it.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path, self._max_bytes = path, max_bytes
        self._lock = threading.Lock()
        with self._translated():
            make_private_folder(path.parent)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # It holds names of tenants and requests.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._db.execute(f"PRAGMA {pragma}")
            if self._db.execute("PRAGMA user_version").fetchone()[0] > FORMAT:
                raise Unavailable(f"{path} was written by a later version of Wattlog", "Use that version.")
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
            with self._transaction():
                self._db.executemany("INSERT OR IGNORE INTO topics VALUES (?, 0, 0)", ((t,) for t in topics.ALL))
                if not self._db.execute("SELECT 1 FROM identity").fetchone():
                    self._db.execute("INSERT INTO identity VALUES (?)", (f"{EMBEDDED_LOG}disk-{uuid.uuid4().hex}",))
            self.log_id: str = self._db.execute("SELECT id FROM identity").fetchone()[0]
            rows = self._db.execute("SELECT topic, ending, committed FROM topics").fetchall()
            self._ends: dict[str, int] = {topic: ending for topic, ending, _ in rows}
            self._committed: dict[str, int] = {topic: committed for topic, _, committed in rows}
            self.bytes: int = self._db.execute("SELECT coalesce(sum(size), 0) FROM log").fetchone()[0]

    def append(self, messages: Sequence[NewMessage], append_ms: int) -> None:
        """Append messages in one transaction, synced to disk. Raises LogFull; then none was appended."""
        with self._lock:
            size = sum(m.size for m in messages)
            if self.bytes and self.bytes + size > self._max_bytes:
                raise LogFull(
                    f"The log {self.path} is full: {self.bytes:,} of {self._max_bytes:,} B wait for the warehouse",
                    "Can the warehouse store? `spool_mb` bounds the log.",
                    reason="log_full",
                )
            with self._transaction():
                ends = self._insert(messages, append_ms)
            self._ends, self.bytes = ends, self.bytes + size

    def append_letter(self, letter: NewMessage, append_ms: int) -> None:
        """Append a dead letter, and delete the oldest ones beyond LETTERS_BYTES. Raises LogFull for a full disk."""
        with self._lock:
            with self._transaction():
                ends = self._insert([letter], append_ms)
                oldest = self._db.execute(
                    "SELECT coalesce(max(position), -1) FROM (SELECT position, sum(size) OVER (ORDER BY position DESC)"
                    " AS newer FROM log WHERE topic = ?) WHERE newer > ?",
                    (letter.topic, max(LETTERS_BYTES, letter.size)),
                ).fetchone()[0]
                freed = self._delete(letter.topic, oldest + 1)
            self._ends, self.bytes = ends, self.bytes + letter.size - freed

    def _insert(self, messages: Sequence[NewMessage], append_ms: int) -> dict[str, int]:
        """Insert messages. Return the end of each topic."""
        ends, rows = dict(self._ends), []
        for m in messages:
            at = ends.setdefault(m.topic, 0)
            ends[m.topic] = at + 1
            rows.append((m.topic, at, _write(m.headers), m.value, append_ms, m.size))
        self._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._db.executemany(
            "INSERT INTO topics VALUES (?, ?, 0) ON CONFLICT (topic) DO UPDATE SET ending = excluded.ending",
            ends.items(),
        )
        return ends

    def _delete(self, topic: str, before: int) -> int:
        """Delete the messages below an offset. Return their bytes."""
        rows = self._db.execute("DELETE FROM log WHERE topic = ? AND position < ? RETURNING size", (topic, before))
        return sum(size for (size,) in rows.fetchall())

    def end(self, topic: str) -> int:
        """Return the offset that the topic's next message gets."""
        return self._ends.get(topic, 0)

    def committed(self, topic: str) -> int:
        """Return the offset below which everything is stored in the warehouse, and deleted here."""
        return self._committed.get(topic, 0)

    def read(self, topic: str, offset: int) -> list[StoredMessage]:
        """Return messages of a topic from `offset` on, in order, up to READ_ROWS and READ_BYTES; [] at its end."""
        with self._lock, self._translated():
            cursor = self._db.execute(
                "SELECT position, headers, value, append_ms, size FROM log WHERE topic = ? AND position >= ?"
                " ORDER BY position LIMIT ?",
                (topic, offset, READ_ROWS),
            )
            result: list[StoredMessage] = []
            total = 0
            for position, headers, value, append_ms, size in cursor:
                total += size
                if result and total > READ_BYTES:
                    break
                result.append(StoredMessage(position, _read_headers(headers), value, append_ms))
            return result

    def commit(self, offsets: Mapping[str, int]) -> None:
        """Note that everything below these offsets is stored in the warehouse, and delete it. Raises LogFull."""
        with self._lock:
            with self._transaction():
                freed = sum(self._delete(topic, offset) for topic, offset in offsets.items())
                self._db.executemany(
                    "UPDATE topics SET committed = ? WHERE topic = ?", ((o, t) for t, o in offsets.items())
                )
            self._committed = {**self._committed, **offsets}
            self.bytes -= freed

    def close(self) -> None:
        """Close the file. Its messages remain for the next run."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back what a full disk interrupts.
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate errors of SQLite and of the file system into LogFull or Unavailable."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorname", "") or type(error).__name__
            if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                raise LogFull(
                    f"The log {self.path} cannot be written: {error}", "Free space on its disk.", reason="disk_full"
                ) from error
            if code.startswith("SQLITE_BUSY"):
                fix = "Is `wattlog up` running already? Give each a folder of its own (`data`)."
                raise Unavailable(f"Another process has the log {self.path}", fix) from error
            fix = "Move it away to continue without the messages in it, and check that its folder can be written."
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise Unavailable(f"The log {self.path} cannot be used: {reason}", fix, lasting=True) from error
