"""`AuditLog`: who changed, was refused or exported something. It appends entries to a file, each chained to the last.

Each entry has `at` (RFC 3339), `actor`, `action`, `subject` and `outcome`; others describe the action. It never has a
credential. Several processes may share the file: a lock on it orders them. `access.audit_chain` has the chain.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from access.audit_chain import MAX_LINE_BYTES, Link, chained, link_of, torn_hash
from contracts.errors import Unavailable
from contracts.units import rfc3339

log = logging.getLogger(__name__)

DENIALS, PERIOD_S = 60, 60.0
"""Denials that are written in each period; further ones are counted, and the next entry says how many."""
_MAX_CHARS = 300
"""Characters of one value: it may be what a stranger sent."""
_WAIT_S, _DENIAL_WAIT_S, _RETRY_S = 10.0, 0.2, 0.005
"""Longest waits for another process's entry. A denial may be written by an event loop, which must not wait long."""


class AuditLog:
    """Appends to a file. Callers may use it from several threads, and processes may share the file."""

    def __init__(
        self, path: Path, now_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._now_s, self._monotonic_s = path, now_s, monotonic_s
        self._lock = threading.Lock()
        self._period_ends_s = 0.0
        self._denials = self._unwritten = 0
        self._failed = False

    def record(self, actor: str, action: str, subject: str, outcome: str, **details: str | int) -> None:
        """Append an entry, which is on the disk then.

        A file that cannot be written costs the entry, not the action: the log of the process has it.
        """
        self._record(actor, action, subject, outcome, details, durable=True)

    @contextmanager
    def change(self, actor: str, action: str, subject: str, **details: str | int) -> Iterator[dict[str, str | int]]:
        """Record a change as `begun` before it is made in the block, and as `done` or `failed` after it.

        So no change is without an entry; one that is neither was interrupted, and may have been made. The block may add
        what only its end tells to the details of `done`. Raises Unavailable, before the block, where the file cannot be
        written.
        """
        content = self._content(actor, action, subject, "begun", details)
        try:
            self._append(content, durable=True)
        except OSError as error:
            raise Unavailable(
                f"The audit log {self._path} cannot be written: {error.strerror}; nothing is changed",
                "Every change is recorded before it is made: free its disk, or set audit_log.",
            ) from error
        results: dict[str, str | int] = {}
        try:
            yield results
        except BaseException as error:
            self.record(actor, action, subject, "failed", error=str(error) or type(error).__name__)
            raise
        self.record(actor, action, subject, "done", **details | results)

    def deny(self, actor: str, action: str, subject: str, **details: str | int) -> None:
        """Append a denial, or count it where there were many in this period. It may be lost with the power."""
        with self._lock:
            now_s = self._monotonic_s()
            if now_s >= self._period_ends_s:
                self._period_ends_s, self._denials = now_s + PERIOD_S, 0
            self._denials += 1
            if self._denials > DENIALS:
                self._unwritten += 1
                return
            if self._unwritten:
                details |= {"more_before": self._unwritten}
                self._unwritten = 0
        self._record(actor, action, subject, "denied", details, durable=False)

    def head(self) -> str:
        """Return the hash of the newest entry, which holds all before it; empty without any. Raises OSError."""
        if not self._path.exists():
            return ""
        with _locked(self._path, _WAIT_S) as descriptor:
            return _end_of(descriptor)[0].head

    def _record(
        self, actor: str, action: str, subject: str, outcome: str, details: dict[str, str | int], *, durable: bool
    ) -> None:
        content = self._content(actor, action, subject, outcome, details)
        try:
            self._append(content, durable=durable)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("audit_log: %s cannot be written: %s", self._path, error.strerror)
            self._failed = True
            log.warning("not in the audit log: %s", chained(content, Link())[0].decode())

    def _content(
        self, actor: str, action: str, subject: str, outcome: str, details: dict[str, str | int]
    ) -> dict[str, str | int]:
        texts = {"actor": actor, "action": action, "subject": subject, "outcome": outcome} | details
        return {"at": rfc3339(round(self._now_s() * 1000))} | {
            name: value[:_MAX_CHARS] if isinstance(value, str) else value for name, value in texts.items()
        }

    def _append(self, content: dict[str, str | int], *, durable: bool) -> None:
        with _locked(self._path, _WAIT_S if durable else _DENIAL_WAIT_S) as descriptor:
            last, loose = _end_of(descriptor)
            mid_line = not loose.endswith(b"\n") and bool(loose or last.number)
            if last.number:
                loose = loose.removeprefix(b"\n")
            torn = torn_hash(loose) if loose else None
            line, _ = chained(content if torn is None else content | {"torn": torn}, last)
            line = (b"\n" if mid_line else b"") + line + b"\n"
            if os.write(descriptor, line) != len(line):
                raise OSError(None, "the disk is full")
            if durable:
                os.fsync(descriptor)


@contextmanager
def _locked(path: Path, wait_s: float) -> Iterator[int]:
    """Yield a descriptor of the file that no other process appends to. Raises OSError after `wait_s`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ends_s = time.monotonic() + wait_s
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _lock_until(descriptor, ends_s)
            if _is_at(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock_until(descriptor: int, ends_s: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_s:
                raise OSError(None, "another process holds it") from None
            time.sleep(_RETRY_S)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return False if the file was moved away while this process waited."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _end_of(descriptor: int) -> tuple[Link, bytes]:
    """Return the end of the chain, and the bytes after its last entry, which are a line feed if nothing was cut off.

    Only the file's end is read: where it has no entry a chain begins, which no verification takes for the earlier one.
    """
    size = os.fstat(descriptor).st_size
    start = max(0, size - 2 * MAX_LINE_BYTES)
    tail = os.pread(descriptor, size - start, start)
    end = len(tail)
    while end > 0:
        begin = tail.rfind(b"\n", 0, end) + 1
        if link := link_of(tail[begin:end]):
            return link, tail[end:]
        end = begin - 1
    return Link(), tail
