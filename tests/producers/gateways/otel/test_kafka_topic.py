"""A Collector's topic, read from checkpoint to checkpoint: kills at any point lose and duplicate nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cli.health_checks import run_checks
from contracts import codec, topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import TokenBatch
from contracts.settings import Settings
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.gateways.otel.kafka_topic import SpansTopic, SpansTopicCheckpoint
from producers.gateways.otel.plugin import OtelConfig, consumer_config
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.runner import run
from producers.runtime.spool import Spool
from tests.producers.gateways.payloads import T0, as_json, as_protobuf, span
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock, clock_at

NOW = T0 + 60_000
TOPIC = "otlp_spans"
MANY_POLLS = 2_000
"""Looks at a topic after which it counts as lost: each waits for the broker up to a tenth of a second."""


class Topic:
    """The Collector's topic."""

    def __init__(self, broker: str) -> None:
        self.broker, self.written = broker, 0
        self._producer = Producer({"bootstrap.servers": broker, "log_level": 0})

    def write(self, *bodies: bytes, partition: int = 0) -> None:
        for body in bodies:
            self._producer.produce(TOPIC, body, partition=partition)
        assert self._producer.flush(10) == 0

    def calls(self, count: int, **more: Any) -> list[str]:
        """`count` calls, one a message, over its partitions, in both encodings; returns their span ids."""
        ids = [f"{self.written + n + 1:016x}" for n in range(count)]
        for n, one in enumerate(ids):
            self.write((as_json if n % 2 else as_protobuf)([span(id=one, **more)]), partition=n % 4)
        self.written += count
        return ids

    def source(self, **more: Any) -> SpansTopic:
        chat = Deployment(workload="chat", model="llama*")
        config = consumer_config(Settings(kafka_bootstrap=self.broker), OtelConfig()) | {"log_level": 0}
        return SpansTopic(
            TOPIC,
            GenAIReader(SpanRules()),
            Deployments([chat], "east"),
            lambda: Consumer(config),
            **{"begin": "start", "wait_s": 0.02, **more},
        )


@pytest.fixture
def topic(broker: str) -> Iterator[Topic]:
    topic = Topic(broker)
    topic.write(as_json([]))  # creates it
    yield topic


class Follower:
    """Poll again and again, from checkpoint to checkpoint, until `count` calls were read."""

    def __init__(self, source: SpansTopic, mark: bytes | None = None) -> None:
        self.source, self.mark, self.refused, self.notes, self.skipped = source, mark, [], [], {}

    def poll(self) -> list[str]:
        result = self.source.collect(self.mark, clock_at(NOW))
        self.mark = result.checkpoint
        self.refused += result.refused
        self.notes += result.notes
        self.skipped = {why: self.skipped.get(why, 0) + n for why, n in result.skipped.items()}
        ids = []
        for batch in result.batches:
            assert isinstance(batch.batch, TokenBatch)
            batch.batch.check()
            ids += [name.rpartition("/")[2] for name in batch.batch.request_id]
        return ids

    def until(self, count: int) -> list[str]:
        ids: list[str] = []
        while len(ids) < count:
            ids += self.poll()
        return sorted(ids)


def test_messages_of_all_partitions_are_read_on_from_the_checkpoint(topic: Topic) -> None:
    sent = topic.calls(6)
    with closing(topic.source()) as source:
        follower = Follower(source)
        assert follower.until(6) == sent
        more = topic.calls(2)
        assert follower.until(2) == more
        assert follower.refused == follower.notes == []
    with closing(topic.source()) as source:
        last = topic.calls(1)
        assert Follower(source, follower.mark).until(1) == last


def test_a_new_topic_is_read_from_its_end_by_default(topic: Topic) -> None:
    topic.calls(4)
    with closing(topic.source(begin="end")) as source:
        follower = Follower(source)
        assert follower.poll() == []  # The start is stored before any message is read.
    sent = topic.calls(2)
    with closing(topic.source(begin="end")) as source:
        assert Follower(source, follower.mark).until(2) == sent


