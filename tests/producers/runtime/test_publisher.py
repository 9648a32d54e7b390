"""Events on a real log: numbered, placed, timestamped; and never lost silently."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from contracts import codec, topics
from contracts.errors import BadEvent, BadInput, BadSetting, Unavailable
from contracts.events import Event, TokenBatch
from contracts.settings import Settings
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch, power_batch, source_of
from producers.runtime.publisher import Publisher, kafka_config

Consume = Callable[..., list[Message]]
T0 = 1_700_000_000_000
NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}


def power(numbers: Sequencer, workload: str = "w", energy_uj: int = 5) -> Event:
    batch = power_batch("n", [("GPU-1", "H", T0, T0 + 1000, energy_uj, 0, -1)])
    return event_of(numbers, source_of("test", "c", "n", workload), "c", workload, batch)


def tokens(numbers: Sequencer, workload: str) -> Event:
    one, index = np.ones(1, np.int64), np.zeros(1, np.uint16)
    batch = TokenBatch(
        tenants=("t",),
        tenant=index,
        models=("m",),
        model=index,
        request_id=("r",),
        t_start_ms=one * T0,
        t_first_ms=one * T0,
        t_end_ms=one * T0 + 9,
        prompt_tokens=one,
        cached_tokens=one * 0,
        completion_tokens=one,
        status=index,
    )
    return event_of(numbers, source_of("gateway", "c", "g", workload), "c", workload, batch)


def test_an_event_survives_the_log_with_its_time_as_the_messages(broker: str, consume: Consume) -> None:
    sent = power(Sequencer(7))
    with Publisher({"bootstrap.servers": broker}) as publisher:
        publisher.send(sent)
        publisher.flush(10)
        assert publisher.delivered == 1
        assert publisher.pending() == 0
    [message] = consume(topics.POWER, 1)
    got = codec.decode(message.headers(), message.value())
    assert (got.source, got.epoch, got.seq, got.cluster, got.workload) == ("test://c/n/w", 7, 0, "c", "w")
    assert got.batch.energy_uj.tolist() == [5]
    assert message.timestamp()[1] == T0 + 1000
    assert message.key() == b"c/w"


def test_power_and_tokens_of_a_workload_have_the_same_partition_number(broker: str, consume: Consume) -> None:
    numbers, names = Sequencer(0), [f"workload-{n}" for n in range(20)]
    with Publisher({"bootstrap.servers": broker}) as publisher:
        for name in names:
            publisher.send(power(numbers, name))
            publisher.send(tokens(numbers, name))
    placed = [{m.key(): m.partition() for m in consume(topic, 20)} for topic in topics.JOINED]
    assert placed[0] == placed[1]
    assert len(set(placed[0].values())) == 4


def test_heartbeats_are_numbered_like_any_event(broker: str, consume: Consume) -> None:
    numbers = Sequencer(0)
    with Publisher({"bootstrap.servers": broker}) as publisher:
        for n in range(3):
            publisher.heartbeat(numbers, "test://c/n/w", "c", "w", topics.POWER, T0 + n, node="n")
    got = [codec.decode(m.headers(), m.value()) for m in consume(topics.POWER, 3)]
    assert [(e.seq, e.batch.event_ms, len(e.batch)) for e in got] == [(0, T0, 0), (1, T0 + 1, 0), (2, T0 + 2, 0)]


def test_a_raw_message_keeps_its_partition_headers_and_time(broker: str, consume: Consume) -> None:
    with Publisher({"bootstrap.servers": broker}) as publisher:
        publisher.send_raw(topics.DEADLETTER, b"k", [("reason", b"bad")], b"whole", partition=3, timestamp_ms=T0)
    [message] = consume(topics.DEADLETTER, 1)
    assert (message.partition(), message.headers(), message.value()) == (3, [("reason", b"bad")], b"whole")
    assert message.timestamp()[1] == T0


def test_undelivered_events_are_named_by_flush_once() -> None:
    publisher = Publisher({**NOWHERE, "message.timeout.ms": 100})
    publisher.send_raw(topics.POWER, b"c/w", [], b"x")
    with pytest.raises(Unavailable, match=r"1 message was not stored: wattlog\.power\.v1 c/w"):
        publisher.flush(10)
    publisher.flush(10)
    publisher.close()


def test_an_absent_broker_is_an_error_on_close_except_for_messages_with_a_callback() -> None:
    errors: list[str | None] = []
    publisher = Publisher(NOWHERE)
    publisher.send_raw(topics.POWER, b"c/w", [], b"x", on_delivery=errors.append)
    publisher.send_raw(topics.POWER, b"c/w", [], b"x")
    with pytest.raises(Unavailable, match="1 message was not stored"):
        publisher.close(0.1)
    assert len(errors) == 1
    assert errors[0]


def test_a_full_queue_makes_the_sender_wait_and_then_fails() -> None:
    publisher = Publisher({**NOWHERE, "queue.buffering.max.messages": 1}, block_s=0.2)
    publisher.send(power(Sequencer(0)))
    with pytest.raises(Unavailable, match="full"):
        publisher.send(power(Sequencer(0)))
    with pytest.raises(Unavailable):
        publisher.close(0.1)


def test_a_full_queue_that_drains_only_delays_the_sender(broker: str, consume: Consume) -> None:
    numbers = Sequencer(0)
    with Publisher({"bootstrap.servers": broker, "queue.buffering.max.messages": 3, "linger.ms": 0}) as publisher:
        for _ in range(40):
            publisher.send(power(numbers))
    assert len(consume(topics.POWER, 40)) == 40


def test_an_error_inside_the_with_block_is_not_hidden_by_one_on_close() -> None:
    with pytest.raises(ZeroDivisionError), Publisher({**NOWHERE, "message.timeout.ms": 100}) as publisher:
        publisher.send(power(Sequencer(0)))
        raise ZeroDivisionError


def test_an_event_that_breaks_its_contract_is_not_sent(broker: str) -> None:
    with Publisher({"bootstrap.servers": broker}) as publisher, pytest.raises(BadEvent, match="energy_uj"):
        publisher.send(power(Sequencer(0), energy_uj=-1))


@pytest.mark.parametrize("name", ["enable.idempotence", "acks", "partitioner"])
def test_settings_that_the_ledger_depends_on_cannot_be_overridden(name: str) -> None:
    with pytest.raises(BadSetting, match=name):
        Publisher({**NOWHERE, name: "0"})


def test_numbers_count_from_0_by_source_and_a_returned_one_is_used_again() -> None:
    numbers = Sequencer(5)
    a, b, c = power(numbers), power(numbers), power(numbers, "other")
    assert [(e.epoch, e.seq) for e in (a, b, c)] == [(5, 0), (5, 1), (5, 0)]
    with pytest.raises(BadInput, match="latest"):
        numbers.take_back(a.source, a.seq)
    numbers.take_back(b.source, b.seq)
    assert power(numbers).seq == 1


def test_a_source_that_writes_to_two_topics_is_refused() -> None:
    numbers = Sequencer(0)
    event_of(numbers, "test://c/n/w", "c", "w", heartbeat_batch(topics.POWER, T0, node="n"))
    with pytest.raises(BadInput, match="source of their own"):
        event_of(numbers, "test://c/n/w", "c", "w", heartbeat_batch(topics.TOKENS, T0))


def test_names_with_slashes_never_make_two_sources_alike() -> None:
    assert source_of("nvml", "c", "a/b", "c") != source_of("nvml", "c", "a", "b/c")
    assert source_of("nvml", "east", "node-1", "~node-1") == "nvml://east/node-1/~node-1"


def test_kafka_config_carries_the_security_settings() -> None:
    settings = Settings(
        kafka_bootstrap="kafka:9093", kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="SCRAM-SHA-256",
        kafka_username="wattlog", kafka_password=SecretStr("secret"), kafka_ca_file="ca.pem",
    )  # fmt: skip
    assert kafka_config(settings) == {
        "bootstrap.servers": "kafka:9093", "security.protocol": "SASL_SSL", "ssl.ca.location": "ca.pem",
        "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "wattlog", "sasl.password": "secret",
    }  # fmt: skip


def test_kafka_config_names_a_missing_setting() -> None:
    with pytest.raises(BadSetting, match="kafka_bootstrap"):
        kafka_config(Settings(kafka_bootstrap="embedded"))
    with pytest.raises(BadSetting, match="kafka_username"):
        kafka_config(Settings(kafka_bootstrap="kafka:9093", kafka_security_protocol="SASL_SSL"))
