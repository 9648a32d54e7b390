"""The chain of the audit log: what was changed in it is found, whatever it was."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from access.audit_chain import GENESIS, Link, Verdict, chained, torn_hash, verify

TEXTS = st.text(max_size=12)
CONTENTS = st.dictionaries(st.sampled_from(["actor", "action", "subject", "query"]), TEXTS | st.integers(), max_size=4)
CHAINS = st.lists(CONTENTS, min_size=2, max_size=6)


def chain(contents: list[dict[str, str | int]]) -> list[bytes]:
    """Lines of a log with these entries."""
    last, lines = Link(), []
    for content in contents:
        line, last = chained(content, last)
        lines.append(line + b"\n")
    return lines


@given(CHAINS)
def test_entries_follow_each_other_and_the_head_is_the_last_hash(contents: list[dict[str, str | int]]) -> None:
    lines = chain(contents)
    head = json.loads(lines[-1])["hash"]
    assert verify(lines) == Verdict(Link(len(lines), head))
    assert [json.loads(line)["previous"] for line in lines] == [GENESIS, *(json.loads(x)["hash"] for x in lines[:-1])]


@given(CHAINS, st.data())
def test_a_changed_byte_is_found_at_its_line(contents: list[dict[str, str | int]], data: st.DataObject) -> None:
    lines = chain(contents)
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[number][place]))
    lines[number] = lines[number][:place] + bytes([byte]) + lines[number][place + 1 :]
    verdict = verify(b"".join(lines).splitlines(keepends=True) if byte == 10 else lines)
    assert verdict.fault.startswith(f"line {number + 1}: ")
    assert verdict.link.number == number


@given(CHAINS, st.data())
def test_a_removed_entry_is_found(contents: list[dict[str, str | int]], data: st.DataObject) -> None:
    lines = chain(contents)
    number = data.draw(st.integers(0, len(lines) - 2))
    del lines[number]
    assert verify(lines).fault == f"line {number + 1}: entry {number + 2} follows entry {number}"


@given(CHAINS, st.data())
def test_swapped_entries_are_found(contents: list[dict[str, str | int]], data: st.DataObject) -> None:
    lines = chain(contents)
    first, second = sorted(data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True)))
    lines[first], lines[second] = lines[second], lines[first]
    assert verify(lines).fault.startswith(f"line {first + 1}: ")


@given(CHAINS, st.data())
def test_an_inserted_line_is_found(contents: list[dict[str, str | int]], data: st.DataObject) -> None:
    lines = chain(contents)
    number = data.draw(st.integers(0, len(lines)))
    forged, _ = chained({"actor": "ann"}, Link(number, GENESIS[:-1] + "1"))
    foreign = data.draw(st.binary(max_size=20).filter(lambda line: b"\n" not in line) | st.just(forged))
    lines.insert(number, foreign + b"\n")
    assert verify(lines).fault.startswith(f"line {number + 1}: ")


@given(CHAINS, st.data())
def test_a_line_that_is_cut_short_within_the_log_is_found(
    contents: list[dict[str, str | int]], data: st.DataObject
) -> None:
    lines = chain(contents)
    number = data.draw(st.integers(0, len(lines) - 2))
    size = data.draw(st.integers(0, len(lines[number]) - 2))
    lines[number] = lines[number][:size] + b"\n"
    assert verify(lines).fault == f"line {number + 1}: it is no entry"


@given(CHAINS, st.data())
def test_an_end_within_a_line_is_named_and_the_next_entry_has_its_hash(
    contents: list[dict[str, str | int]], data: st.DataObject
) -> None:
    lines = chain(contents)
    size = data.draw(st.integers(1, len(lines[-1]) - 2))
    *entries, torn = [*lines[:-1], lines[-1][:size]]
    assert verify([*entries, torn]) == Verdict(verify(entries).link, torn=(len(lines),))
    seen = torn_hash(torn)
    assert seen is not None
    after, head = chained({"torn": seen}, verify(entries).link)
    continued = [*entries, torn + b"\n", after + b"\n"]
    assert verify(continued) == Verdict(head, torn=(len(lines),))
    assert verify([*entries, torn[:-1] + b"\n", after + b"\n"]).fault == f"line {len(lines)}: it is no entry"
    assert "which is gone" in verify([*entries, after + b"\n"]).fault


@given(CHAINS, st.data())
def test_a_cut_off_end_is_found_by_a_noted_head_only(contents: list[dict[str, str | int]], data: st.DataObject) -> None:
    lines = chain(contents)
    head = verify(lines).link.head
    left = lines[: data.draw(st.integers(0, len(lines) - 1))]
    assert verify(lines, head).head_entry == len(lines)
    assert (verify(left, head).fault, verify(left, head).head_entry) == ("", None)


def test_many_foreign_lines_end_the_search_early() -> None:
    endless = (b"x\n" for _ in iter(int, 1))
    assert verify(endless).fault == "line 1: it is no entry"
