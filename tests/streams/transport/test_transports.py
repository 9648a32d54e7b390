"""Both transports over librdkafka's in-process broker: reading, committing, seeking, and flow control."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from confluent_kafka import Consumer, Producer, TopicPartition

from contracts import topics
from contracts.errors import BadSetting
from contracts.settings import Settings
from streams import app as shell
from streams import kafka_admin, transport
from streams.consumer_group import HEARTBEATS_PER_SESSION
from streams.core.decoding import LogMessage
from streams.log_reader import OffsetLookup
from streams.log_reader import TopicPartition as Place
from tests.support.event_log import in_process_broker
from tests.support.waiting import HANG_S, until

PARTITIONS = 4
"""Number of partitions of a topic that the in-process broker creates on demand."""
SESSION_MS = 12_000
"""Long enough for a busy machine."""
HEADERS = [("ce_id", b"1.0"), ("ce_source", b"\xff\x00"), ("empty", None)]


@pytest.fixture
def kafka() -> Iterator[str]:
    """The address of a broker of its own."""
    with in_process_broker() as address:
        yield address


@pytest.fixture(params=["lean", pytest.param("stock", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Reading:
    """One app with one reader, and the messages that it received. `hold` makes `put` wait; `on_put` runs before each
    list.
    """

    def __init__(self, bootstrap: str, kind: str, folder: Path) -> None:
        self.config = {"bootstrap.servers": bootstrap, "log_level": 0}
        settings = Settings(
            kafka_bootstrap=bootstrap, kafka_group="readers", transport=kind, session_timeout_ms=SESSION_MS
        )
        self.app = shell._app(settings, folder)
        self.reader = transport.reader(self.app, self._look_up)
        self.reader.feed(topics.JOINED, self._put)
        self.got: defaultdict[Place, list[LogMessage]] = defaultdict(list)
        self.open = asyncio.Event()
        self.open.set()
        self.entered = 0
        self.on_put: Callable[[Place, Sequence[LogMessage]], Awaitable[None]] | None = None
        self.begins: list[tuple[Place, int]] = []
        self.rebalances = 0
        self.app.on_partitions_assigned.connect(self._assigned, weak=False)
        self.app.on_partitions_revoked.connect(self._revoked, weak=False)

    def _look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return kafka_admin.look_up_offset(self.config, "readers", topic, partition, offset)

    async def _put(self, topic: str, partition: int, messages: Sequence[LogMessage], begin: int | None = None) -> None:
        self.entered += len(messages)
        await self.open.wait()
        if self.on_put:
            await self.on_put((topic, partition), messages)
        if begin is not None:
            assert begin <= messages[0].offset
        self.got[topic, partition] += messages

    async def _assigned(self, *_: Any, **__: Any) -> None:
        self.rebalances += 1

    async def _revoked(self, *_: Any, **__: Any) -> None:
        self.reader.forget()

    def offsets(self, place: Place) -> list[int]:
        return [m.offset for m in self.got[place]]

    def produce(self, count: int, first: int = 0) -> None:
        """Send `count` messages to every partition of both topics."""
        producer = Producer(self.config)
        for topic in topics.JOINED:
            for n in range(first, first + count):
                for partition in range(PARTITIONS):
                    producer.produce(topic, f"{topic} {partition} {n}".encode(), b"k", partition, headers=HEADERS)
        assert producer.flush(HANG_S) == 0

    async def has(self, count: int) -> None:
        """Wait until `count` messages of every place were received."""
        await until(lambda: len(self.got) == 2 * PARTITIONS and all(len(m) >= count for m in self.got.values()))

    def committed(self) -> dict[Place, int]:
        consumer = Consumer({**self.config, "group.id": "readers"})
        try:
            places = [TopicPartition(t, p) for t in topics.JOINED for p in range(PARTITIONS)]
            return {(tp.topic, tp.partition): tp.offset for tp in consumer.committed(places, timeout=HANG_S)}
        finally:
            consumer.close()


@asynccontextmanager
async def reading(bootstrap: str, kind: str, folder: Path, count: int) -> AsyncIterator[Reading]:
    """A running reader on `count` messages a place, in a group whose offsets are 0."""
    instance = Reading(bootstrap, kind, folder)
    instance.produce(count)
    kafka_admin.commit_initial_offsets(instance.config, "readers", PARTITIONS)
    await instance.app.start()
    try:
        yield instance
    finally:
        instance.open.set()
        await asyncio.wait_for(instance.app.stop(), HANG_S)


def test_messages_are_complete_unique_and_in_offset_order(kafka: str, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with reading(kafka, kind, tmp_path, 50) as r:
            await r.has(50)
            for (topic, partition), messages in r.got.items():
                assert [m.offset for m in messages] == list(range(50))
                assert [m.value for m in messages] == [f"{topic} {partition} {n}".encode() for n in range(50)]
                assert {m.topic for m in messages} == {topic}
                assert all(list(m.headers or ()) == HEADERS for m in messages)

    asyncio.run(run())


def test_only_acknowledged_offsets_are_committed(kafka: str, kind: str, tmp_path: Path) -> None:
    async def run() -> dict[Place, int]:
        async with reading(kafka, kind, tmp_path, 20) as r:
            await r.has(20)
            r.reader.commit({(topics.POWER, 0): 7})
            r.reader.commit({(topics.POWER, 0): 12, (topics.TOKENS, 2): 20})
            async with asyncio.timeout(HANG_S):
                while (offsets := await asyncio.to_thread(r.committed))[topics.POWER, 0] != 12:  # noqa: ASYNC110 - Kafka tells nobody
                    await asyncio.sleep(0.1)
            return offsets

    committed = asyncio.run(run())
    assert committed.pop((topics.TOKENS, 2)) == 20
    assert committed.pop((topics.POWER, 0)) == 12
    assert set(committed.values()) == {0}


@pytest.mark.slow
def test_an_offset_acknowledged_before_a_stop_is_committed_by_the_stop(kafka: str, kind: str, tmp_path: Path) -> None:
    async def run() -> dict[Place, int]:
        async with reading(kafka, kind, tmp_path, 5) as r:
            await r.has(5)
            r.reader.commit({(topics.POWER, 1): 4})
        return r.committed()

    assert asyncio.run(run())[topics.POWER, 1] == 4


def test_seeking_to_the_committed_offsets_repeats_messages_also_from_offset_0(
    kafka: str, kind: str, tmp_path: Path
) -> None:
    """Faust relies on it after every rebalance; aiokafka's own way leaves out partitions that are committed at 0."""

    async def run() -> None:
        async with reading(kafka, kind, tmp_path, 10) as r:
            await r.has(10)
            consumer = r.app.consumer
            consumer.stop_flow()
            await asyncio.sleep(1.2)  # Faust's own loop has seen it: it checks once a second.
            r.got.clear()
            await consumer.perform_seek()
            consumer.resume_flow()
            await r.has(10)
            assert {tuple(r.offsets(place)) for place in r.got} == {tuple(range(10))}

    asyncio.run(run())


