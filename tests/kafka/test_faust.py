"""Both transports, on faust-streaming and aiokafka, on a real Kafka: the behaviour that streams/app.py relies on.

Two topics of the same partition count, offsets committed ahead, `auto_offset_reset="none"`, no topics or tables of
Faust's own, two worker processes, one of them killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams import kafka_admin
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Line, Worker

PARTITIONS = 4
Place = tuple[str, int]


class Group:
    """Two topics, a consumer group whose offsets start at 0, and its workers, all of one transport."""

    def __init__(self, kafka: KafkaBroker, folder: Path, name: str, transport: str) -> None:
        self.kafka, self.name, self._folder, self._transport = kafka, name, folder, transport
        self.topics = [kafka.topic(f"{name}.{suffix}", PARTITIONS) for suffix in ("power", "tokens")]
        self.places: set[Place] = {(topic, p) for topic in self.topics for p in range(PARTITIONS)}
        self.workers: list[Worker] = []
        self.offsets(commit=0)

    def worker(self, name: str, *flags: str) -> Worker:
        data = str(self._folder / f"{name}-data")
        args = ["--bootstrap", self.kafka.bootstrap, "--group", self.name, "--data", data]
        args += ["--transport", self._transport, *flags, *self.topics]
        self.workers.append(Worker(self._folder, name, "tests.kafka.faust_worker", args))
        return self.workers[-1]

    def offsets(self, commit: int | None = None) -> dict[Place, int]:
        """Committed offsets of the group; with `commit`, all of them are set to it first."""
        consumer = Consumer(self.kafka.client(group_id=self.name, enable_auto_commit=False))
        try:
            if commit is not None:
                consumer.commit(offsets=[TopicPartition(*place, commit) for place in self.places], asynchronous=False)
            positions = kafka_admin.offsets(consumer, [TopicPartition(*place) for place in self.places])
            return {(position.topic, position.partition): position.offset for position in positions}
        finally:
            consumer.close()

    def produce(self, count: int, tag: bytes) -> dict[Place, int]:
        """Send `count` keyed messages to each topic; return the number in each place."""
        landed = dict.fromkeys(self.places, 0)

        def count_it(error: object, message: object) -> None:
            assert error is None, error
            landed[message.topic(), message.partition()] += 1  # type: ignore[attr-defined]

        producer = Producer(self.kafka.client(partitioner="murmur2_random"))
        for topic in self.topics:
            for n in range(count):
                value = b"\xff\x00" + tag + n.to_bytes(4)
                producer.produce(topic, key=f"cluster/workload-{n}".encode(), value=value, on_delivery=count_it)
        assert producer.flush(30) == 0
        return landed


@pytest.fixture(params=["lean", "stock"])
def group(kafka: KafkaBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Group]:
    name = f"{request.param}.{request.node.originalname.removeprefix('test_')[:60]}"
    instance = Group(kafka, tmp_path, name, request.param)
    yield instance
    for worker in instance.workers:
        worker.kill()


def _holds(lines: list[Line]) -> set[Place]:
    """Partitions of the last rebalance of a worker."""
    last = next((line for line in reversed(lines) if line["event"] == "assigned"), None)
    return {(topic, p) for topic, p in last["partitions"]} if last else set()


def _got(lines: list[Line]) -> dict[tuple[str, int, int], bytes]:
    """Messages by (topic, partition, offset)."""
    rows = (line for line in lines if line["event"] == "got")
    return {(r["topic"], r["partition"], r["offset"]): bytes.fromhex(r["value"]) for r in rows}


def _since_assigned(lines: list[Line]) -> list[Line]:
    """Events of a worker since the last rebalance."""
    last = max(n for n, line in enumerate(lines) if line["event"] == "assigned")
    return lines[last:]


def _read_all(worker: Worker, messages: int) -> None:
    worker.until(lambda lines: len(_got(lines)) >= messages, f"given {messages} messages")


def _two_workers(group: Group, *flags: str) -> tuple[Worker, Worker]:
    """Two workers that share the partitions."""
    first = group.worker("first", *flags)
    first.until(lambda lines: _holds(lines) == group.places, "alone with every partition")
    second = group.worker("second")
    second.until(lambda lines: len(_holds(lines)) == PARTITIONS, "given its half")
    first.until(lambda lines: len(_holds(lines)) == PARTITIONS, "left with its half")
    return first, second


def test_raw_bytes_arrive_unchanged_and_in_offset_order(group: Group) -> None:
    worker = group.worker("only")
    landed = group.produce(50, b"raw")
    _read_all(worker, 100)
    got = _got(worker.lines)
    assert sorted(got) == sorted((*place, n) for place, count in landed.items() for n in range(count))
    assert {v for (topic, *_), v in got.items() if topic == group.topics[0]} == {
        b"\xff\x00raw" + n.to_bytes(4) for n in range(50)
    }
    for place in group.places:
        offsets = [r["offset"] for r in worker.lines if r["event"] == "got" and (r["topic"], r["partition"]) == place]
        assert offsets == sorted(offsets)


def test_two_workers_share_the_partitions_with_both_topics_together(group: Group) -> None:
    first, second = _two_workers(group)
    mine, others = _holds(first.lines), _holds(second.lines)
    assert mine | others == group.places
    assert not mine & others
    power, tokens = group.topics
    assert {p for topic, p in mine if topic == power} == {p for topic, p in mine if topic == tokens}


def test_a_clean_stop_commits_the_acknowledged_offsets(group: Group) -> None:
    worker = group.worker("only")
    landed = group.produce(50, b"stop")
    _read_all(worker, 100)
    assert worker.terminate() == 0
    assert group.offsets() == landed


def test_partitions_of_a_killed_worker_move_and_its_unacknowledged_messages_are_read_again(group: Group) -> None:
    first, second = _two_workers(group, "--hold")
    before = group.produce(50, b"before")
    firsts = sum(before[place] for place in _holds(first.lines))
    _read_all(first, firsts)
    first.kill()
    second.until(lambda lines: _holds(lines) == group.places, "heir of every partition")
    _read_all(second, 100)
    assert _got(first.lines).items() <= _got(second.lines).items()
    after = group.produce(50, b"after")
    _read_all(second, 200)
    assert set(_got(second.lines)) == {
        (*place, n) for place in group.places for n in range(before[place] + after[place])
    }


def test_a_rebalance_delivers_every_unacknowledged_message_again(group: Group) -> None:
    """Faust drops what its consumer fetches between an assignment and its first message, and seeks back to the
    committed offsets, also where they are 0.
    """
    first = group.worker("first", "--hold", "--resume", "0.5")
    first.until(lambda lines: _holds(lines) == group.places, "alone with every partition")
    landed = group.produce(50, b"held")
    _read_all(first, 100)
    second = group.worker("second")
    second.until(lambda lines: len(_holds(lines)) == PARTITIONS, "given its half")
    first.until(lambda lines: len(_holds(lines)) == PARTITIONS, "left with its half")
    survivors = {(*place, n) for place in _holds(first.lines) for n in range(landed[place])}
    first.until(lambda lines: _got(_since_assigned(lines)).keys() == survivors, "given again what it keeps")


def test_a_worker_continues_after_a_restart_of_the_broker(group: Group) -> None:
    """It also commits again, once aiokafka has found the coordinator (about 2 s)."""
    worker = group.worker("only")
    one = group.produce(20, b"one")
    _read_all(worker, 40)
    group.kafka.restart()
    two = group.produce(20, b"two")
    _read_all(worker, 80)
    deadline = time.monotonic() + 60
    while group.offsets() != {place: one[place] + two[place] for place in group.places}:
        assert time.monotonic() < deadline, f"nothing was committed after the restart\n{worker.error_text()}"
    assert worker.terminate() == 0
