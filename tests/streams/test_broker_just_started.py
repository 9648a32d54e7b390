"""A broker that has just started reports no coordinator for the group, or unknown topics. Clients retry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from cli import health_checks
from contracts import topics
from contracts.events import Event
from contracts.settings import Settings
from producers import registry
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.publisher import Publisher, kafka_config
from streams import kafka_admin
from streams.app import FaustWorker
from streams.startup import load_policy
from streams.usage.job import UsageJob, commit_initial_offsets
from tests.streams.refusing_broker import OFFSET_FETCH, RefusingBroker, refusing_broker
from tests.support.waiting import HANG_S
from warehouse.client import Warehouse
from warehouse.sink.sink import Sink

PASSING = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
T0_MS = 1_758_000_000_000


@dataclass
class Place:
    """A broker with Wattlog's topics and groups on it."""

    settings: Settings
    kafka: dict[str, Any]
    broker: RefusingBroker

    def send_usage(self) -> None:
        """Send one row."""
        row = UsageRow(
            meter="tool_calls",
            unit="call",
            quantity="1",
            t0_ms=T0_MS,
            t1_ms=T0_MS,
            tenant="acme",
            origin="agent",
            event_id="1",
        )
        with Publisher(self.kafka) as publisher:
            publisher.send(Event("agents://c", 1, 0, "c", "w", usage_batch([row], 0)))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with refusing_broker() as broker:
        settings = Settings(data=tmp_path, kafka_bootstrap=broker.bootstrap, log_level="ERROR")
        kafka = {**kafka_config(settings), "log_level": 0}
        seen = AdminClient(kafka)
        for topic in topics.ALL:
            seen.list_topics(topic, timeout=HANG_S)
        count = kafka_admin.partition_count(topics.JOINED, kafka, broker.bootstrap)
        kafka_admin.commit_initial_offsets(kafka, settings.kafka_group, count)
        commit_initial_offsets(settings, kafka)
        yield Place(settings, kafka, broker)


@pytest.mark.parametrize("error", PASSING)
def test_usage_is_read_once_the_coordinator_is_known(place: Place, warehouse: Warehouse, error: int) -> None:
    place.send_usage()
    place.broker.refuse(OFFSET_FETCH, error, 3)
    assert asyncio.run(_stored(place, warehouse)) == 1


async def _stored(place: Place, warehouse: Warehouse) -> int:
    """The stored rows of usage, once there are some. The job's own end, or the limit, raises."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    job = UsageJob(place.settings, place.kafka, Sink(warehouse), "log", ended.set_exception, lambda: T0_MS)
    job.start()
    try:
        async with asyncio.timeout(HANG_S):
            while not (rows := warehouse.query("SELECT toInt64(count()) AS n FROM usage")[0]["n"]):
                await asyncio.wait({ended}, timeout=0.1)
                if ended.done():
                    ended.result()
        return rows
    finally:
        await job.stop()


def test_usage_on_added_partitions_is_read_from_their_start(place: Place, warehouse: Warehouse) -> None:
    """The group has no offset on those."""
    place.settings = place.settings.model_copy(update={"kafka_group": "another"})
    place.send_usage()
    assert asyncio.run(_stored(place, warehouse)) == 1


@pytest.mark.parametrize("error", PASSING)
def test_a_worker_learns_its_start_offsets(place: Place, error: int) -> None:
    place.broker.refuse(OFFSET_FETCH, error, 3)
    begin = kafka_admin.committed(place.kafka, place.settings.kafka_group, [0, 1])
    assert begin == {(topic, p): 0 for topic in topics.JOINED for p in (0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["lean", "stock"])
def test_a_worker_without_topics_holds_them_once_they_are_known(
    place: Place, warehouse: Warehouse, transport: Any
) -> None:
    """aiokafka assigns only topics that it knows, and would not ask again for minutes. The simulated broker lets a
    member rejoin when its session has expired.
    """
    place.settings = place.settings.model_copy(update={"transport": transport, "session_timeout_ms": 1_000})
    count = kafka_admin.partition_count(topics.JOINED, place.kafka, place.broker.bootstrap)
    assert asyncio.run(_held(place, warehouse)) == [0, count]


async def _held(place: Place, warehouse: Warehouse) -> list[int]:
    """Numbers of partitions that a worker gets, first and after the broker knows its topics.

    On a loaded machine the member misses heartbeats and joins again before that: it gets none then, once more.
    """
    counts = asyncio.Queue[int]()
    policy = load_policy(warehouse, place.settings)
    worker = FaustWorker(place.settings, place.kafka, Sink(warehouse), policy, "log", place.settings.data)
    for topic in topics.JOINED:
        place.broker.about(topic, KafkaError.UNKNOWN_TOPIC_OR_PART)
    worker.app.on_partitions_assigned.connect(
        lambda _, assigned, **__: counts.put(len({tp.partition for tp in assigned})), weak=False
    )
    await worker.start()
    try:
        async with asyncio.timeout(HANG_S):
            at_first = await counts.get()
            for topic in topics.JOINED:
                place.broker.about(topic, 0)
            while not (at_last := await counts.get()):
                pass
            return [at_first, at_last]
    finally:
        await worker.stop()


def test_a_broker_that_does_not_answer_in_time_is_a_row_of_the_doctor_and_the_next_checks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka's in-process broker does so: it does not answer the question about a topic's identity."""

    class Silent:
        def __init__(self, config: object) -> None: ...

        def list_topics(self, timeout: float) -> Any:
            return SimpleNamespace(cluster_id="c")

        def describe_topics(self, names: object) -> dict[str, Future[Any]]:
            return {topics.POWER: Future()}

    monkeypatch.setattr(kafka_admin, "TIMEOUT_S", 0.0)
    monkeypatch.setattr(kafka_admin, "AdminClient", Silent)
    monkeypatch.setattr(registry, "plugins", lambda: ())
    findings = list(health_checks.run_checks(Settings(data=tmp_path, kafka_bootstrap="k:1")))
    assert findings[0].state == "failed"
    assert findings[0].says.startswith("no Kafka at k:1: no answer in 0 s. ")
    assert findings[-1].check == "api"


def test_a_check_of_the_doctor_that_fails_unexpectedly_is_a_row() -> None:
    def fail() -> Iterator[health_checks.Finding]:
        yield health_checks.Finding("warehouse", "ok", "here")
        raise TimeoutError

    assert [finding.says for finding in health_checks._checked("warehouse", fail())] == [
        "here", "the check failed (TimeoutError)",
    ]  # fmt: skip


def test_the_doctor_shows_lag_on_a_broker_that_has_just_started(place: Place) -> None:
    place.broker.refuse(OFFSET_FETCH, KafkaError.NOT_COORDINATOR, 3)
    (line,) = health_checks._usage(place.settings, place.kafka)
    assert line.state == "ok"
    assert line.says.startswith("0 messages are not stored yet")
