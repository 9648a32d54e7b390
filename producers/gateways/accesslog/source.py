"""A gateway's access log, followed as it grows: one JSON object a line, one request each.

The mark is the file (its inode) and how far it was read. A log that was renamed away is read to its end first, as long
as it lies beside the new one, and until the gateway writes to that; one that was cut short begins anew. A line that is
not ended yet waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from contracts.errors import BadInput, Unavailable
from producers.gateways.deployments import Deployments
from producers.gateways.request_fields import RequestReader
from producers.runtime.batching import RequestRow, token_batch
from producers.runtime.clock import Clock
from producers.runtime.poll_loop import Collected, Made

READ_BYTES = 2**20
"""Read at once; a line longer than this is refused."""
MAX_ROWS = 4_096
"""Requests in one event."""


class AccessLogCheckpoint(msgspec.Struct, frozen=True):
    """How far which file was read."""

    inode: int
    offset: int


class AccessLog:
    """See the module: a `producers.runtime.poll_loop.Source`. `begin`: where a file that no mark knows is read from."""

    kind = "accesslog"

    def __init__(
        self, path: Path, reader: RequestReader, deployments: Deployments, *, every_ms: int = 1_000,
        begin: Literal["start", "end"] = "end",
    ) -> None:  # fmt: skip
        self.name, self.every_ms = str(path), every_ms
        self._path, self._reader, self._deployments, self._begin = path, reader, deployments, begin
        self._places: set[tuple[str, str]] = set()

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """Raises Unavailable where the log cannot be read."""
        before = msgspec.msgpack.decode(mark, type=AccessLogCheckpoint) if mark else None
        try:
            path, at, ended = self._place(before)
            with path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                file.seek(at)
                whole = file.read(READ_BYTES)
        except OSError as error:
            hint = "Does the gateway write there, and may this user read it?"
            raise Unavailable(f"The access log {self._path} cannot be read: {error.strerror}", hint) from error
        if ended and len(whole) < READ_BYTES and not whole.endswith(b"\n"):
            whole += b"\n"
        lines, refused = self._lines(whole, at)
        rows = []
        for offset, line in lines:
            try:
                rows.append(self._reader.read(line, f"{inode}-{offset}"))
            except BadInput as error:
                refused.append(f"{path}, byte {offset}: {error}")
        used = whole.rfind(b"\n") + 1 if len(whole) < READ_BYTES or b"\n" in whole else len(whole)
        after = AccessLogCheckpoint(inode, at + used)
        more = used > 0 and (len(whole) == READ_BYTES or path != self._path)
        made = list(self._made(rows, clock.wall_ms(), behind=more))
        return Collected(made, msgspec.msgpack.encode(after), more, refused, self._notes())

    def _notes(self) -> list[str]:
        return [
            f"no rule says who serves {u}: its requests show as unmetered" for u in self._deployments.new_unmatched()
        ]

    def _place(self, before: AccessLogCheckpoint | None) -> tuple[Path, int, bool]:
        """The file to read now, from where, and whether nobody writes to it any more."""
        now = self._path.stat()
        if before is None:
            return self._path, now.st_size if self._begin == "end" else 0, False
        if now.st_ino == before.inode:
            return self._path, before.offset if before.offset <= now.st_size else 0, False
        for beside in sorted(self._path.parent.glob(f"{self._path.name}*")):
            found = beside.stat()
            if found.st_ino == before.inode and (found.st_size > before.offset or not now.st_size):
                return beside, before.offset, now.st_size > 0
        return self._path, 0, False

    def _lines(self, whole: bytes, at: int) -> tuple[list[tuple[int, bytes]], list[str]]:
        """(offset, line) of each line that is ended; and what is wrong with one that has no end."""
        if len(whole) == READ_BYTES and b"\n" not in whole:
            return [], [f"{self._path}, byte {at}: a line is longer than {READ_BYTES:,} bytes"]
        found, offset = [], at
        for line in whole[: whole.rfind(b"\n") + 1].splitlines(keepends=True):
            if line.strip():
                found.append((offset, line.strip()))
            offset += len(line)
        return found, []

    def _made(self, rows: list[RequestRow], now_ms: int, *, behind: bool) -> Iterator[Made]:
        """Batches by workload. Those of an earlier look that nothing came for hear that the log is complete up to now,
        unless there is more to read."""
        groups = dict(self._deployments.group_by_workload(rows))
        self._places |= groups.keys()
        for cluster, workload in sorted(self._places):
            here = groups.get((cluster, workload), [])
            for start in range(0, max(len(here), 1), MAX_ROWS):
                part = here[start : start + MAX_ROWS]
                if part or not behind:
                    t_ms = 0 if behind or start + MAX_ROWS < len(here) else now_ms
                    yield Made(cluster, workload, token_batch(part, t_ms), self.name)
