"""Delivery from the spool to the broker: in order, bounded, until acknowledged, and again after any failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from producers.runtime import delivery as delivery_module
from producers.runtime import publisher
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.delivery import Delivery, encode_message
from producers.runtime.event_sequence import Sequencer, event_of, power_batch
from producers.runtime.spool import Outgoing, Spool
from producers.runtime.topic_shares import TOPICS
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock

NUMBERS = "nvml://c/n/w"


def messages(numbers: Sequencer, count: int) -> list[Outgoing]:
    rows = [("GPU-a", "H100", 1000 * n, 1000 * n + 1000, 5, 0, -1) for n in range(count)]
    return [encode_message(event_of(numbers, NUMBERS, "c", "w", power_batch("n", [row]))) for row in rows]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool.db")


def test_events_are_sent_in_order_and_removed_when_acknowledged(spool: Spool) -> None:
    broker, numbers = FakeBroker(silent=True), Sequencer(7)
    delivery = Delivery(spool, broker)
    delivery.offer(messages(numbers, 3))
    delivery.pump()
    broker.answer()
    delivery.pump()
    assert broker.stored_ids == ["7.0", "7.1", "7.2"]
    assert (spool.events, delivery.waiting, delivery.delivered) == (0, 0, 3)


def test_few_messages_are_in_flight_and_the_others_wait_on_disk(spool: Spool) -> None:
    broker = FakeBroker(silent=True)
    delivery = Delivery(spool, broker, max_in_flight=2)
    delivery.offer(messages(Sequencer(7), 5))
    delivery.pump()
    assert broker.in_flight == ["7.0", "7.1"]
    broker.answer()
    delivery.pump()
    assert broker.in_flight == ["7.2", "7.3"]


def test_a_refused_message_is_sent_again_first_under_its_own_number(spool: Spool) -> None:
    broker = FakeBroker(silent=True)
    delivery = Delivery(spool, broker, max_in_flight=2)
    delivery.offer(messages(Sequencer(7), 3))
    delivery.pump()
    broker.answer(lambda name: name != "7.0")
    delivery.pump()
    assert broker.in_flight == ["7.0", "7.2"]
    assert delivery.failures == 1


def test_a_broken_client_leaves_all_messages_on_disk(spool: Spool) -> None:
    broker = FakeBroker(silent=True)
    delivery = Delivery(spool, broker)
    delivery.offer(messages(Sequencer(7), 2))
    broker.full = True
    delivery.pump()
    assert delivery.waiting == 2
    broker.full = False
    delivery.pump()
    broker.answer()
    assert broker.stored_ids == ["7.0", "7.1"]


def usage_message(numbers: Sequencer) -> Outgoing:
    row = UsageRow("requests", "1", "1", T0, T0, "acme", event_id="1")
    return encode_message(event_of(numbers, "usage://c/n", "c", "w", usage_batch([row], 0)))


def test_a_missing_topic_does_not_hold_up_the_others(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker()
    broker.missing = {topics.USAGE}
    delivery = Delivery(spool, broker)
    delivery.offer([usage_message(Sequencer(7)), *messages(Sequencer(8), 2)])
    for _ in range(5):
        delivery.pump()
    assert broker.stored_ids == ["8.0", "8.1"]
    assert delivery.failures == 5
    assert [record.message for record in caplog.records] == [
        f"messages for {topics.USAGE} are not sent now, kept on disk: Kafka does not take the message: "
        "Local: Unknown topic. Try `wattlog doctor`."
    ]
    broker.missing = set()
    for _ in range(3):
        delivery.pump()
    assert broker.stored_ids == ["8.0", "8.1", "7.0"]
    assert spool.events == 0


def test_reasons_that_take_turns_are_not_logged_each_time(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker()
    delivery = Delivery(spool, broker)
    delivery.offer(messages(Sequencer(7), 1))
    for n in range(10):
        broker.refuses = f"reason {n % 2}"
        delivery.pump()
    assert [record.message for record in caplog.records] == [
        f"messages for {topics.POWER} were not stored and are sent again: reason 1"
    ]


def test_refused_messages_of_a_topic_leave_room_for_others(spool: Spool) -> None:
    broker = FakeBroker(silent=True)
    delivery = Delivery(spool, broker, max_in_flight=2)
    usage, power = Sequencer(7), Sequencer(8)
    delivery.offer([*(usage_message(usage) for _ in range(5)), *messages(power, 3)])
    for _ in range(4):
        delivery.pump()
        broker.answer(lambda name: name.startswith("8."))
    assert broker.stored_ids == ["8.0", "8.1", "8.2"]
    assert spool.events == 5


def test_large_messages_of_a_topic_leave_room_in_the_clients_queue_for_others(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = [usage_message(Sequencer(7))._replace(value=bytes(1_000)) for _ in range(5)]
    monkeypatch.setattr(delivery_module, "MAX_IN_FLIGHT_BYTES", 3 * usage[0].size)
    broker = FakeBroker(silent=True)
    delivery = Delivery(spool, broker)
    delivery.offer([*usage, *messages(Sequencer(8), 2)])
    for _ in range(3):
        delivery.pump()
    assert broker.in_flight == ["7.0"] * 3 + ["8.0", "8.1"]
    broker.answer(lambda name: name.startswith("8."))
    delivery.pump()
    assert broker.in_flight == ["7.0"] * 3
    assert publisher.DEFAULTS["queue.buffering.max.kbytes"] * 2**10 > len(TOPICS) * delivery_module.MAX_IN_FLIGHT_BYTES


def test_a_message_beyond_the_bound_in_flight_is_sent_alone(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "MAX_IN_FLIGHT_BYTES", 1)
    broker = FakeBroker()
    delivery = Delivery(spool, broker)
    delivery.offer(messages(Sequencer(7), 3))
    for _ in range(4):
        delivery.pump()
    assert broker.stored_ids == ["7.0", "7.1", "7.2"]


def test_another_run_sends_unacknowledged_messages_under_their_old_identity(spool: Spool) -> None:
    lost = FakeBroker(silent=True)
    first = Delivery(spool, lost)
    first.offer(messages(Sequencer(7), 2))
    first.pump()  # and the process is killed before an answer arrives
    broker = FakeBroker(silent=True)
    second = Delivery(spool, broker)
    second.offer(messages(Sequencer(8), 1))
    second.pump()
    broker.answer()
    assert broker.stored_ids == ["7.0", "7.1", "8.0"]


def test_the_sender_learns_of_the_acknowledgement_of_its_message(spool: Spool) -> None:
    broker, outcomes = FakeBroker(silent=True), []
    delivery = Delivery(spool, broker, on_acknowledged=outcomes.append)
    numbers = delivery.offer(messages(Sequencer(7), 1))
    delivery.pump()
    assert outcomes == []
    broker.answer()
    delivery.pump()
    assert outcomes == list(numbers)


@given(answers=st.lists(st.lists(st.booleans(), max_size=6), max_size=12), in_flight=st.integers(1, 4))
def test_every_event_arrives_through_any_refusals_and_none_is_left(
    tmp_path_factory: pytest.TempPathFactory, answers: list[list[bool]], in_flight: int
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool") / "spool.db")
    broker = FakeBroker(silent=True)
    delivery = Delivery(spool, broker, max_in_flight=in_flight)
    delivery.offer(messages(Sequencer(7), 6))
    for some in [*answers, *[[]] * 12]:
        delivery.pump()
        left = list(some)
        broker.answer(lambda _, left=left: left.pop(0) if left else True)
    delivery.pump()
    assert sorted(broker.stored_ids) == [f"7.{n}" for n in range(6)]
    assert spool.events == 0
    spool.close()


def test_topics_and_keys_are_those_of_the_event(spool: Spool) -> None:
    Delivery(spool, FakeBroker(silent=True)).offer(messages(Sequencer(7), 1))
    [(_, message)] = spool.after(0, 1)
    assert (message.topic, message.key, message.t_ms) == (topics.POWER, b"c/w", 1000)


def test_a_refused_topic_pauses_and_the_others_go_on(spool: Spool) -> None:
    clock, broker = FakeClock(), FakeBroker()
    delivery = Delivery(spool, broker, clock=clock, pause_ms=500)
    broker.missing = {topics.USAGE}
    usage, power = Sequencer(7), Sequencer(8)
    for n in range(1, 4):
        delivery.offer([usage_message(usage), *messages(power, 1)])
        for _ in range(2):
            delivery.pump()
        assert broker.stored_ids == [f"8.{i}" for i in range(n)]
    assert delivery.failures == 1
    broker.missing = set()
    clock.now_ms += 500
    delivery.pump()
    delivery.pump()
    assert broker.stored_ids[3:] == ["7.0", "7.1", "7.2"]
    assert delivery.waiting == 0
