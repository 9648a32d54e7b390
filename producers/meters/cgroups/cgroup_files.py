"""Reads counters and levels of a node and its cgroups (version 2): CPU, memory, storage, network.

https://docs.kernel.org/admin-guide/cgroup-v2.html: `cpu.stat` (usage_usec), `memory.current`, `io.stat` (rbytes and
wbytes by device). Network traffic is not counted by cgroup; the node's is in /proc/net/dev.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from errno import ENODEV, ENOENT
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import NamedTuple

from contracts import topics
from contracts.errors import Unavailable
from producers.common.counter_delta import MAX_OBJECTS, CounterSnapshot, ObjectCounters
from producers.meters.cgroups.config import CgroupRule
from producers.meters.observations import MeteredOwner, Observation, check_counts
from producers.runtime.clock import Clock, boot_id
from producers.runtime.refusals import read_each

KIND = "cgroups"
HOST = "/"
"""The name of the node itself among the objects."""


class _ObjectReader(NamedTuple):
    """Reader of a cgroup or of the node. `counters` returns None for one that has gone."""

    name: str
    owner: MeteredOwner
    counters: Callable[[], ObjectCounters | None]


class CgroupReader:
    """Observes the cgroups of a node, and the node itself if `host` is true.

    `root` is where cgroup v2 is mounted, `proc` where procfs is. `interfaces` are patterns of network interfaces.
    """

    def __init__(
        self, rules: Sequence[CgroupRule], node: str, *, root: Path, proc: Path, host: bool, interfaces: Sequence[str]
    ) -> None:
        self._rules, self._node, self._root, self._proc = rules, node, root, proc
        self._host, self._interfaces = host, interfaces
        self._matching: set[str] = set()
        self._missing: set[str] = set()
        self._scope = repr((tuple(rule.path for rule in rules), host, tuple(interfaces)))

    def observe(self, clock: Clock) -> Observation:
        """Read all counters and levels. A cgroup whose files are malformed is refused alone.

        Raises Unavailable if cgroup v2 is not there, or may not be read.
        """
        if not (self._root / "cgroup.controllers").exists():
            raise Unavailable(
                f"{self._root} is not cgroup v2", "Mount it (`mount -t cgroup2`), or set `root`.", lasting=True
            )
        t_ms = clock.wall_ms()
        objects: dict[str, ObjectCounters] = {}
        owners: dict[str, MeteredOwner] = {}
        refused: list[str] = []
        placed = ((f"{reader.name[:253]!a}", reader) for reader in self._readers(t_ms))
        for reader, counters in read_each(placed, _read, refused):
            if counters is not None:
                objects[reader.name], owners[reader.name] = counters, reader.owner
        snapshot = CounterSnapshot(t_ms, boot_id(), self._scope, objects)
        return Observation(snapshot, owners, self._notes(), tuple(refused))

    def _readers(self, t_ms: int) -> Iterator[_ObjectReader]:
        """Yield the reader of each cgroup, and of the node."""
        for path, rule in self._matches():
            name = str(path.relative_to(self._root))
            owner = MeteredOwner(rule.workload, rule.tenant, {"node": self._node, "cgroup": name[-253:]})
            yield _ObjectReader(name, owner, partial(_read_cgroup, path, t_ms))
        if self._host:
            owner = MeteredOwner(topics.node_workload(self._node), "", {"node": self._node})
            yield _ObjectReader(HOST, owner, partial(self._read_node, t_ms))

    def _notes(self) -> tuple[str, ...]:
        """Return a note for each rule that no longer matches a cgroup, once."""
        missing = {rule.path for rule in self._rules} - self._matching
        new = missing - self._missing
        self._missing = missing
        return tuple(f"no cgroup is {path}" for path in sorted(new))

    def _matches(self) -> Iterator[tuple[Path, CgroupRule]]:
        """Yield each cgroup once, with the first rule that it matches."""
        paths: set[Path] = set()
        self._matching = set()
        for rule in self._rules:
            for path in sorted(self._root.glob(rule.path)):
                self._matching.add(rule.path)
                if path not in paths and path.is_dir() and len(paths) <= MAX_OBJECTS:
                    paths.add(path)
                    yield path, rule

    def _read_node(self, t_ms: int) -> ObjectCounters:
        counters = _counters(self._root)
        counters |= dict(zip(("received_bytes", "sent_bytes"), self._traffic(), strict=True))
        memory = _pairs((self._proc / "meminfo").read_text("ascii"))
        used_bytes = 1024 * max(memory.get("MemTotal:", 0) - memory.get("MemAvailable:", 0), 0)
        return ObjectCounters(t_ms, counters, {"memory_bytes": used_bytes})

    def _traffic(self) -> tuple[int, int]:
        """Return the bytes that the configured interfaces have received and sent."""
        received = sent = 0
        for line in (self._proc / "net" / "dev").read_text("ascii").splitlines():
            name, colon, values = line.partition(":")
            if colon and any(fnmatchcase(name.strip(), pattern) for pattern in self._interfaces):
                numbers = values.split()
                if len(numbers) < 9:
                    raise ValueError(f"{line[:80]!a} in net/dev has too few columns")
                received, sent = received + _count(numbers[0]), sent + _count(numbers[8])
        return received, sent


def _read(reader: _ObjectReader) -> tuple[_ObjectReader, ObjectCounters | None]:
    """Return a reader with its counters. Raises Unavailable where the node's files, or any, may not be read."""
    try:
        counters = reader.counters()
    except PermissionError as error:
        hint = "Run as a user who may, or mount it for this container."
        raise Unavailable(f"{error.filename} may not be read", hint, lasting=True) from error
    except FileNotFoundError as error:
        hint = "Is procfs mounted there? `proc` names it."
        raise Unavailable(f"{error.filename} cannot be read: {error.strerror}", hint) from error
    if counters is not None:
        check_counts(counters)
    return reader, counters


