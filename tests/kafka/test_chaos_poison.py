"""A message in a thousand that cannot be read: all of them in the dead-letter topic with their reasons, and nothing
else is missing from the ledger."""

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


def test_a_poison_message_per_thousand_is_a_dead_letter_with_its_reason_and_stops_nothing(chaos: Field) -> None:
    poison = kinds(KEY)
    feeder = chaos.feed(seed=3, speed=5, poison=poison)
    begin(chaos, workers=2)
    chaos.crew.until(lambda: len(feeder.poisoned) == len(poison), "every kind was sent")
    chaos.until_stored()
    letters = [m for found in read_all(chaos.deployment.settings, topics.DEADLETTER).values() for m in found]
    shown = Counter[str]()
    for member in chaos.crew.members:
        shown.update(member.shown())

    by_place = {_place(letter): letter for letter in letters}  # One may be told twice, never be missing.
    assert Counter(map(_told, by_place.values())) == Counter(map(_expected, poison))
    assert shown["wattlog_stream_dead_letters_total"] == len(letters)
    for letter in letters:
        assert shown[f"wattlog_stream_dead_letters_total{{{_told(letter)[1]}}}"] > 0
        assert any(_reason(letter) in line for m in chaos.crew.members for line in m.said("dead letter"))
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))


def _place(letter: Message) -> tuple[bytes, bytes]:
    """`topic/partition` and offset of the message that it is about."""
    headers = dict(letter.headers() or ())
    return headers["ce_subject"], headers["ce_id"]


def _told(letter: Message) -> tuple[str, str, int]:
    """Where it came from, what was wrong with it, and how long it is."""
    headers = dict(letter.headers() or ())
    topic = headers["ce_subject"].decode().partition("/")[0]
    omitted = int(headers.get("wattlog_omitted_bytes", b"0"))  # Its headers too.
    size = LARGEST_BYTES if omitted > LARGEST_BYTES else len(letter.value() or b"")
    return topic, headers["wattlog_field"].decode().partition("[")[0], size


def _expected(poison: Poison) -> tuple[str, str, int]:
    return poison.topic, poison.field, len(poison.value)


def _reason(letter: Message) -> str:
    return dict(letter.headers() or ())["wattlog_reason"].decode()
