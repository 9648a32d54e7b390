"""Follows the folder that LiteLLM's callback (`callback`) writes to, and deletes files that are done.

The checkpoint is the offset up to which each file was read, with the identities of recent calls for deduplication. A
file is deleted once a stored checkpoint says that it was read to its end and nothing was written to it for an hour.
The callback leaves a file after minutes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from stat import S_ISREG

import msgspec

from contracts.errors import Unavailable
from producers.api import PollResult
from producers.gateways.deployments import Deployments
from producers.gateways.estimates import call_batches
from producers.gateways.litellm.callback import DROPPED
from producers.gateways.litellm.payloads import ORIGIN, LiteLLMReader
from producers.gateways.remarks import FirstRemarks
from producers.runtime.clock import Clock
from producers.runtime.deduplication import DeduplicationTrial, DeduplicationWindow

READ_BYTES = 2**20
"""Bytes read in one step. A longer line is refused."""
OLD_MS = 3_600_000
MAX_UNREADABLE = 1_000
"""Files that cannot be read and are remembered, so that each is reported once."""


class CallbackFolderCheckpoint(msgspec.Struct, frozen=True):
    """The offset up to which each file was read, the recent calls (`DeduplicationWindow.dump`) and their estimates."""

    offsets: dict[str, int]
    recent: bytes = b""
    estimates: dict[str, bytes] = {}


class FolderLines(msgspec.Struct):
    """Lines of one step as (place, line), refused ones as messages, and the bytes that the step may still read."""

    lines: list[tuple[str, object]] = []
    refused: list[str] = []
    left_bytes: int = READ_BYTES


class CallbackFolder:
    """The callback's folder as a polled source. `ahead_ms` is how far in the future a call may end."""

    kind = "litellm"

    def __init__(
        self, folder: Path, reader: LiteLLMReader, deployments: Deployments, *, every_ms: int = 1_000,
        ahead_ms: int = 2_500,
    ) -> None:  # fmt: skip
        self.name, self.every_ms = str(folder), every_ms
        self._folder, self._reader, self._deployments, self._ahead_ms = folder, reader, deployments, ahead_ms
        self._unreadable: set[str] = set()
        self._remarks = FirstRemarks()

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read the calls after a checkpoint. Raises Unavailable if the folder cannot be read."""
        before = (
            msgspec.msgpack.decode(checkpoint, type=CallbackFolderCheckpoint)
            if checkpoint
            else CallbackFolderCheckpoint({})
        )
        try:
            block, offsets = self._read(before.offsets, clock.wall_ms())
        except OSError as error:
            hint = "Does LiteLLM's callback write there, and may this user read and delete its files?"
            raise Unavailable(f"The folder {self._folder} cannot be read: {error.strerror}", hint) from error
        recent = DeduplicationWindow(before.recent)
        recent.estimates.load(before.estimates)
        trial = DeduplicationTrial(recent)
        result = self._reader.payloads(block.lines, trial, clock.wall_ms() + self._ahead_ms)
        calls = call_batches(result.calls, result.reports, trial, self._deployments, ORIGIN, self.name)
        trial.commit()
        after = msgspec.msgpack.encode(CallbackFolderCheckpoint(offsets, recent.dump(), recent.estimates.parts()))
        notes = [*self._remarks.new(result.remarks), *self._deployments.new_notes()]
        return PollResult(
            calls.batches, after, block.left_bytes <= 0, [*block.refused, *result.refused], notes,
            skipped=calls.skipped + Counter(result.skipped), corrected=calls.corrected + Counter(result.corrected),
        )  # fmt: skip

    def _read(self, offsets: dict[str, int], now_ms: int) -> tuple[FolderLines, dict[str, int]]:
        """Read the lines after these offsets, and return them with the next offsets."""
        block, after = FolderLines(), dict[str, int]()
        for path in sorted(self._folder.iterdir()):
            if path.suffix != ".jsonl":
                continue
            start = offsets.get(path.name, 0)
            try:
                if not path.name.isprintable():
                    raise OSError(0, "its name cannot be printed")
                stat = path.stat()
                if not S_ISREG(stat.st_mode):  # A pipe would be waited for.
                    raise OSError(0, "it is no regular file")
                old = now_ms - stat.st_mtime_ns // 1_000_000 > OLD_MS
                if old and path.name in offsets and start >= stat.st_size:
                    path.unlink()  # `offsets` comes from a stored checkpoint, so the lines of the file are safe.
                    continue
                after[path.name] = self._read_file(path, start, block, closed=old) if block.left_bytes > 0 else start
            except FileNotFoundError:
                continue
            except OSError as error:
                self._refuse_file(path, start, error, block, after)
        return block, after

    def _refuse_file(
        self, path: Path, start: int, error: OSError, block: FolderLines, after: dict[str, int]
    ) -> None:  # fmt: skip
        """Leave out a file that cannot be read, and report it once. It is tried again in each step."""
        if path.name.isprintable():
            after[path.name] = start
        if path.name not in self._unreadable and len(self._unreadable) < MAX_UNREADABLE:
            self._unreadable.add(path.name)
            block.refused.append(f"{path.name!a}: cannot be read: {error.strerror}")

    def _read_file(self, path: Path, start: int, block: FolderLines, *, closed: bool) -> int:
        """Add the complete lines of a file to `block`, or all lines if the file is closed. Return the next offset."""
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(block.left_bytes)
        full = len(data) == block.left_bytes
        if closed and not full:
            used = len(data)
        elif full and b"\n" not in data and len(data) == READ_BYTES:
            block.refused.append(f"{path.name}, byte {start}: a line is longer than {READ_BYTES:,} bytes")
            block.left_bytes = 0
            return start + len(data)
        else:
            used = data.rfind(b"\n") + 1
        offset = start
        for line in data[:used].splitlines(keepends=True):
            if line.strip():
                _add_line(block, f"{path.name}, byte {offset}", line)
            offset += len(line)
        block.left_bytes = 0 if full else block.left_bytes - len(data)
        return start + used


def _add_line(block: FolderLines, place: str, line: bytes) -> None:
    """Add a request. A count of requests that the callback dropped is reported, because they are on no bill."""
    if line.startswith(b'{"%s"' % DROPPED.encode()):
        block.refused.append(f"{place}: the callback had no room for requests before this: {line[:60]!r}")
    else:
        block.lines.append((place, line))
