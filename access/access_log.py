"""`ActLog`: who changed, was refused or exported something. It appends lines of JSON.

Each line has `at` (RFC 3339), `actor` (a caller's name), `act`, `subject` and `outcome`; others describe the act. It
never has a credential. The file is opened for each line, so it may be moved away at any time.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from contracts.units import rfc3339

log = logging.getLogger(__name__)

DENIALS, PERIOD_S = 60, 60.0
"""Denials that are written in each period; further ones are counted, and the next line says how many."""
_MAX_CHARS = 300
"""Characters of one value: it may be what a stranger sent."""


class ActLog:
    """Appends to a file. Callers may use it from several threads, and processes may share the file."""

    def __init__(
        self, path: Path, now_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._now_s, self._monotonic_s = path, now_s, monotonic_s
        self._lock = threading.Lock()
        self._period_ends_s = 0.0
        self._denials = self._unwritten = 0
        self._failed = False

    def record(self, actor: str, act: str, subject: str, outcome: str, **details: str | int) -> None:
        """Append a line. A file that cannot be written costs the line, not the act: the log of the process has it."""
        texts = {"actor": actor, "act": act, "subject": subject, "outcome": outcome} | details
        line = {"at": rfc3339(round(self._now_s() * 1000))} | {
            name: value[:_MAX_CHARS] if isinstance(value, str) else value for name, value in texts.items()
        }
        encoded = json.dumps(line) + "\n"
        try:
            self._append(encoded.encode())
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("access_log: %s cannot be written: %s", self._path, error.strerror)
            self._failed = True
            log.warning("access: %s", encoded.rstrip())

    def deny(self, actor: str, act: str, subject: str, **details: str | int) -> None:
        """Append a denial, or count it where there were many in this period."""
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
        self.record(actor, act, subject, "denied", **details)

    def _append(self, line: bytes) -> None:
        """Append in one write, which no other process's line can part."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
