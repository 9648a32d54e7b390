"""A simulated worker process: the real `StreamWorker`, with simulated Faust and consumer around it.

Per topic a task hands messages to the stream worker, as Faust's agents do. One task is the member of the group (revoke,
join, assign, in that order); others send heartbeats and commits. A task that raises ends the process, as in production.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from contracts import topics
from contracts.errors import Fenced
from contracts.settings import Settings
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, RejectedMessage
from streams.log_reader import OffsetLookup
from streams.stream_worker import StreamWorker
from tests.simulation.broker import Group, Log, TopicPartition
from tests.simulation.loop import Process, World
from tests.simulation.sink import SimulatedSink
from tests.simulation.store import Store

LOG_ID = "simulated"
EPOCH_MS = 1_700_002_800_000
"""The time of virtual time 0: a full hour."""
HEARTBEAT_S = 0.5
STOP_WAIT_S = 2.0


class Refused(ConnectionError):
    """The broker refused a dead letter."""


@dataclass(frozen=True)
class Ways:
    """Failures on the way to the broker: shares of 1, delays in milliseconds."""

    lost_commits: float = 0.0
    lost_letters: float = 0.0
    """Refused dead letters; half of them are stored all the same."""
    fetch_ms: float = 5.0
    commit_every_s: float = 1.0
    commit_on_leaving: bool = True
    dropped: float = 0.0
    """Messages fetched and not delivered."""
    rereads_dropped: bool = True
    """Also when they are read again."""
    vouching: bool = False
    """The reader states from which offset its messages are complete, as far as it knows. It does not know of dropped
    ones.
    """
    overlapping: float = 0.0
    """Rebalances in which partitions are revoked while they are still being taken over."""


@dataclass
class Surroundings:
    """State shared by all workers."""

    world: World
    rng: Random
    log: Log
    group: Group
    store: Store
    settings: Settings
    policy: Policy
    ways: Ways
    letters: list[tuple[str, int, int]]
    """(topic, partition, offset) of dead letters, as often as they arrived."""
    met: Counter[str]
    stalled_until_ms: float = 0.0
    """Until then the log delivers nothing."""


class Worker:
    """One process from its start to its end."""

    def __init__(self, name: str, around: Surroundings, clock_ahead_ms: int = 0) -> None:
        self.name, self.around, self.clock_ahead_ms = name, around, clock_ahead_ms
        rng = around.rng
        self.process = Process(around.world, name, around.store, lambda: rng.uniform(0.0, 2.0))
        self.process.on_death = self._died
        self.isolated = False
        """No heartbeat and no commit gets through."""
        self.ended = False
        sink: Any = SimulatedSink(self.process)
        self.stream_worker = StreamWorker(
            settings=around.settings,
            sink=sink,
            policy=around.policy,
            log_id=LOG_ID,
            publish=self._publish,
            reader=self,
            clock=self._clock,
            name_takeover=self._name_takeover,
        )
        self._takeovers = 0
        self._generation = -1
        self._positions: dict[TopicPartition, int] = {}
        self._reread: dict[TopicPartition, int] = {}
        self._dropped: Counter[tuple[TopicPartition, int]] = Counter()
        self._to_commit: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._arrived = {t: asyncio.Event() for t in topics.JOINED}
        self._rejoin = asyncio.Event()
        self._leaving = False
        around.log.on_append.append(self._on_append)
        around.world.note(name, "starts")
        for work in (
            self.stream_worker.ingest_forever(), self.stream_worker.store_forever(), self._member(), self._heartbeats(),
            self._commits(), *(self._agent(t) for t in topics.JOINED),
        ):  # fmt: skip
            self._task(work)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.process.create_task(work)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.around.world.note(self.name, "ends itself: {!r}", error)
        if not isinstance(error, (Fenced, Refused)):  # To be started again: streams.stream_worker says why.
            self.around.world.violated(f"{self.name} ended itself: {error!r}")
        self.around.met["ended itself"] += 1
        self.process.kill()

    def _died(self) -> None:
        if not self.ended:
            self.ended = True
            self.around.world.note(self.name, "is dead")
            self.around.log.on_append.remove(self._on_append)

    def _clock(self) -> int:
        return EPOCH_MS + self.around.world.now_ms + self.clock_ahead_ms

    def _name_takeover(self) -> str:
        self._takeovers += 1
        return f"{self.name}.{self._takeovers}"

    # -- messages in ---------------------------------------------------------------------------------------------------

    def _on_append(self, tp: TopicPartition) -> None:
        if tp in self._positions and not self._arrived[tp[0]].is_set():
            self.process.call_soon(self._arrived[tp[0]].set)

    async def _agent(self, topic: str) -> None:
        """Hand the topic's messages to the stream worker, some at a time, from any of the partitions assigned."""
        rng, around = self.around.rng, self.around
        while True:
            waiting = [tp for tp, at in self._positions.items() if tp[0] == topic and at < around.log.end(tp)]
            if not waiting:
                self._arrived[topic].clear()
                await self._arrived[topic].wait()
                continue
            generation = self._generation
            wait_ms = max(rng.uniform(0.0, around.ways.fetch_ms), around.stalled_until_ms - around.world.now_ms)
            await asyncio.sleep(wait_ms / 1000)
            tp = waiting[rng.randrange(len(waiting))]
            if self._generation != generation:
                continue  # Messages fetched for the generation before are dropped, as Faust does.
            begin = self._positions[tp]
            some = around.log.read(tp, begin, rng.randrange(1, 6))
            if not some:
                continue
            self._positions[tp] = some[-1].offset + 1
            if self._drops(tp, begin, some):
                continue
            await self.stream_worker.put(*tp, some, begin if around.ways.vouching else None)

    def _drops(self, tp: TopicPartition, begin: int, some: list[LogMessage]) -> bool:
        """A consumer may lose fetched messages (around a rebalance): at most twice the same."""
        around = self.around
        if not around.ways.dropped or (begin < self._reread.get(tp, 0) and not around.ways.rereads_dropped):
            return False
        if around.rng.random() < around.ways.dropped and self._dropped[tp, begin] < 2:
            self._dropped[tp, begin] += 1
            around.met["fetched and dropped"] += 1
            around.world.note(self.name, "loses what it fetched of {}: {} messages from {}", tp, len(some), begin)
            return True
        return False

    # -- the log reader of a stream worker (streams.log_reader.LogReader) ----------------------------------------------

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        generation = self._generation
        await asyncio.sleep(self.around.rng.uniform(0.0, self.around.ways.fetch_ms) / 1000)
        if self._generation == generation and (topic, partition) in self._positions:
            self.around.world.note(self.name, "seeks {}/{} to {}", topic, partition, offset)
            self._reread[topic, partition] = self._positions[topic, partition]
            self._positions[topic, partition] = offset
            self._arrived[topic].set()

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        await asyncio.sleep(self.around.rng.uniform(0.0, self.around.ways.fetch_ms) / 1000)
        messages = self.around.log.read((topic, partition), offset, 1)
        return OffsetLookup(0, messages[0].offset if messages else None)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        for tp, offset in offsets.items():
            if tp not in self._positions:
                continue  # No longer held.
            if offset <= self._to_commit.get(tp, -1):
                self.around.world.violated(f"{self.name} committed {tp} {offset} after {self._to_commit[tp]}")
            self._to_commit[tp] = offset

    async def _publish(self, rejected: RejectedMessage, partition: int) -> None:
        around = self.around
        await asyncio.sleep(around.rng.uniform(0.0, around.ways.fetch_ms) / 1000)
        lost = around.rng.random() < around.ways.lost_letters
        if not lost or around.rng.random() < 0.5:
            around.letters.append((rejected.message.topic, partition, rejected.message.offset))
            around.world.note(self.name, "dead letter: {}/{}", rejected.message.topic, rejected.message.offset)
        if lost:
            around.met["dead letter failed"] += 1
            raise Refused("the simulated broker took no dead letter")

    # -- offsets out ---------------------------------------------------------------------------------------------------

    async def _commits(self) -> None:
        while True:
            await asyncio.sleep(self.around.ways.commit_every_s)
            await self._commit()

    async def _commit(self) -> None:
        ways, rng, generation = self.around.ways, self.around.rng, self._generation
        fresh = {tp: offset for tp, offset in self._to_commit.items() if offset > self._committed.get(tp, -1)}
        if not fresh:
            return
        await asyncio.sleep(rng.uniform(0.0, ways.fetch_ms) / 1000)
        if self.isolated or (ways.lost_commits and rng.random() < ways.lost_commits):
            self.around.met["commit lost"] += 1
            return
        if self.around.group.commit(self.name, generation, fresh) and generation == self._generation:
            self.around.world.note(self.name, "committed {}", fresh)
            self._committed |= fresh

    # -- the group -----------------------------------------------------------------------------------------------------

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if not self.isolated and not self._leaving:
                reply = self.around.group.heartbeat(self.name)
                if reply != "ok" and not self._rejoin.is_set():
                    self.around.world.note(self.name, "learns: {}", reply)
                    self._rejoin.set()

    async def _member(self) -> None:
        """Join, take over, and give everything up when the group requests it.

        Callbacks run one after the other, but a stream worker must handle a revocation that arrives while it still
        takes over.
        """
        ways, rng = self.around.ways, self.around.rng
        while True:
            while self.isolated:  # noqa: ASYNC110 - a client that cannot reach the broker tries again
                await asyncio.sleep(HEARTBEAT_S)
            generation, numbers = await self.around.group.join(self.process)
            self._rejoin.clear()
            begin = {(t, n): self.around.group.committed[t, n] for t in topics.JOINED for n in numbers}
            self._generation, self._positions = generation, dict(begin)
            self._to_commit.clear()
            self._committed = dict(begin)
            for arrived in self._arrived.values():
                arrived.set()
            self.around.world.note(self.name, "is assigned {} from {}", numbers, list(begin.values()))
            assigning = self.process.create_task(self.stream_worker.assign(numbers, begin))
            if rng.random() >= ways.overlapping:
                await assigning
            await self._rejoin.wait()
            self._generation, self._positions = -1, {}
            await self.stream_worker.revoke()
            self.around.world.note(self.name, "has revoked all")
            if ways.commit_on_leaving and not self.isolated:
                self.around.group.commit(self.name, generation, self._to_commit)
            self._to_commit.clear()
            await assigning

    def leave(self) -> None:
        """SIGTERM: store final windows, release their offsets, leave the group, end."""
        if not self._leaving:
            self._leaving = True
            self.around.world.note(self.name, "is asked to leave")
            self._task(self._leave())

    async def _leave(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stream_worker.store_once(), STOP_WAIT_S)
        await self._commit()
        self.around.group.leave(self.name)
        self.process.kill()
