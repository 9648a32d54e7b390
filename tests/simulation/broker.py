"""The simulated log and its consumer group: offsets, commits, generations, eager rebalances, expiring sessions.

The broker itself does not fail. Failures are on the way to it: lost commits and heartbeats, silent workers, members
that are too late for a rebalance.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from contracts import topics
from streams.core.decoding import LogMessage
from tests.simulation.loop import Process, World

TopicPartition = tuple[str, int]
Headers = list[tuple[str, bytes]] | None

SESSION_MS = 4_000.0
"""After this silence a member counts as dead."""
REBALANCE_MS = 3_000.0
"""Time that a rebalance waits for members to give up their partitions."""


class Log:
    """Both joined topics, `partitions` each. Some offsets hold nothing, as where a transaction ended."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.messages: dict[TopicPartition, list[LogMessage]] = {
            (t, p): [] for t in topics.JOINED for p in range(partitions)
        }
        self.on_append: list[Callable[[TopicPartition], None]] = []

    def append(self, tp: TopicPartition, headers: Headers, value: bytes | None, *, skip: int = 0) -> int:
        """Append a message behind `skip` empty offsets; return its offset."""
        offset = self.end(tp) + skip
        self.messages[tp].append(LogMessage(tp[0], offset, headers, value))
        for notify in self.on_append:
            notify(tp)
        return offset

    def read(self, tp: TopicPartition, offset: int, limit: int) -> list[LogMessage]:
        """Messages from an offset on."""
        here = self.messages[tp]
        at = bisect_left(here, offset, key=lambda m: m.offset)
        return here[at : at + limit]

    def end(self, tp: TopicPartition) -> int:
        here = self.messages[tp]
        return here[-1].offset + 1 if here else 0

    def ends(self) -> dict[TopicPartition, int]:
        return {tp: self.end(tp) for tp in self.messages}


@dataclass
class Member:
    """A process in the group. `joined` waits for its part of the next generation."""

    process: Process
    generation: int = -1
    heard_ms: float = 0.0
    numbers: list[int] = field(default_factory=list)
    joined: asyncio.Future[tuple[int, list[int]]] | None = None


class Group:
    """The coordinator. It calls `check` before it accepts a commit."""

    def __init__(
        self, world: World, rng: Random, log: Log, check: Callable[[str, Mapping[TopicPartition, int]], None]
    ) -> None:
        self.committed = dict.fromkeys(log.messages, 0)
        self.generation = 0
        self.rebalances = 0
        self._world, self._rng, self._log, self._check = world, rng, log, check
        self._members: dict[str, Member] = {}
        self._joining = False

    # -- requests of members
    # ---------------------------------------------------------------------------------------------

    def join(self, process: Process) -> asyncio.Future[tuple[int, list[int]]]:
        """(generation, partitions) when all members have joined, or when the others have been too slow."""
        future: asyncio.Future[tuple[int, list[int]]] = process.create_future()
        member = self._members.setdefault(process.name, Member(process))
        member.joined, member.heard_ms = future, self._world.now_ms
        if not self._joining:
            self._begin()
        self._complete_if_all()
        return future

    def leave(self, name: str) -> None:
        if self._members.pop(name, None) is None:
            return
        self._world.note("group", "{} leaves", name)
        if not self._joining:
            self._begin()
        self._complete_if_all()

    def heartbeat(self, name: str) -> Literal["ok", "rejoin", "unknown"]:
        member = self._members.get(name)
        if member is None:
            return "unknown"
        member.heard_ms = self._world.now_ms
        return "rejoin" if self._joining or member.generation != self.generation else "ok"

    def commit(self, name: str, generation: int, offsets: Mapping[TopicPartition, int]) -> bool:
        """Accept a commit; False from a process that is no longer a member, or is of an earlier generation."""
        member = self._members.get(name)
        if member is None or member.generation != generation or generation != self.generation:
            self._world.note("group", "refuses a commit of {}", name)
            return False
        self._check(name, offsets)
        for tp, offset in offsets.items():
            self.committed[tp] = offset
        return True

    def holders(self) -> dict[int, str]:
        """The current holder of each partition."""
        return {} if self._joining else {n: name for name, m in self._members.items() for n in m.numbers}

    # -- generations ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._members:
            return
        self._joining = True
        self.rebalances += 1
        self._world.note("group", "rebalances")
        of = self.rebalances
        self._world.later(REBALANCE_MS, lambda: self._complete() if self._joining and self.rebalances == of else None)

    def _complete_if_all(self) -> None:
        if self._joining and all(m.joined is not None for m in self._members.values()):
            self._complete()

    def _complete(self) -> None:
        late = [name for name, m in self._members.items() if m.joined is None]
        for name in late:
            self._world.note("group", "goes on without {}", name)
            del self._members[name]
        self._joining = False
        if not self._members:
            return
        self.generation += 1
        dealt = self._deal(list(self._members))
        for name, member in self._members.items():
            member.generation, member.numbers, member.heard_ms = self.generation, dealt[name], self._world.now_ms
            future, member.joined = member.joined, None
            assert future is not None
            self._answer(member.process, future, (self.generation, list(member.numbers)))
            self._watch(name, self.generation)
        self._world.note("group", "generation {}: {}", self.generation, dealt)

    def _answer(
        self, process: Process, future: asyncio.Future[tuple[int, list[int]]], part: tuple[int, list[int]]
    ) -> None:
        def notify() -> None:
            if not future.done():
                future.set_result(part)

        self._world.later(self._rng.uniform(0.0, 50.0), lambda: process.call_soon(notify))

    def _deal(self, names: Iterable[str]) -> dict[str, list[int]]:
        """Partitions dealt out, beginning with a random member."""
        order = list(names)
        self._rng.shuffle(order)
        return {name: list(range(i, self._log.partitions, len(order))) for i, name in enumerate(order)}

    def _watch(self, name: str, generation: int) -> None:
        """End the member's session after too long a silence."""

        def expire() -> None:
            member = self._members.get(name)
            if member is None or member.generation != generation:
                return
            silent_ms = self._world.now_ms - member.heard_ms
            if silent_ms < SESSION_MS:
                self._world.later(SESSION_MS - silent_ms, expire)
            elif member.joined is None:
                self._world.note("group", "takes {} for dead", name)
                self.leave(name)

        self._world.later(SESSION_MS, expire)
