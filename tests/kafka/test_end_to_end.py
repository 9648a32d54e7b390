"""The whole pipeline on a real Kafka: workers that start, are killed and leave do not change the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from cli.embedded import running_pipeline
from cli.log_feed import LogFeed, wait_until_stored
from contracts import codec, topics
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import FleetTotals, SimulatedFleet
from producers.simulation.faults import Faults
from tests.kafka.broker import KafkaBroker
from tests.kafka.deployment import Deployment, holding
from tests.support.clickhouse_http import serve
from tests.support.event_log import read_all
from tests.support.pipeline import assert_ledger_is, feed
from tests.support.waiting import wait_until
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse, connect
from warehouse.ledger.fingerprint import fingerprint
from warehouse.periods import Period
from warehouse.reader import operator_reader

START_MS = 1_758_000_000_000
DURATION_MS = 180_000
CLUSTERS = ("us-east", "eu-west", "eu-north")


@pytest.fixture
def deployment(
    kafka: KafkaBroker,
    chdb_dsn: str,
    chdb_root: Path,
    database_name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Deployment]:
    """A deployment with default workers; a test may choose the transport."""
    with connect(chdb_dsn, database="default", readers=1) as engine, serve(chdb_root) as address:
        instance = Deployment(
            kafka, tmp_path, f"{address}/{database_name}", {"WATTLOG_TRANSPORT": getattr(request, "param", "auto")}
        )
        assert instance.run("migrate").status == 0
        yield instance
        for worker in instance.workers:
            worker.kill()
        engine.command(f"DROP DATABASE IF EXISTS `{database_name}`")
        engine.command("DROP DATABASE IF EXISTS wattlog")


@pytest.fixture
def ledger(deployment: Deployment, chdb_dsn: str, database_name: str) -> Iterator[Warehouse]:
    """The warehouse of the worker processes."""
    with connect(chdb_dsn, database=database_name) as warehouse:
        yield warehouse


@pytest.mark.parametrize("deployment", ["lean", "stock"], indirect=True)
def test_workers_that_are_killed_join_and_leave_do_not_change_the_ledger(
    deployment: Deployment, ledger: Warehouse, data_dir: Path
) -> None:
    totals = FleetTotals()
    faults = Faults(late=0.02, late_ms=25_000, duplicate=0.03, out_of_order=0.05)
    events = list(SimulatedFleet(5, faults=faults).events(START_MS, DURATION_MS, totals=totals, closing_ms=30_000))
    third = len(events) // 3
    feeding = _Feeding(deployment)

    first, second = deployment.stream("first"), deployment.stream("second")  # At once: one of them sets the offsets.
    assert sorted(holding(first) + holding(second))[0] == 0
    feeding.send(events[:third])
    wait_until(lambda: _final_windows(ledger) > 0, "the first windows are final")
    first.kill()
    third_worker = deployment.stream("third")
    feeding.send(events[third : 2 * third])
    holding(third_worker)
    fourth = deployment.stream("fourth")
    holding(fourth)
    feeding.send(events[2 * third :])
    assert fourth.terminate() == 0
    feeding.wait_until_stored(ledger)
    books = deployment.run("audit", "--json")

    assert books.status == 0, books.err
    assert books.json["residual_uj"] == books.json["sequence_gaps"] == 0
    assert_ledger_is(ledger, totals)
    assert audit(operator_reader(ledger)).ok
    undisturbed = asyncio.run(_undisturbed(deployment, events, data_dir))
    assert fingerprint(ledger, Period(START_MS, START_MS + 2 * DURATION_MS), CLUSTERS) == undisturbed


def test_a_log_that_lost_unread_messages_stops_the_worker_until_the_loss_is_accepted(
    deployment: Deployment, ledger: Warehouse
) -> None:
    feeding = _Feeding(deployment)
    one = deployment.stream("reads-the-first-half")
    holding(one)
    events = list(SimulatedFleet(6).events(START_MS, 60_000, closing_ms=30_000))
    feeding.send(events[: len(events) // 2])
    wait_until(lambda: _final_windows(ledger) > 0, "the first windows are final")
    assert one.terminate() == 0
    feeding.send(events[len(events) // 2 :])
    place, lost_to = _trim(deployment)

    stopped = deployment.run("stream")
    assert stopped.status == 1
    assert f"{topics.POWER} partition {place.partition} lost messages" in stopped.err
    assert f"to {lost_to - 1}: they were trimmed" in stopped.err
    assert "--accept-loss" in stopped.err
    assert "Traceback" not in stopped.err

    deployment.stream("accepts", "--accept-loss")
    before = _final_windows(ledger)
    wait_until(lambda: _final_windows(ledger) > before, "more windows are final")
    wait_until(lambda: deployment.run("audit", "--json").json["sequence_gaps"] > 0, "the audit shows what was lost")
    books = deployment.run("audit", "--json")
    assert books.status == 3
    assert books.json["residual_uj"] == 0


def test_an_unreadable_message_of_the_maximal_size_becomes_a_dead_letter(
    deployment: Deployment,
) -> None:
    """With its reason, the dead letter is larger than the broker's usual limit."""
    body = b"\xff" * 1_000_000
    headers = codec.envelope(
        type_=topics.POWER, source="s", id_="1.0", subject="c/w", t_ms=START_MS, content_type=codec.PACKED
    )
    padding = [("padding", b"x" * 40_000)]
    with Publisher(
        {**kafka_config(deployment.settings), "compression.type": "none", "message.max.bytes": 1_048_000}
    ) as publisher:
        publisher.send_raw(topics.POWER, b"c/w", headers + padding, body)
    deployment.stream("only")
    bodies: list[object] = []

    def letters() -> bool:
        bodies[:] = [m for messages in read_all(deployment.settings, topics.DEADLETTER).values() for m in messages]
        return bool(bodies)

    wait_until(letters, "the dead letter is there")
    assert [m.value() for m in bodies] == [body]  # type: ignore[attr-defined]