def test_messages_read_without_a_stored_checkpoint_are_read_again(topic: Topic) -> None:
    sent = topic.calls(5)
    with closing(topic.source()) as source:
        follower = Follower(source)
        follower.poll()
        mark = follower.mark
        assert follower.until(5) == sent
        follower.mark = mark  # As when the spool is full.
        assert follower.until(5) == sent


def test_a_batch_that_the_collector_repeats_counts_once(topic: Topic) -> None:
    body = as_protobuf([span()])
    topic.write(body, body)
    with closing(topic.source()) as source:
        follower = Follower(source)
        assert len(follower.until(1)) == 1
        topic.write(body, partition=2)
        while follower.skipped != {"double": 1}:
            assert follower.poll() == []


def test_an_invalid_message_is_reported_with_its_place_and_the_others_count(topic: Topic) -> None:
    topic.write(b"\x0a\xff", b"", as_json([span({"gen_ai.usage.input_tokens": -1}), span(id="bb" * 8)]))
    with closing(topic.source()) as source:
        follower = Follower(source)
        assert follower.until(1) == ["bb" * 8]
    first, second = follower.refused
    assert first.startswith("otlp_spans, partition 0, offset 1: body")
    assert "offset 3: span" in second


def test_messages_deleted_by_retention_are_reported_and_reading_continues(topic: Topic) -> None:
    sent = topic.calls(4)

    class Trimmed(SpansTopic):
        def _bounds(self, consumer: Consumer, partition: int) -> tuple[int, int]:
            low, high = super()._bounds(consumer, partition)
            return (2 if partition == 0 else low), high

    with closing(topic.source()) as source:
        mark = Follower(source)
        mark.poll()
        source.__class__ = Trimmed
        follower = Follower(source, mark.mark)
        assert follower.until(3) == sent[1:]
    [refusal] = follower.refused
    assert refusal == ("otlp_spans, partition 0: offsets 0 to 1 were deleted by its retention before they were read")


def test_a_recreated_topic_is_reported_and_read_from_its_start(topic: Topic) -> None:
    sent = topic.calls(4)
    mark = msgspec.msgpack.encode(SpansTopicCheckpoint({0: 900, 1: 0, 2: 0, 3: 0}))
    with closing(topic.source()) as source:
        follower = Follower(source, mark)
        assert follower.until(4) == sent
    assert "the topic was made anew" in follower.refused[0]


def test_an_offset_that_no_longer_exists_is_replaced(topic: Topic) -> None:
    sent = topic.calls(4)
    with closing(topic.source()) as source:
        follower = Follower(source)
        follower.poll()
        source.collect(follower.mark, clock_at(NOW))
        # As if the broker had deleted the next messages: the consumer is at an offset that does not exist.
        source._consumer.assign([TopicPartition(TOPIC, p, 10_000) for p in range(4)])  # type: ignore[union-attr]
        assert follower.until(4) == sent


def test_absent_brokers_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.gateways.otel.kafka_topic.TIMEOUT_S", 0.1)
    config = consumer_config(Settings(kafka_bootstrap="127.0.0.1:1"), OtelConfig()) | {"log_level": 0}
    away = SpansTopic(TOPIC, GenAIReader(SpanRules()), Deployments([], "east"), lambda: Consumer(config))
    with pytest.raises(Unavailable, match="cannot be read"):
        away.collect(None, clock_at(NOW))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 5)), min_size=1, max_size=4))
