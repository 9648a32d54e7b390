"""Recent ids: recognised, bounded, and stored whole or in parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producers.runtime.deduplication import PART, DeduplicationTrial, DeduplicationWindow


def test_recent_ids_are_known_and_the_oldest_are_forgotten() -> None:
    recent = DeduplicationWindow(max_identities=2 * PART)
    recent.add(str(n) for n in range(10 * PART))
    assert PART <= len(recent) <= 2 * PART
    assert recent.has(str(10 * PART - 1))
    assert not recent.has("0")
    assert len(recent.dump()) == 8 * len(recent)


def test_dumped_ids_are_known_to_the_next_run() -> None:
    recent = DeduplicationWindow()
    recent.add("abc")
    again = DeduplicationWindow(recent.dump())
    assert [again.has(name) for name in "abcd"] == [True, True, True, False]


@given(st.lists(st.lists(st.text(max_size=3), max_size=400), max_size=8), st.data())
def test_changed_parts_restore_the_same_ids(steps: list[list[str]], data: st.DataObject) -> None:
    recent, marks = DeduplicationWindow(max_identities=3 * PART), dict[str, bytes]()
    for number, step in enumerate(steps):
        names = [f"{number} {name}" for name in step]
        recent.add(names)
        if data.draw(st.booleans()):  # not stored
            recent.forget(names)
        marks |= recent.changed_parts()
        recent.mark_stored()
        assert all(len(part) <= 8 * (PART + 1) for part in recent.changed_parts().values())
    again = DeduplicationWindow(max_identities=3 * PART)
    again.load({**marks, "source/x": b"other"})
    assert again.dump() == recent.dump()


def test_the_number_of_parts_is_bounded() -> None:
    recent, marks = DeduplicationWindow(max_identities=3 * PART), dict[str, bytes]()
    for n in range(20 * PART):
        recent.add([str(n)])
        if n % 100 == 0:
            marks |= recent.changed_parts()
            recent.mark_stored()
    assert len(marks) == 4
    again = DeduplicationWindow(max_identities=3 * PART)
    again.load(marks | recent.changed_parts())
    assert again.dump() == recent.dump()


def test_only_unstored_ids_are_forgotten() -> None:
    recent = DeduplicationWindow()
    recent.add(["a"])
    trial = DeduplicationTrial(recent)
    trial.add(["a", "b", "b"])
    assert (trial.added, trial.has("b"), recent.has("b")) == (["b"], True, False)
    recent.add(trial.added)
    recent.forget(trial.added)
    assert (recent.has("a"), recent.has("b")) == (True, False)
