"""One unreadable message per thousand: all are dead letters with their reasons, and the ledger misses nothing else."""

from __future__ import annotations

from collections import Counter

from confluent_kafka import Message

from contracts import topics
from tests.kafka.chaos.faults import begin
from tests.kafka.chaos.field import Field
from tests.kafka.chaos.poison import LARGEST_BYTES, Poison, kinds
from tests.kafka.chaos.verdict import assert_sound, judge
from tests.support.event_log import read_all

KEY = "west/served-1"


def test_each_poison_message_is_a_dead_letter_with_its_reason_and_stops_nothing(chaos: Field) -> None:
    poison = kinds(KEY)
    feeder = chaos.feed(seed=3, speed=5, poison=poison)
    begin(chaos, workers=2)
    chaos.crew.until(lambda: len(feeder.poisoned) == len(poison), "every kind was sent")
    chaos.until_stored()
    letters = [m for messages in read_all(chaos.deployment.settings, topics.DEADLETTER).values() for m in messages]
    counts = Counter[str]()
    for member in chaos.crew.members:
        counts.update(member.metrics())

    by_place = {_place(letter): letter for letter in letters}  # A dead letter may be there twice, but never be missing.
    assert Counter(map(_topic_field_and_size, by_place.values())) == Counter(map(_expected, poison))
    assert counts["wattlog_stream_dead_letters_total"] == len(letters)
    for letter in letters:
        assert counts[f"wattlog_stream_dead_letters_total{{{_topic_field_and_size(letter)[1]}}}"] > 0
        assert any(_reason(letter) in line for m in chaos.crew.members for line in m.log_lines("dead letter"))
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))


def _place(letter: Message) -> tuple[bytes, bytes]:
    """`topic/partition` and offset of the letter's message."""
    headers = dict(letter.headers() or ())
    return headers["ce_subject"], headers["ce_id"]


def _topic_field_and_size(letter: Message) -> tuple[str, str, int]:
    """Topic, wrong field and length of the letter's message."""
    headers = dict(letter.headers() or ())
    topic = headers["ce_subject"].decode().partition("/")[0]
    omitted = int(headers.get("wattlog_omitted_bytes", b"0"))  # With its headers.
    size = LARGEST_BYTES if omitted > LARGEST_BYTES else len(letter.value() or b"")
    return topic, headers["wattlog_field"].decode().partition("[")[0], size


def _expected(poison: Poison) -> tuple[str, str, int]:
    return poison.topic, poison.field, len(poison.value)


def _reason(letter: Message) -> str:
    return dict(letter.headers() or ())["wattlog_reason"].decode()
