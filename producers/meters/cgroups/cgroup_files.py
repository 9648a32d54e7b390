"""A node's cgroups (version 2), and the node itself, as things with counters and levels: CPU, memory, storage, network.

https://docs.kernel.org/admin-guide/cgroup-v2.html: `cpu.stat` (usage_usec), `memory.current`, `io.stat` (rbytes,
wbytes by device). Network traffic is nobody's cgroup's; the node's is in /proc/net/dev.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from contracts import topics
from contracts.errors import Unavailable
from producers.common.counter_delta import MAX_OBJECTS, CounterSnapshot, ObjectCounters
from producers.meters.observed import MeteredOwner, Observation
from producers.runtime.clock import Clock, boot_id

KIND = "cgroups"
HOST = "/"
"""The name of the node itself among its things."""


class CgroupRule(BaseModel):
    """Cgroups whose path matches are this workload's. `*` does not cross a '/', `**` does."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str = Field(description="Below the root: system.slice/vllm-*.service.", min_length=1)
    workload: str = Field(description="Workload that they are.", min_length=1)
    tenant: str = Field("", description="Who pays; empty: nobody is named.")


class CgroupReader:
    """Looks at a node. `root` is where cgroup v2 is mounted, `proc` where procfs is."""

    def __init__(
        self, groups: Sequence[CgroupRule], node: str, *, root: Path, proc: Path, host: bool, interfaces: Sequence[str]
    ) -> None:
        self._groups, self._node, self._root, self._proc = groups, node, root, proc
        self._host, self._interfaces = host, interfaces
        self._found: set[str] = set()
        self._missing: set[str] = set()
        self._scope = repr((tuple(g.path for g in groups), host, tuple(interfaces)))

    def see(self, clock: Clock) -> Observation:
        """Raises Unavailable where cgroup v2 is not, or may not be read."""
        if not (self._root / "cgroup.controllers").exists():
            raise Unavailable(
                f"{self._root} is not cgroup v2", "Mount it (`mount -t cgroup2`), or set `root`.", lasting=True
            )
        t_ms = clock.wall_ms()
        things: dict[str, ObjectCounters] = {}
        places: dict[str, MeteredOwner] = {}
        try:
            for path, group in self._matches():
                if (thing := _thing(path, t_ms)) is not None:
                    name = str(path.relative_to(self._root))
                    things[name] = thing
                    places[name] = MeteredOwner(
                        group.workload, group.tenant, {"node": self._node, "cgroup": name[-253:]}
                    )
            if self._host:
                things[HOST] = self._node_itself(t_ms)
                places[HOST] = MeteredOwner(topics.node_workload(self._node), "", {"node": self._node})
        except PermissionError as error:
            mend = "Run as a user who may, or mount it for this container."
            raise Unavailable(f"{error.filename} may not be read", mend, lasting=True) from error
        return Observation(CounterSnapshot(t_ms, boot_id(), self._scope, things), places, self._notes())

    def _notes(self) -> tuple[str, ...]:
        """Groups that nothing matches any more, told once."""
        missing = {group.path for group in self._groups} - self._found
        new = missing - self._missing
        self._missing = missing
        return tuple(f"no cgroup is {path}" for path in sorted(new))

    def _matches(self) -> Iterator[tuple[Path, CgroupRule]]:
        """Each cgroup once, with the first of the groups that it matches."""
        seen: set[Path] = set()
        self._found = set()
        for group in self._groups:
            for path in sorted(self._root.glob(group.path)):
                self._found.add(group.path)
                if path not in seen and path.is_dir() and len(seen) <= MAX_OBJECTS:
                    seen.add(path)
                    yield path, group

    def _node_itself(self, t_ms: int) -> ObjectCounters:
        counters = _counters(self._root)
        counters |= dict(zip(("received_bytes", "sent_bytes"), self._traffic(), strict=True))
        memory = _pairs((self._proc / "meminfo").read_text("ascii"))
        used = 1024 * (memory.get("MemTotal:", 0) - memory.get("MemAvailable:", 0))
        return ObjectCounters(t_ms, counters, {"memory_bytes": used})

    def _traffic(self) -> tuple[int, int]:
        received = sent = 0
        for line in (self._proc / "net" / "dev").read_text("ascii").splitlines():
            name, colon, values = line.partition(":")
            if colon and any(fnmatchcase(name.strip(), pattern) for pattern in self._interfaces):
                numbers = values.split()
                received, sent = received + int(numbers[0]), sent + int(numbers[8])
        return received, sent


def _thing(path: Path, t_ms: int) -> ObjectCounters | None:
    """None for a cgroup that has gone meanwhile."""
    try:
        counters = _counters(path)
        level = path / "memory.current"
        levels = {"memory_bytes": int(level.read_text("ascii"))} if level.exists() else {}
        return ObjectCounters(t_ms, counters, levels, str(path.stat().st_ino))
    except (FileNotFoundError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        return None


def _counters(path: Path) -> dict[str, int]:
    """What controllers are switched on for this cgroup."""
    found: dict[str, int] = {}
    if (stat := path / "cpu.stat").exists():
        found["cpu_ns"] = 1000 * _pairs(stat.read_text("ascii")).get("usage_usec", 0)
    if (io := path / "io.stat").exists():
        read, written = _bytes(io.read_text("ascii"))
        found |= {"read_bytes": read, "written_bytes": written}
    return found


def _pairs(text: str) -> dict[str, int]:
    """`name value [unit]` a line."""
    return {words[0]: int(words[1]) for line in text.splitlines() if len(words := line.split()) >= 2}


def _bytes(text: str) -> tuple[int, int]:
    """Read and written, over all devices: `8:0 rbytes=1 wbytes=2 ...` a line."""
    found = [dict(w.split("=", 1) for w in line.split()[1:] if "=" in w) for line in text.splitlines()]
    return sum(int(d.get("rbytes", 0)) for d in found), sum(int(d.get("wbytes", 0)) for d in found)