def test_each_call_is_on_the_log_once_through_kills(
    tmp_path_factory: pytest.TempPathFactory, topic: Topic, runs: list[tuple[int, bool, int]]
) -> None:
    folder, log, time, sent = tmp_path_factory.mktemp("otel"), FakeBroker(), FakeClock(10**9), list[str]()
    time.now_ms, spool_path = 60_000, folder / "spool.db"
    before = topic.written
    with closing(Spool(spool_path)) as spool, closing(topic.source(begin="end")) as source:
        PollLoop(
            [source], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
        ).poll_due()
    for rounds, log.silent, count in runs:
        sent += topic.calls(count)
        with closing(Spool(spool_path)) as spool, closing(topic.source()) as source:
            follow = PollLoop(
                [source], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
            )
            for _ in range(rounds):
                follow.poll_due()
                time.now_ms += 1_000
        log.forget()  # Messages in flight are lost with the process, and their answers too.
    log.silent = False
    with closing(Spool(spool_path)) as spool, closing(topic.source()) as source:
        follow = PollLoop(
            [source], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
        )
        for _ in range(MANY_POLLS):
            follow.poll_due()
            time.now_ms += 1_000
            if len(ids(log)) >= len(sent) and not spool.events:
                break
    assert topic.written - before == len(sent)
    assert sorted(ids(log)) == sorted(sent)


def ids(log: FakeBroker) -> list[str]:
    distinct = {(e.source, e.epoch, e.seq): e.batch for e in log.stored}  # as a worker sees them
    return [n.rpartition("/")[2] for b in distinct.values() if isinstance(b, TokenBatch) for n in b.request_id]


# -- the producer ------------------------------------------------------------------------------------------------------

CONFIG = """
[produce.otel]
topic = "otlp_spans"
bootstrap = "{broker}"
begin = "start"
every_s = 0.1
[[produce.otel.deployments]]
model = "llama*"
workload = "chat"
"""


@pytest.fixture
def configured(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "wattlog.toml").write_text(CONFIG.format(broker=broker))
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    return Settings(data=tmp_path / "data", kafka_bootstrap=broker, cluster="east")


def test_calls_of_a_topic_are_sent_until_the_producer_stops(
    configured: Settings, topic: Topic, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic.write(as_protobuf([span(id="aa" * 8), span({"gen_ai.response.model": "qwen"}, id="bb" * 8)]))
    stop, calls = threading.Event(), dict[str, str]()
    thread = threading.Thread(target=run, args=("otel", configured, stop))
    thread.start()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(topics.TOKENS, p, 0) for p in range(4)])
    while len(calls) < 2:
        assert thread.is_alive()
        for message in consumer.consume(10, timeout=0.1):
            if message.error() is None:
                event = codec.decode(message.headers(), message.value())
                assert isinstance(event.batch, TokenBatch)
                calls |= {name[-4:]: f"{event.cluster}/{event.workload}" for name in event.batch.request_id}
    stop.set()
    thread.join()
    consumer.close()
    assert calls == {"aaaa": "east/chat", "bbbb": "east/unmatched/qwen"}
    assert "no rule of `deployments` names the workload of model 'qwen'" in caplog.text


def test_doctor_shows_a_message_of_the_topic(configured: Settings, topic: Topic) -> None:
    def read_finding() -> tuple[str, str]:
        [finding] = [f for f in islice(run_checks(configured), 2) if f.check == "otel"]
        return finding.state, finding.says

    topic.write(as_json([span(), span(id="bb" * 8, kind=2)]))
    assert read_finding() == (
        "ok", "otlp_spans: 4 partitions; in its newest 2 messages "
        "1 calls, of chat; not counted: 1 kind; not readable: 0",
    )  # fmt: skip


def test_a_missing_topic_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match="name the topic"):
        run("otel", Settings(kafka_bootstrap="127.0.0.1:1"), threading.Event())


def test_the_password_of_the_settings_is_sent_to_their_brokers_only() -> None:
    own = Settings(
        kafka_bootstrap="own:9092", kafka_security_protocol="SASL_SSL", kafka_username="u", kafka_password="secret"
    )  # type: ignore[arg-type]
    assert consumer_config(own, OtelConfig())["sasl.password"] == "secret"
    theirs = consumer_config(own, OtelConfig(bootstrap="theirs:9092"))
    assert theirs["bootstrap.servers"] == "theirs:9092"
    assert not {name for name in theirs if name.startswith("sasl")}
    with pytest.raises(ValueError, match="options of their own"):
        OtelConfig(bootstrap="user:secret@theirs:9092")
