"""What LiteLLM's callback (`litellm_callback`) has written down, read as it comes, and deleted when it is done with.

The mark is how far each file was read, with the names of what came lately. A file is deleted once the mark that says it
was read to its end is kept, and nobody has written to it for an hour: the callback leaves a file after minutes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from contracts.errors import Unavailable
from producers.gateways.calls import batches, group_by_workload
from producers.gateways.deployments import Deployments
from producers.gateways.litellm.callback import DROPPED
from producers.gateways.litellm.payloads import LiteLLMReader
from producers.runtime.clock import Clock
from producers.runtime.deduplication import DOUBLE, Recent
from producers.runtime.poll_loop import Collected

READ_BYTES = 2**20
"""Read in one step; a line longer than this is refused."""
OLD_MS = 3_600_000
ORIGIN = "litellm"


class CallbackFolderCheckpoint(msgspec.Struct, frozen=True):
    """How far each file was read, and what came lately (`Recent.dump`)."""

    offsets: dict[str, int]
    recent: bytes = b""


class FolderLines(msgspec.Struct):
    """What one step has read: (place, line) each."""

    found: list[tuple[str, bytes]] = []
    refused: list[str] = []
    left: int = READ_BYTES


class CallbackFolder:
    """See the module: a `producers.runtime.poll_loop.Source`. `ahead_ms`: how far ahead an end may lie."""

    kind = "litellm"

    def __init__(
        self,
        folder: Path,
        litellm: LiteLLMReader,
        deployments: Deployments,
        *,
        every_ms: int = 1_000,
        ahead_ms: int = 2_500,
    ) -> None:
        self.name, self.every_ms = str(folder), every_ms
        self._folder, self._litellm, self._deployments, self._ahead_ms = folder, litellm, deployments, ahead_ms

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """Raises Unavailable where the folder cannot be read."""
        before = msgspec.msgpack.decode(mark, type=CallbackFolderCheckpoint) if mark else CallbackFolderCheckpoint({})
        try:
            lines, offsets = self._read(before.offsets, clock.wall_ms())
        except OSError as error:
            hint = "Does LiteLLM's callback write there, and may this user read and delete its files?"
            raise Unavailable(f"The folder {self._folder} cannot be read: {error.strerror}", hint) from error
        recent = Recent(before.recent)
        told = self._litellm.payloads(self._without_drops(lines), recent, clock.wall_ms() + self._ahead_ms)
        made = list(batches(group_by_workload(told.calls, self._deployments, ORIGIN), self.name))
        notes = [
            f"no rule says who serves {u}: its requests show as unmetered" for u in self._deployments.new_unmatched()
        ]
        after = msgspec.msgpack.encode(CallbackFolderCheckpoint(offsets, recent.dump()))
        skipped = {DOUBLE: told.doubles} if told.doubles else {}
        return Collected(made, after, lines.left <= 0, [*lines.refused, *told.refused], notes, skipped)

    def _read(self, offsets: dict[str, int], now_ms: int) -> tuple[FolderLines, dict[str, int]]:
        """What came since these offsets, and the next ones."""
        lines, after = FolderLines(), dict[str, int]()
        for path in sorted(self._folder.iterdir()):
            if path.suffix != ".jsonl":
                continue
            at, stat = offsets.get(path.name, 0), path.stat()
            old = now_ms - stat.st_mtime_ns // 1_000_000 > OLD_MS
            if old and path.name in offsets and at >= stat.st_size:
                path.unlink()  # The mark that says so is kept: it was given to us.
                continue
            after[path.name] = self._lines(path, at, lines, ended=old) if lines.left > 0 else at
        return lines, after

    def _lines(self, path: Path, at: int, lines: FolderLines, *, ended: bool) -> int:
        """The lines of a file that are ended, or all if nobody writes to it any more; and where the next one begins."""
        with path.open("rb") as file:
            file.seek(at)
            whole = file.read(lines.left)
        full = len(whole) == lines.left
        if ended and not full:
            used = len(whole)
        elif full and b"\n" not in whole and len(whole) == READ_BYTES:
            lines.refused.append(f"{path.name}, byte {at}: a line is longer than {READ_BYTES:,} bytes")
            lines.left = 0
            return at + len(whole)
        else:
            used = whole.rfind(b"\n") + 1
        offset = at
        for line in whole[:used].splitlines(keepends=True):
            if line.strip():
                lines.found.append((f"{path.name}, byte {offset}", line))
            offset += len(line)
        lines.left = 0 if full else lines.left - len(whole)
        return at + used

    def _without_drops(self, lines: FolderLines) -> list[tuple[str, object]]:
        """The lines that are requests. What the callback had no room for is told, for it is on no bill."""
        kept: list[tuple[str, object]] = []
        for place, line in lines.found:
            if line.startswith(b'{"%s"' % DROPPED.encode()):
                lines.refused.append(f"{place}: the callback had no room for requests before this: {line[:60]!r}")
            else:
                kept.append((place, line))
        return kept
