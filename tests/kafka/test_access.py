"""The users and ACLs of k8s/kafka-acls.sh on a real Kafka: each role does its work, and nothing else.

By SASL_SSL, with SCRAM and a CA of the tests' own, as in k8s/overlays/example.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from pydantic import SecretStr

from contracts import codec, topics
from contracts.errors import Unavailable
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import SystemClock
from producers.runtime.delivery import Delivery, encode_message
from producers.runtime.event_sequence import heartbeat_batch
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.receiver.delivery_queue import AFTER_REFUSAL_MS, DeliveryQueue, PendingRequest
from producers.runtime.spool import Spool
from producers.simulation.events import FleetTotals, SimulatedFleet
from streams.kafka_admin import ensure_topics
from tests.kafka import jars
from tests.kafka.deployment import Deployment, holding
from tests.kafka.secured_broker import PASSWORDS, SecuredBroker, write_certificate
from tests.support.clickhouse_http import serve
from tests.support.kafka_acls import Acl, kafka_acls, topics_of
from tests.support.pipeline import assert_ledger_is
from tests.support.waiting import HANG_S, wait_until
from warehouse.client import Warehouse, connect

START_MS = 1_758_000_000_000
USERS = sorted({acl.user for acl in kafka_acls()})
DENIED = re.compile("(Topic|Cluster) authorization failed")
"""Cluster: of a user that may write no topic, and so be no idempotent producer."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker with the users and permissions of the script, whose topics `migrate` created as its own user."""
    with SecuredBroker(tmp_path_factory.mktemp("secured"), jars.resolve()) as broker:
        broker.admit(kafka_acls())
        migrate = broker.settings_of("wattlog-migrate", kafka_partitions=2)
        assert ensure_topics(migrate, kafka_config(migrate)) == list(topics.ALL)
        yield broker


def _write_error(settings: Settings, topic: str) -> str | None:
    """Reason why the topic does not take a message of this user, None if it does."""
    reasons: list[str | None] = []
    publisher = Publisher(kafka_config(settings))
    try:
        publisher.send_raw(topic, b"c/w", [], b"x", on_delivery=reasons.append)
        publisher.close(HANG_S)
    except Unavailable as error:
        return str(error)
    return reasons[0]