def _trim(deployment: Deployment) -> tuple[TopicPartition, int]:
    """Delete all but the newest message of the power partition with most unread messages; return the offset."""
    from tests.support.event_log import committed

    offsets = committed(deployment.settings)
    log = read_all(deployment.settings, topics.POWER)
    (topic, partition), messages = max(log.items(), key=lambda item: len(item[1]) - max(offsets[item[0]], 0))
    end = messages[-1].offset()
    assert offsets[topic, partition] < end
    place = TopicPartition(topic, partition, end)
    deployment.kafka.admin.delete_records([place])[place].result(30)
    return place, end


class _Feeding:
    """Send events as their producers would, and remember them."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._log_id = deployment.log_id
        self._publisher = Publisher(kafka_config(deployment.settings))
        self._feed = LogFeed(self._publisher, None, deployment.settings.skew_ms)

    def send(self, events: list[Event]) -> None:
        asyncio.run(self._feed.run(events, lambda _: None))

    def wait_until_stored(self, warehouse: Warehouse) -> None:
        asyncio.run(wait_until_stored(warehouse, self._log_id, self._feed.sent, None))


async def _undisturbed(deployment: Deployment, events: list[Event], data: Path) -> str:
    """Fingerprint of the ledger that the embedded broker and one worker in this process make of the same events."""
    config = deployment.settings
    settings = Settings(
        data=data, kafka_bootstrap="embedded", lateness_ms=config.lateness_ms, skew_ms=config.skew_ms,
        idle_timeout_ms=config.idle_timeout_ms,
    )  # fmt: skip
    async with running_pipeline(settings, lambda _: None) as running:
        await feed(running, events)
        return fingerprint(running.warehouse, Period(START_MS, START_MS + 2 * DURATION_MS), CLUSTERS)


def _final_windows(warehouse: Warehouse) -> int:
    return int(warehouse.query("SELECT uniqExact(window_start) AS n FROM ledger FINAL WHERE final = 1")[0]["n"])
