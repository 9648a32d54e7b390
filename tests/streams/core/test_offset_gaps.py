"""Offset gaps: their beginning, and the log's answer about them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from streams.core.decoding import LogMessage
from streams.core.offset_gaps import GapKind, OffsetGap, before_gap, classify_gap, loss_error

GAP = OffsetGap(topics.POWER, 3, 10, 20)


def _messages(offsets: list[int]) -> list[LogMessage]:
    return [LogMessage(topics.POWER, offset, None, None) for offset in offsets]


def test_consecutive_offsets_have_no_gap() -> None:
    assert before_gap(5, _messages([5, 6, 7])) == (3, 8)


def test_a_gap_is_before_the_first_message_beyond_the_expected_one() -> None:
    assert before_gap(5, _messages([6, 7])) == (0, 5)
    assert before_gap(5, _messages([5, 6, 9, 10])) == (2, 7)


def test_repeated_messages_are_no_gap_and_hide_none() -> None:
    assert before_gap(5, _messages([2, 3, 4, 5, 3, 4, 5, 6])) == (8, 7)
    assert before_gap(0, _messages([0, 1, 2, 2, 4])) == (4, 3)


def test_an_unread_log_may_begin_anywhere() -> None:
    assert before_gap(-1, _messages([7, 8, 10])) == (2, 9)


@given(st.integers(0, 5), st.lists(st.integers(0, 9), max_size=12))
def test_messages_before_a_gap_reach_to_the_next_expected_offset(expected: int, offsets: list[int]) -> None:
    count, after = before_gap(expected, _messages(offsets))
    assert set(range(expected, after)) <= set(offsets[:count])
    assert all(offset < after for offset in offsets[:count])
    assert count == len(offsets) or offsets[count] > after


def test_a_log_that_begins_after_the_start_of_the_gap_has_lost_messages() -> None:
    assert classify_gap(GAP, 11, None) is GapKind.LOST
    assert classify_gap(GAP, 25, 25) is GapKind.LOST
    assert "wattlog.power.v1 partition 3 lost messages 10 to 10" in str(loss_error(GAP, 11))


def test_a_gap_without_a_message_on_the_log_is_empty() -> None:
    assert classify_gap(GAP, 10, 20) is GapKind.EMPTY
    assert classify_gap(GAP, 0, None) is GapKind.EMPTY


def test_a_gap_with_a_message_on_the_log_was_skipped() -> None:
    assert classify_gap(GAP, 10, 10) is GapKind.SKIPPED
    assert classify_gap(GAP, 0, 19) is GapKind.SKIPPED
