"""Chain of the audit log: each entry has the hash of the one before it, and its own. Pure.

An entry is a line of JSON that ends with `,"hash":"HEX"}`. The hash is the SHA-256 of the line's bytes before that end
and a closing brace: an object in ASCII, with its names sorted and without spaces. `previous` in it is the hash of the
entry before, and `number` counts entries from 1. docs/access.md has a program that verifies a log.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
"""`previous` of the first entry."""
MAX_LINE_BYTES = 65_536
_END = re.compile(rb',"hash":"([0-9a-f]{64})"}\Z')
_MAX_TORN = 1_000


@dataclass(frozen=True, slots=True)
class Link:
    """The end of a chain: how many entries it has, and the hash of the last."""

    number: int = 0
    head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a verification."""

    link: Link
    """The last entry that follows, as all before it do."""
    fault: str = ""
    """The first line that does not follow, and why; empty if all do."""
    torn: tuple[int, ...] = ()
    """Numbers of lines whose writer was stopped in the middle, the first 1,000."""
    head_entry: int | None = None
    """Number of the entry whose hash is the noted head; None if no entry has it."""


def chained(content: Mapping[str, str | int], last: Link) -> tuple[bytes, Link]:
    """Return the line of a new entry, without its line feed, and the end of the chain with it."""
    entry = {**content, "number": last.number + 1, "previous": last.head}
    body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + f',"hash":"{digest}"}}'.encode(), Link(last.number + 1, digest)


def link_of(line: bytes) -> Link | None:
    """Return the end of a chain whose last entry is this line; None for one that is no whole entry."""
    entry = entry_of(line)
    return None if entry is None else Link(entry["number"], entry["hash"])


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; None for one that is not whole, or whose hash is not that of its content."""
    end = _END.search(line)
    if end is None or len(line) > MAX_LINE_BYTES:
        return None
    if hashlib.sha256(line[: end.start()] + b"}").hexdigest().encode() != end[1]:
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_entry = isinstance(entry.get("number"), int) and isinstance(entry.get("previous"), str)
    return entry if is_entry else None


def torn_hash(loose: bytes) -> str | None:
    """Return `torn` of an entry that is written after bytes which are no entry.

    It says that its writer saw them, and where the chain goes on. None for bytes that no writer's end explains: those
    of an entry that was changed, or a line that ends.
    """
    if loose.endswith(b"\n") or any(_END.search(line) for line in loose.split(b"\n")):
        return None
    return hashlib.sha256(loose).hexdigest()


def verify(lines: Iterable[bytes], noted_head: str = "") -> Verdict:
    """Verify a log, by its lines with their line feeds.

    An end that was cut off between two lines is not seen: `noted_head` is a head that was noted elsewhere.
    """
    link, torn, head_entry = Link(), list[int](), None
    loose, loose_lines = b"", list[int]()
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix(b"\n")
        entry = entry_of(line)
        if entry is None:
            loose += raw
            loose_lines.append(number)
            if len(loose) > MAX_LINE_BYTES or len(loose_lines) > _MAX_TORN:
                break
            continue
        if loose and (entry.get("torn") is None or entry["torn"] != torn_hash(loose.removesuffix(b"\n"))):
            break
        torn = [*torn, *loose_lines][:_MAX_TORN] if loose else torn
        if fault := _fault(entry, link, after_torn=bool(loose)):
            return Verdict(link, f"line {number}: {fault}", tuple(torn), head_entry)
        loose, loose_lines = b"", []
        link = Link(entry["number"], entry["hash"])
        head_entry = link.number if link.head == noted_head else head_entry
    else:
        if torn_hash(loose) is not None:
            return Verdict(link, "", tuple([*torn, *loose_lines][:_MAX_TORN]), head_entry)
    return Verdict(link, f"line {loose_lines[0]}: it is no entry", tuple(torn), head_entry)


def _fault(entry: Mapping[str, Any], last: Link, *, after_torn: bool) -> str:
    if "torn" in entry and not after_torn:
        return f"entry {entry['number']} follows a line that was cut off, which is gone"
    if entry["number"] != last.number + 1:
        return f"entry {entry['number']} follows entry {last.number}"
    if entry["previous"] != last.head:
        return f"entry {entry['number']} does not have the hash of the entry before it"
    return ""
