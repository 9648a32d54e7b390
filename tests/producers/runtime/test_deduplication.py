"""What came lately: known again, bounded, and kept whole or in parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.runtime.deduplication import PART, DeduplicationTrial, DeduplicationWindow


def test_what_came_is_known_and_the_oldest_are_forgotten() -> None:
    recent = DeduplicationWindow(max_names=2 * PART)
    recent.add(str(n) for n in range(10 * PART))
    assert PART <= len(recent) <= 2 * PART
    assert recent.has(str(10 * PART - 1))
    assert not recent.has("0")
    assert len(recent.dump()) == 8 * len(recent)


def test_what_was_dumped_is_known_to_the_next_run() -> None:
    recent = DeduplicationWindow()
    recent.add("abc")
    again = DeduplicationWindow(recent.dump())
    assert [again.has(name) for name in "abcd"] == [True, True, True, False]


@given(st.lists(st.lists(st.text(max_size=3), max_size=400), max_size=8), st.data())
def test_parts_that_changed_are_enough_to_know_the_same(steps: list[list[str]], data: st.DataObject) -> None:
    recent, marks = DeduplicationWindow(max_names=3 * PART), dict[str, bytes]()
    for number, step in enumerate(steps):
        names = [f"{number} {name}" for name in step]
        recent.add(names)
        if data.draw(st.booleans()):  # it could not be kept
            recent.forget(names)
        marks |= recent.changed_parts()
        recent.mark_stored()
        assert all(len(part) <= 8 * (PART + 1) for part in recent.changed_parts().values())
    again = DeduplicationWindow(max_names=3 * PART)
    again.load({**marks, "source/x": b"other"})
    assert again.dump() == recent.dump()


def test_the_ring_of_parts_is_bounded() -> None:
    recent, marks = DeduplicationWindow(max_names=3 * PART), dict[str, bytes]()
    for n in range(20 * PART):
        recent.add([str(n)])
        if n % 100 == 0:
            marks |= recent.changed_parts()
            recent.mark_stored()
    assert len(marks) == 4
    again = DeduplicationWindow(max_names=3 * PART)
    again.load(marks | recent.changed_parts())
    assert again.dump() == recent.dump()


def test_what_was_not_kept_is_forgotten_and_no_more() -> None:
    recent = DeduplicationWindow()
    recent.add(["a"])
    trial = DeduplicationTrial(recent)
    trial.add(["a", "b", "b"])
    assert (trial.added, trial.has("b"), recent.has("b")) == (["b"], True, False)
    recent.add(trial.added)
    recent.forget(trial.added)
    assert (recent.has("a"), recent.has("b")) == (True, False)
