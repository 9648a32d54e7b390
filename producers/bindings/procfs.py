"""Processes as the kernel describes them: files of proc(5), under a configurable root.

A command line may contain secrets: it is matched against rules here and sent nowhere.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 65_536
_CONTAINER = re.compile(r"[0-9a-f]{64}")


class ProcessInfo(NamedTuple):
    """A process: its user by number and name ("" if it has none), its command line, the path of its control group, and
    the id of its container ("" outside of one)."""

    pid: int
    uid: int
    user: str
    command: str
    cgroup: str
    container: str


class ProcFs:
    """Processes under `root`: /proc, or the host's where that is mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def process(self, pid: int) -> ProcessInfo | None:
        """Return a process, None for one that has ended or is not visible to this process."""
        try:
            status = self._read(pid, "status")
            command = self._read(pid, "cmdline").replace("\0", " ").strip() or self._read(pid, "comm").strip()
            cgroup = self._read(pid, "cgroup")
        except OSError:
            return None
        match = re.search(r"^Uid:\s+([0-9]{1,10})\b", status, re.M)
        uid = int(match[1]) if match else -1
        path = max((line.split(":", 2)[-1] for line in cgroup.splitlines()), key=len, default="")
        container = _CONTAINER.search(path)
        return ProcessInfo(pid, uid, _user(uid), command, path, container[0] if container else "")

    def processes(self) -> Iterator[ProcessInfo]:
        """Yield every process that is visible to this process."""
        try:
            pids = [int(path.name) for path in self._root.iterdir() if path.name.isascii() and path.name.isdigit()]
        except OSError:
            return
        for pid in pids:
            process = self.process(pid)
            if process is not None:
                yield process

    def variable(self, pid: int, name: str) -> str:
        """Return an environment variable that a process was started with, "" if it is unknown.

        The process chose its value. Nothing else of its environment is kept.
        """
        try:
            match = re.search(rf"(?:^|\0){re.escape(name)}=([^\0]*)", self._read(pid, "environ"))
        except OSError:
            return ""
        return match[1] if match else ""

    def _read(self, pid: int, file: str) -> str:
        with (self._root / str(pid) / file).open("rb") as stream:
            return stream.read(MAX_BYTES).decode("utf-8", "replace")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except Exception:
        return ""
