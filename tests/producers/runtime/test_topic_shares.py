"""Topics share the bound of a producer's queue: one that is refused leaves the others their room."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from producers.runtime.topic_shares import RESERVED, TOPICS, room_for

LIMIT = 800


def test_a_topic_alone_takes_three_quarters() -> None:
    assert room_for(topics.USAGE, {}, LIMIT) == 600
    assert room_for(topics.USAGE, {topics.USAGE: 600}, LIMIT) == 0


def test_a_topic_beside_a_full_one_has_its_share() -> None:
    full = {topics.USAGE: 600}
    assert room_for(topics.TOKENS, full, LIMIT) == 100
    assert room_for(topics.POWER, full | {topics.TOKENS: 100}, LIMIT) == 100


def test_a_topic_whose_share_is_used_gives_the_others_no_more() -> None:
    assert room_for(topics.USAGE, {topics.TOKENS: 300}, LIMIT) == 400


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(1, 300)), max_size=60), st.sampled_from(TOPICS))
def test_the_others_never_fill_a_topics_share_nor_all_of_them_the_bound(
    wishes: list[tuple[str, int]], silent: str
) -> None:
    held = Counter[str]()
    for topic, size in wishes:
        if topic != silent and size <= room_for(topic, held, LIMIT):
            held[topic] += size
    assert held.total() <= LIMIT
    assert room_for(silent, held, LIMIT) >= LIMIT // RESERVED