def _read_cgroup(path: Path, t_ms: int) -> ObjectCounters | None:
    """Return a cgroup's counters and levels, or None if it has gone. Raises ValueError if they are malformed."""
    if not str(path).isprintable():
        raise ValueError("its name cannot be printed")
    try:
        counters = _counters(path)
        level = path / "memory.current"
        levels = {"memory_bytes": _count(level.read_text("ascii").strip())} if level.exists() else {}
        return ObjectCounters(t_ms, counters, levels, str(path.stat().st_ino))
    except OSError as error:
        if error.errno in (ENOENT, ENODEV):
            return None
        raise


def _counters(path: Path) -> dict[str, int]:
    """Return the counters of the controllers that are on for a cgroup."""
    counters: dict[str, int] = {}
    if (stat := path / "cpu.stat").exists():
        counters["cpu_ns"] = 1000 * _pairs(stat.read_text("ascii")).get("usage_usec", 0)
    if (io := path / "io.stat").exists():
        read, written = _io_bytes(io.read_text("ascii"))
        counters |= {"read_bytes": read, "written_bytes": written}
    return counters


def _pairs(text: str) -> dict[str, int]:
    """Return the numbers of lines `name number [unit]`, by name."""
    return {words[0]: _count(words[1]) for line in text.splitlines() if len(words := line.split()) >= 2}


def _io_bytes(text: str) -> tuple[int, int]:
    """Return the bytes read and written over all devices, from lines `8:0 rbytes=1 wbytes=2 ...`."""
    devices = [dict(word.split("=", 1) for word in line.split()[1:] if "=" in word) for line in text.splitlines()]
    return (
        sum(_count(device.get("rbytes", "0")) for device in devices),
        sum(_count(device.get("wbytes", "0")) for device in devices),
    )


def _count(text: str) -> int:
    """Return a whole number of at most 20 digits. Raises ValueError for another text."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise ValueError(f"{text[:40]!a} is no count of at most 20 digits")
    return int(text)
