"""The state of a partition that survives a restart."""

from __future__ import annotations

from contracts import topics
from streams.core.checkpoint import Checkpoint, Cut
from streams.core.sequence import SequenceRun


def mark(power: int, tokens: int, *cuts: Cut) -> Checkpoint:
    return Checkpoint(offsets={topics.POWER: power, topics.TOKENS: tokens}, cuts=list(cuts))


def test_a_checkpoint_survives_its_row():
    before = mark(7, 9, Cut(20_000, 7, 9))
    before.seen[topics.POWER]["s", 1] = SequenceRun(3, {5, 7}, 5, 7, 2, 19_000)
    row = {k: v[0] for k, v in before.row("log", 3, 11).items()}
    after = Checkpoint.load(row)
    assert after == before


def test_a_message_read_before_the_cut_is_in_the_window():
    assert mark(0, 0, Cut(10_000, 5, 2)).includes(topics.POWER, 4, 10_000)


def test_a_message_read_after_the_cut_is_late():
    assert not mark(0, 0, Cut(10_000, 5, 2)).includes(topics.TOKENS, 2, 10_000)


def test_the_first_cut_that_covers_a_window_decides():
    assert not mark(0, 0, Cut(10_000, 5, 2), Cut(20_000, 9, 9)).includes(topics.POWER, 6, 10_000)


def test_passed_cuts_are_dropped_except_the_newest():
    m = mark(9, 9, Cut(10_000, 5, 2), Cut(20_000, 9, 9), Cut(30_000, 12, 9))
    m.trim()
    assert m.cuts == [Cut(20_000, 9, 9), Cut(30_000, 12, 9)]


def test_a_cut_that_a_replayed_message_may_need_is_kept_behind_a_later_passed_one():
    """Shown by hypothesis: after a restart the power offset stepped back from 3 to 2, and the first cut was lost."""
    cuts = [Cut(10_000, 3, 0), Cut(20_000, 2, 2), Cut(30_000, 2, 3)]
    m = mark(2, 3, *cuts)
    m.trim()
    assert m.cuts == cuts
