"""Progress of a partition: the checkpoint advances in offset order, past stored and published messages, and no
further.
"""

from __future__ import annotations

import pytest

from contracts import topics
from contracts.events import Event
from streams.core.checkpoint import Checkpoint
from streams.core.decoding import LogMessage
from streams.core.progress import Progress
from streams.core.topic_progress import PendingMessage
from tests.support.partition_log import power

T0 = 1_700_000_000_000
OPEN = 10
"""A window that is not stored; windows before 5 are."""


def progress(checkpoint: Checkpoint | None = None) -> Progress:
    return Progress(checkpoint or Checkpoint(epoch=1), "log", 0, 5, 0)


def take(p: Progress, count: int = 1, topic: str = topics.POWER, source: str = "s") -> list[PendingMessage]:
    """Messages without a window, each with the next event of the source."""
    state, messages = p.topics[topic], []
    for _ in range(count):
        offset = max(state.next_offset, 0)
        messages.append(state.read(LogMessage(topic, offset, [], b""), 0))
        assert p.note_event(topic, messages[-1], Event(source, 1, offset, "c", "w", power([])), T0)
    return messages


def at(p: Progress) -> tuple[int, int]:
    """(the power topic's offset in the checkpoint, pending messages)."""
    return p.checkpoint.offsets[topics.POWER], p.pending


def test_a_message_without_a_window_is_done_at_once() -> None:
    p = progress()
    take(p, 3)
    assert (p.advance_checkpoint(), at(p)) == (True, (3, 0))
    assert not p.advance_checkpoint(), "there is no more"


@pytest.mark.parametrize("why", ["its window is open", "it is no dead letter yet", "late facts of it wait"])
def test_one_message_holds_back_all_later_ones_until_it_is_done(why: str) -> None:
    p = progress()
    second = take(p, 4)[1]
    if why == "its window is open":
        second.last_window = OPEN
    elif why == "it is no dead letter yet":
        p.note_rejected(topics.POWER, second)
    else:
        second.late = True
    p.advance_checkpoint()
    assert at(p) == (1, 3)
    p.finals_stored(OPEN + 1, ())
    p.dead_letters_published({(topics.POWER, 1)})
    p.late_stored({(topics.POWER, 1)}, ())
    assert at(p) == (4, 0)


def test_a_window_is_done_when_it_is_stored_not_when_the_one_before_is() -> None:
    p = progress()
    take(p)[0].last_window = OPEN
    p.finals_stored(OPEN, ())
    assert at(p) == (-1, 1)


def test_topics_do_not_wait_for_each_other() -> None:
    p = progress()
    take(p, 2)[0].last_window = OPEN
    take(p, 2, topics.TOKENS)
    p.advance_checkpoint()
    assert (p.checkpoint.offsets, p.pending, p.offsets_read) == ({topics.POWER: -1, topics.TOKENS: 2}, 2, 4)


def test_the_checkpoint_counts_only_events_below_it_as_seen() -> None:
    """Later events are read again after a restart, and must not count as duplicates then."""
    p = progress()
    take(p, 3)[1].last_window = OPEN
    p.advance_checkpoint()
    [(run, seen)] = p.checkpoint.seen[topics.POWER].items()
    assert (run, seen.below, p.topics[topics.POWER].runs[run].below) == (("s", 1), 1, 3)
    again = progress(p.checkpoint)
    take(again, 2)
    assert again.duplicates == 0


def test_a_duplicate_is_counted_and_its_message_is_done() -> None:
    p = progress()
    take(p)
    twice = p.topics[topics.POWER].read(LogMessage(topics.POWER, 1, [], b""), 0)
    assert not p.note_event(topics.POWER, twice, Event("s", 1, 0, "c", "w", power([])), T0)
    p.advance_checkpoint()
    assert (p.duplicates, at(p)) == (1, (2, 0))


def test_a_refused_message_is_in_the_checkpoint_until_the_checkpoint_has_passed_it() -> None:
    """The next owner must judge it alike, for as long as it is read again."""
    p = progress()
    [first] = take(p)
    p.note_rejected(topics.POWER, first)
    p.advance_checkpoint()
    assert p.checkpoint.refused[topics.POWER] == {0}
    p.dead_letters_published({(topics.POWER, 0)})
    p.advance_checkpoint()
    assert p.checkpoint.refused[topics.POWER] == set()


def test_rows_of_sources_are_returned_once_per_change() -> None:
    p = progress()
    take(p, 2)
    take(p, 1, topics.TOKENS, "t")
    assert p.take_source_rows() is None, "nothing is stored yet"
    p.advance_checkpoint()
    rows = p.take_source_rows()
    assert rows is not None
    counts = zip(rows["topic"], rows["source"], rows["received"], strict=True)
    assert sorted((str(t), str(s), int(n)) for t, s, n in counts) == [(topics.POWER, "s", 2), (topics.TOKENS, "t", 1)]
    assert p.take_source_rows() is None


def test_each_checkpoint_supersedes_the_one_before() -> None:
    p = progress()
    versions = [int(row["version"][0]) for row in (p.checkpoint_row(), p.finals_stored(6, (T0,)), p.checkpoint_row())]
    assert versions == sorted(set(versions))
