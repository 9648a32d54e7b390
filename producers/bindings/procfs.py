"""What the kernel says of a process: files of proc(5), under a root that tests may choose.

A command line may hold secrets: it is matched against rules here, and goes nowhere.
"""

from __future__ import annotations

import pwd
import re
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 65_536
_CONTAINER = re.compile(r"[0-9a-f]{64}")


class ProcessInfo(NamedTuple):
    """A process: its user by number and name ("" where there is none), its command line, its control group's path, and
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

    def look(self, pid: int) -> ProcessInfo | None:
        """None for one that is gone, or that this process may not see."""
        try:
            status = self._read(pid, "status")
            command = self._read(pid, "cmdline").replace("\0", " ").strip() or self._read(pid, "comm").strip()
            cgroup = self._read(pid, "cgroup")
        except OSError:
            return None
        found = re.search(r"^Uid:\s+(\d+)", status, re.M)
        uid = int(found[1]) if found else -1
        path = max((line.split(":", 2)[-1] for line in cgroup.splitlines()), key=len, default="")
        container = _CONTAINER.search(path)
        return ProcessInfo(pid, uid, _user(uid), command, path, container[0] if container else "")

    def variable(self, pid: int, name: str) -> str:
        """What a process was started with in this environment variable, which is what it says of itself; "" where
        that is unknown. Nothing else of its environment is kept."""
        try:
            found = re.search(rf"(?:^|\0){re.escape(name)}=([^\0]*)", self._read(pid, "environ"))
        except OSError:
            return ""
        return found[1] if found else ""

    def _read(self, pid: int, file: str) -> str:
        with (self._root / str(pid) / file).open("rb") as opened:
            return opened.read(MAX_BYTES).decode("utf-8", "replace")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""