def _read_error(settings: Settings, topic: str, group: str = "") -> str | None:
    """Reason why this user does not read the topic, as a member of the group if it is named; None if it does."""
    config = {**kafka_config(settings), "group.id": group or "wattlog", "log_level": 0, "enable.partition.eof": True}
    consumer = Consumer({**config, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    try:
        if (error := consumer.list_topics(topic, timeout=HANG_S).topics[topic].error) is not None:
            return error.str()
        if group:
            consumer.subscribe([topic])
        else:
            consumer.assign([TopicPartition(topic, 0, 0)])
        while (message := consumer.poll(HANG_S)) is not None:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return None
            if group or error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # An assigned partition needs no group.
                return error.str()
        raise AssertionError(f"nothing was read of {topic}")
    finally:
        consumer.close()


@pytest.mark.parametrize("user", USERS)
def test_a_user_writes_the_topics_of_its_role_and_no_other(kafka: SecuredBroker, user: str) -> None:
    settings = kafka.settings_of(user)
    errors = {topic: _write_error(settings, topic) for topic in topics.ALL}
    assert {topic for topic, error in errors.items() if error is None} == topics_of(user, "Write")
    assert all(DENIED.search(error) for error in errors.values() if error is not None)


@pytest.mark.parametrize("user", USERS)
def test_a_user_reads_the_topics_of_its_role_and_only_a_worker_reads_events(kafka: SecuredBroker, user: str) -> None:
    settings = kafka.settings_of(user)
    errors = {topic: _read_error(settings, topic) for topic in topics.ALL}
    assert {topic for topic, error in errors.items() if error is None} == topics_of(user, "Read")
    assert all("Topic authorization failed" in error for error in errors.values() if error is not None)
    if user != "wattlog-worker":
        assert topics_of(user, "Read") <= {topics.ALERTS}


@pytest.mark.parametrize(
    ("user", "group", "joins"),
    [
        ("wattlog-worker", "wattlog", True),
        ("wattlog-worker", "wattlog-usage", True),
        ("wattlog-worker", "another", False),
        ("wattlog-agent", "wattlog", False),
    ],
)
def test_only_a_worker_joins_the_workers_groups(kafka: SecuredBroker, user: str, group: str, joins: bool) -> None:
    error = _read_error(kafka.settings_of(user), topics.POWER, group)
    assert (error is None) is joins
    assert error is None or "authorization failed" in error


@pytest.mark.parametrize("user", [user for user in USERS if user != "wattlog-migrate"])
def test_only_migrate_creates_topics(kafka: SecuredBroker, user: str) -> None:
    admin = AdminClient(kafka_config(kafka.settings_of(user)))
    for future in admin.create_topics([NewTopic(topic, 2, 1) for topic in topics.ALL]).values():
        with pytest.raises(KafkaException, match=r"uthorization failed"):
            future.result(HANG_S)


def test_a_wrong_password_and_another_ca_write_nothing(kafka: SecuredBroker, tmp_path: Path) -> None:
    settings = kafka.settings_of("wattlog-agent")
    other_ca = tmp_path / "ca.pem"
    write_certificate(other_ca, tmp_path / "key.pem")
    for wrong in ({"kafka_password": SecretStr("guessed")}, {"kafka_ca_file": other_ca}):
        config = {**kafka_config(settings.model_copy(update=wrong)), "message.timeout.ms": 2_000}
        publisher = Publisher(config)
        publisher.send_raw(topics.POWER, b"c/w", [], b"x")
        with pytest.raises(Unavailable, match=r"timed out|not stored"):
            publisher.close()


def test_a_topic_that_is_denied_does_not_hold_up_the_others_and_is_named(
    kafka: SecuredBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages of a misled agent that it may not send wait on disk, and its energy goes on."""
    spool = Spool(tmp_path / "spool")
    with Publisher(kafka_config(kafka.settings_of("wattlog-agent"))) as publisher:
        delivery = Delivery(spool, publisher)
        rows = [UsageRow(meter="m", unit="u", quantity="1", t0_ms=START_MS, t1_ms=START_MS, tenant="a", origin="o")]
        sent = 0
        with caplog.at_level(logging.ERROR):
            for seq in range(20):
                batches = (
                    heartbeat_batch(topics.TOKENS, START_MS + seq),
                    heartbeat_batch(topics.POWER, START_MS + seq, node="n1"),
                    usage_batch(rows, seq),
                )
                delivery.offer([encode_message(Event("nvml://n1", 1, seq, "c", "w", batch)) for batch in batches])
                sent += 2
                wait_until(partial(_pumped, delivery, sent), "energy and usage arrive")
            wait_until(partial(_refused, delivery, 3 * 20), "the broker refuses each several times")
        assert delivery.waiting == 20
    assert spool.topics() == [topics.TOKENS]
    spool.close()
    named = [r.getMessage() for r in caplog.records if topics.TOKENS in r.getMessage()]
    assert named
    assert f"Kafka user 'wattlog-agent' may not write {topics.TOKENS}" in named[0]
    assert len(named) < 20


def test_a_receiver_that_is_denied_a_topic_names_it_goes_on_with_others_and_loses_nothing(
    kafka: SecuredBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests with usage are answered while those with tokens wait on disk, until the user may write them."""
    kafka.admit([Acl("half", "write", "topic", topics.USAGE)])
    answers: dict[str, set[int]] = {topics.TOKENS: set(), topics.USAGE: set()}
    before = {topic: _end(kafka, topic) for topic in answers}

    def order(line: DeliveryQueue, topic: str, n: int) -> None:
        row = UsageRow(meter="m", unit="u", quantity="1", t0_ms=START_MS, t1_ms=START_MS, tenant="a", origin="o")
        batch = heartbeat_batch(topic, START_MS + n) if topic == topics.TOKENS else usage_batch([row], START_MS + n)
        message = encode_message(Event(f"http://{topic}", 1, 0, "c", "w", batch))

        def answer(error: object) -> None:
            assert error is None
            answers[topic].add(n)

        line._inbox.put(PendingRequest([message], answer))

    clock, spool = SystemClock(threading.Event()), Spool(tmp_path / "spool")
    line = DeliveryQueue(clock, max_waiting=1_000)
    with Publisher(kafka_config(kafka.settings_of("half"))) as publisher, caplog.at_level(logging.ERROR):
        line.start(Delivery(spool, publisher, on_acknowledged=line.acknowledge, clock=clock, pause_ms=AFTER_REFUSAL_MS))
        for n in range(10):
            order(line, topics.TOKENS, n)
            order(line, topics.USAGE, n)
            wait_until(lambda n=n: n in answers[topics.USAGE], "usage is acknowledged")  # type: ignore[misc]
        wait_until(lambda: any(topics.TOKENS in r.getMessage() for r in caplog.records), "the refusal is logged")
        assert not answers[topics.TOKENS]
        kafka.admit([Acl("half", "write", "topic", topics.TOKENS)])
        wait_until(lambda: len(answers[topics.TOKENS]) == 10, "what waited is acknowledged")
        line.close()
    spool.close()
    denials = {r.getMessage() for r in caplog.records if "may not write" in r.getMessage()}
    assert {f"Kafka user 'half' may not write {topics.TOKENS}" in text for text in denials} == {True}
    assert {topic: _end(kafka, topic) - before[topic] for topic in answers} == dict.fromkeys(answers, 10)


def test_each_role_does_its_part_of_a_window(
    kafka: SecuredBroker, tmp_path: Path, chdb_dsn: str, chdb_root: Path, database_name: str
) -> None:
    """Agents send energy, a receiver tokens, a worker reads both, stores the ledger and writes a dead letter."""
    env = {
        "WATTLOG_KAFKA_BOOTSTRAP": kafka.secured_bootstrap, "WATTLOG_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "WATTLOG_KAFKA_CA_FILE": str(kafka.ca_file), "WATTLOG_KAFKA_PARTITIONS": "2", "WATTLOG_KAFKA_GROUP": "wattlog",
    }  # fmt: skip

    def identity(user: str) -> dict[str, str]:
        return {"WATTLOG_KAFKA_USERNAME": user, "WATTLOG_KAFKA_PASSWORD": PASSWORDS.format(user)}

    with connect(chdb_dsn, database="default", readers=1) as engine, serve(chdb_root) as address:
        deployment = Deployment(kafka, tmp_path, f"{address}/{database_name}", env | identity("wattlog-migrate"))
        migrated = deployment.run("migrate")
        assert migrated.status == 0, migrated.err
        worker = deployment.stream("worker", env=identity("wattlog-worker"))
        try:
            holding(worker)
            totals = FleetTotals()
            events = list(SimulatedFleet(2).events(START_MS, 60_000, totals=totals, closing_ms=30_000))
            senders = {topics.POWER: "wattlog-agent", topics.TOKENS: "wattlog-ingest", topics.USAGE: "wattlog-ingest"}
            for topic, user in senders.items():
                with Publisher(kafka_config(kafka.settings_of(user))) as publisher:
                    for event in events:
                        if codec.topic_of(event.batch) == topic:
                            publisher.send(event)
                    publisher.send_raw(topic, b"c/w", [], b"unreadable")
            with connect(chdb_dsn, database=database_name) as ledger:
                wait_until(lambda: deployment.sent(topics.DEADLETTER) == 3, "dead letters of all three topics")
                wait_until(lambda: _is_stored(ledger, totals), "the windows are final")
        finally:
            worker.kill()
            engine.command(f"DROP DATABASE IF EXISTS `{database_name}`")
            engine.command("DROP DATABASE IF EXISTS wattlog")


def test_a_worker_that_may_write_no_notices_says_so_and_goes_on(
    kafka: SecuredBroker, tmp_path: Path, chdb_dsn: str, chdb_root: Path, database_name: str
) -> None:
    """Workers are in this state after an update, until the ACLs are added again."""
    acls = [acl._replace(user="before") for acl in kafka_acls() if acl.user == "wattlog-worker"]
    groups = {"wattlog": "before", "wattlog-usage": "before-usage"}
    kafka.admit([acl._replace(name=groups.get(acl.name, acl.name)) for acl in acls if acl.name != topics.ALERTS])
    env = {
        "WATTLOG_KAFKA_BOOTSTRAP": kafka.secured_bootstrap, "WATTLOG_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "WATTLOG_KAFKA_CA_FILE": str(kafka.ca_file), "WATTLOG_KAFKA_PARTITIONS": "2", "WATTLOG_KAFKA_GROUP": "before",
    }  # fmt: skip

    def identity(user: str) -> dict[str, str]:
        return {"WATTLOG_KAFKA_USERNAME": user, "WATTLOG_KAFKA_PASSWORD": PASSWORDS.format(user)}

    with connect(chdb_dsn, database="default", readers=1) as engine, serve(chdb_root) as address:
        deployment = Deployment(kafka, tmp_path, f"{address}/{database_name}", env | identity("wattlog-migrate"))
        assert deployment.run("migrate").status == 0
        worker = deployment.stream("worker", env=identity("before"))
        try:
            holding(worker)
            with Publisher(kafka_config(kafka.settings_of("wattlog-agent"))) as publisher:
                for t_ms in range(3):
                    batch = heartbeat_batch(topics.POWER, START_MS + t_ms, node="n1")
                    publisher.send(Event("nvml://n1", 1, 0, "c", "w", batch))
                wait_until(lambda: "gets no notice" in worker.error_text(), "the worker says so")
                assert "nvml://n1 gets no notice that its numbers are taken: wattlog.alerts.v1" in worker.error_text()
                publisher.send(
                    Event("nvml://n1", 1, 0, "c", "w", heartbeat_batch(topics.POWER, START_MS + 9, node="n1"))
                )
                wait_until(lambda: deployment.sent(topics.DEADLETTER) == 3, "dead letters are written as before")
            assert worker.running
        finally:
            worker.kill()
            engine.command(f"DROP DATABASE IF EXISTS `{database_name}`")
            engine.command("DROP DATABASE IF EXISTS wattlog")


def _end(kafka: SecuredBroker, topic: str) -> int:
    """Number of messages that a topic has had."""
    consumer = Consumer(kafka.client(group_id="ends"))
    try:
        partitions = consumer.list_topics(topic, timeout=HANG_S).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=HANG_S) for p in partitions]
        return sum(end for _, end in ends)
    finally:
        consumer.close()


def _pumped(delivery: Delivery, count: int) -> bool:
    """Serve the delivery. True once that many messages were acknowledged."""
    delivery.pump(0.02)
    return delivery.delivered >= count


def _refused(delivery: Delivery, count: int) -> bool:
    """Serve the delivery. True once the broker refused messages that often."""
    delivery.pump(0.02)
    return delivery.failures >= count


def _is_stored(ledger: Warehouse, totals: FleetTotals) -> bool:
    try:
        assert_ledger_is(ledger, totals)
    except AssertionError:
        return False
    return True