@pytest.mark.slow
def test_a_sought_place_is_read_again_and_no_other(kafka: str, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with reading(kafka, kind, tmp_path, 30) as r:
            await r.has(30)
            place = topics.TOKENS, 1
            await r.reader.seek(*place, 11)
            await until(lambda: len(r.got[place]) >= 30 + 19)
            r.produce(1, first=30)
            await r.has(31)
            await until(lambda: len(r.got[place]) >= 30 + 20)
            assert r.offsets(place) == [*range(30), *range(11, 31)]
            assert {tuple(r.offsets(p)) for p in r.got if p != place} == {tuple(range(31))}

    asyncio.run(run())


@pytest.mark.slow
def test_seeking_a_place_that_is_not_held_does_nothing(kafka: str, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with reading(kafka, kind, tmp_path, 2) as r:
            await r.has(2)
            await r.reader.seek(topics.POWER, 99, 0)
            r.produce(1, first=2)
            await r.has(3)

    asyncio.run(run())


@pytest.mark.slow
def test_a_full_stream_worker_gets_no_more_and_stays_in_the_group(
    kafka: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than a session: heartbeats continue."""
    heartbeats = 0

    async def counted(coordinator: GroupCoordinator, beat: Any = GroupCoordinator._do_heartbeat) -> bool:
        nonlocal heartbeats
        alive = bool(await beat(coordinator))
        heartbeats += alive
        return alive

    monkeypatch.setattr(GroupCoordinator, "_do_heartbeat", counted)

    async def run() -> None:
        async with reading(kafka, kind, tmp_path, 1) as r:
            await r.has(1)
            r.open.clear()
            r.produce(3_000, first=1)
            await until(lambda: r.entered > 2 * PARTITIONS)
            entered = r.entered
            until_full = heartbeats
            await until(lambda: heartbeats > until_full + HEARTBEATS_PER_SESSION, "a session is over")
            assert r.entered - entered <= 2 * PARTITIONS  # One list per topic and partition, not more.
            assert r.rebalances == 1
            r.open.set()
            await r.has(3_001)
            assert {tuple(r.offsets(place)) for place in r.got} == {tuple(range(3_001))}

    asyncio.run(run())


@pytest.mark.slow
def test_lists_that_were_fetched_when_the_flow_stopped_are_delivered_again(kafka: str, tmp_path: Path) -> None:
    """They were behind the consumer's position and not passed on: without a seek they would be lost."""

    async def run() -> None:
        async with reading(kafka, "lean", tmp_path, 1) as r:
            await r.has(1)
            stopped: list[Place] = []

            async def stop_after_the_first(place: Place, _: Sequence[LogMessage]) -> None:
                if not stopped:
                    r.app.consumer.stop_flow()
                    stopped.append(place)

            r.on_put = stop_after_the_first
            r.produce(200, first=1)
            await until(lambda: bool(stopped))
            await asyncio.sleep(0.5)
            r.app.consumer.resume_flow()
            await r.has(201)
            assert {tuple(r.offsets(place)) for place in r.got} == {tuple(range(201))}

    asyncio.run(run())


def test_faust_reads_with_a_warning_where_the_lean_transport_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(transport.TESTED_VERSIONS, "aiokafka", ("0.1.0",))
    assert transport.scheme("auto") == transport.STOCK_SCHEME
    assert "it fits aiokafka 0.1.0, and this is " in caplog.text
    with pytest.raises(BadSetting, match=r"transport: 'lean': it fits aiokafka 0\.1\.0"):
        transport.scheme("lean")
    assert transport.scheme("stock") == transport.STOCK_SCHEME


def test_a_renamed_private_part_of_a_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    part, parameters = transport._PRIVATE_PARTS[0]
    assert transport.misfit() is None
    monkeypatch.setattr(transport, "_PRIVATE_PARTS", ((part, (*parameters, "more")),))
    assert transport.misfit() == "Consumer._drain_messages takes self, fetcher here, not self, fetcher, more"


def test_the_log_answers_what_it_holds_at_an_offset(kafka: str, tmp_path: Path) -> None:
    config = {"bootstrap.servers": kafka, "log_level": 0}
    producer = Producer(config)
    for n in range(3):
        producer.produce(topics.POWER, b"v", partition=0, headers=[("n", str(n).encode())])
    assert producer.flush(10) == 0
    assert kafka_admin.look_up_offset(config, "readers", topics.POWER, 0, 1) == OffsetLookup(earliest=0, first=1)
    assert kafka_admin.look_up_offset(config, "readers", topics.POWER, 0, 3) == OffsetLookup(earliest=0, first=None)
