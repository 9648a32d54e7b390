"""Follows a gateway's access log: one JSON object per line, at most one request each.

The checkpoint is the file (its inode) and the offset up to which it was read. A log that was renamed is read to its end
first, as long as it is in the same folder and the gateway has not written to the new one. A log that was truncated is
read from its start. A line without its end is read when it is complete.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Literal

import msgspec

from contracts.errors import Unavailable
from producers.api import PollResult, WorkloadBatch
from producers.gateways.accesslog.lines import LineReader
from producers.gateways.calls import check_end_ms
from producers.gateways.deployments import Deployments
from producers.runtime.batching import RequestRow, token_batch
from producers.runtime.clock import Clock
from producers.runtime.refusals import read_each

READ_BYTES = 2**20
"""Bytes read at once. A longer line is refused."""
MAX_ROWS = 4_096
"""Requests in one event."""


MAX_WORKLOADS = 1_000
"""Workloads that the next run goes on saying "complete up to now" for, without a request."""


class AccessLogCheckpoint(msgspec.Struct, frozen=True):
    """A file, the offset in bytes up to which it was read, and the workloads (cluster, name) of its requests so far."""

    inode: int
    offset: int
    workloads: list[tuple[str, str]] = []


class AccessLog:
    """A gateway's access log as a polled source.

    `begin` says where to start in a file without a checkpoint, `ahead_ms` how far in the future a request may end.
    """

    kind = "accesslog"

    def __init__(
        self, path: Path, reader: LineReader, deployments: Deployments, *, every_ms: int = 1_000,
        begin: Literal["start", "end"] = "end", ahead_ms: int = 2_500,
    ) -> None:  # fmt: skip
        self.name, self.every_ms = str(path), every_ms
        self._path, self._reader, self._deployments, self._begin = path, reader, deployments, begin
        self._ahead_ms = ahead_ms
        self._workloads: set[tuple[str, str]] = set()

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read the requests after a checkpoint. Raises Unavailable if the log cannot be read."""
        before = msgspec.msgpack.decode(checkpoint, type=AccessLogCheckpoint) if checkpoint else None
        self._workloads.update(before.workloads if before else ())
        try:
            path, start, closed = self._file(before)
            with path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                file.seek(start)
                block = file.read(READ_BYTES)
        except OSError as error:
            hint = "Does the gateway write there, and may this user read it?"
            raise Unavailable(f"The access log {self._path} cannot be read: {error.strerror}", hint) from error
        if closed and len(block) < READ_BYTES and not block.endswith(b"\n"):
            block += b"\n"
        lines, refused = self._lines(block, start)
        placed = ((f"{path}, byte {offset}", (line, f"{inode}-{offset}")) for offset, line in lines)
        rows, skipped, latest_ms = list[RequestRow](), Counter[str](), clock.wall_ms() + self._ahead_ms

        def read(item: tuple[bytes, str]) -> RequestRow | str:
            result = self._reader.read(*item)
            if isinstance(result, RequestRow):
                check_end_ms(result.t_end_ms, latest_ms)
            return result

        for result in read_each(placed, read, refused):
            if isinstance(result, str):
                skipped[result] += 1
            else:
                rows.append(result)
        used = block.rfind(b"\n") + 1 if len(block) < READ_BYTES or b"\n" in block else len(block)
        more = used > 0 and (len(block) == READ_BYTES or path != self._path)
        workload_batches = list(self._batches(rows, clock.wall_ms(), behind=more))
        after = AccessLogCheckpoint(inode, start + used, sorted(self._workloads)[:MAX_WORKLOADS])
        return PollResult(
            workload_batches, msgspec.msgpack.encode(after), more, refused, self._deployments.new_notes(), skipped,
            corrected=self._reader.drain_corrected(),
        )  # fmt: skip

    def _file(self, before: AccessLogCheckpoint | None) -> tuple[Path, int, bool]:
        """Return the file to read now, the offset to start at, and whether the gateway has left the file."""
        current = self._path.stat()
        if not S_ISREG(current.st_mode):  # A pipe would be waited for, and has no offsets.
            raise OSError(0, "it is no regular file")
        if before is None:
            return self._path, current.st_size if self._begin == "end" else 0, False
        if current.st_ino == before.inode:
            return self._path, before.offset if before.offset <= current.st_size else 0, False
        for rotated in sorted(self._path.parent.glob(f"{self._path.name}*")):
            stat = rotated.stat()
            if stat.st_ino == before.inode and (stat.st_size > before.offset or not current.st_size):
                return rotated, before.offset, current.st_size > 0
        return self._path, 0, False

    def _lines(self, block: bytes, start: int) -> tuple[list[tuple[int, bytes]], list[str]]:
        """Return (offset, line) of each complete line, and the error of a line that is too long."""
        if len(block) == READ_BYTES and b"\n" not in block:
            return [], [f"{self._path}, byte {start}: a line is longer than {READ_BYTES:,} bytes"]
        lines, offset = [], start
        for line in block[: block.rfind(b"\n") + 1].splitlines(keepends=True):
            if line.strip():
                lines.append((offset, line.strip()))
            offset += len(line)
        return lines, []

    def _batches(self, rows: list[RequestRow], now_ms: int, *, behind: bool) -> Iterator[WorkloadBatch]:
        """Yield batches by workload, and heartbeats of earlier workloads without a request.

        Unless there is more to read (`behind`), the last batch of each says that the log is complete up to now.
        """
        groups = dict(self._deployments.group_by_workload(rows))
        self._workloads |= groups.keys()
        for cluster, workload in sorted(self._workloads):
            group = groups.get((cluster, workload), [])
            for start in range(0, max(len(group), 1), MAX_ROWS):
                part = group[start : start + MAX_ROWS]
                if part or not behind:
                    t_ms = 0 if behind or start + MAX_ROWS < len(group) else now_ms
                    yield WorkloadBatch(cluster, workload, token_batch(part, t_ms), self.name)
