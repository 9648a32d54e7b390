"""Pages and opaque cursors. A cursor holds the sort key of a page's last row (keyset), so that pages never shift.

A cursor is base64url of JSON. It is no secret and gives no rights: its values are bound as parameters, and the request
repeats the filters. A digest ties it to the question that it continues.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from contracts.errors import BadQuery

MAX_LIMIT = 10_000
"""Rows in one page at most."""
MAX_CURSOR = 4_096

Key = list[str | int]
"""The values that a read's rows are sorted by, of one row."""
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A bounded part of a read's rows. `next` is the cursor of the part after it; None on the last page."""

    rows: list[Row]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The part of a read's rows to return: at most `limit` rows, after the one that `cursor` names.

    Raises BadQuery for a limit that is not from 1 to MAX_LIMIT.
    """

    limit: int = 1_000
    cursor: str | None = None
    is_whole: bool = False
    """Nobody asked for a part: an export has every row, this page and those after it."""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadQuery("limit", self.limit, f"give 1 to {MAX_LIMIT} rows and follow `next` for more")

    def after(self, question: Sequence[object], types: Sequence[type]) -> Key | None:
        """Return the sort key that the cursor holds; None for the first page. Raises BadQuery (`read_cursor`)."""
        return read_cursor(question, self.cursor, types)

    def cut(self, question: Sequence[object], rows: list[Row], key: Callable[[Row], Key]) -> Page[Row]:
        """Return up to `limit + 1` rows as a page of `limit`, with a cursor if there are more."""
        if len(rows) <= self.limit:
            return Page(rows)
        return Page(rows[: self.limit], write_cursor(question, key(rows[self.limit - 1])))


def all_pages(read: Callable[[PageRequest], Page[Row]], first: Page[Row]) -> Iterator[list[Row]]:
    """Yield the rows of `first` and of every page after it, MAX_LIMIT at a time."""
    yield first.rows
    next_ = first.next
    while next_:
        page = read(PageRequest(MAX_LIMIT, next_))
        yield page.rows
        next_ = page.next


def write_cursor(question: Sequence[object], key: Key) -> str:
    """Return the cursor after the row with sort key `key`, in the answer to `question` (its name and filters)."""
    body = json.dumps([_digest(question), key], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def read_cursor(question: Sequence[object], cursor: str | None, types: Sequence[type]) -> Key | None:
    """Return the sort key in a cursor; None for the first page. Its parts must have these types.

    Raises BadQuery for a cursor that this program did not write, or wrote for another question.
    """
    if not cursor:
        return None
    fix = "give the `next` of the page before, with the same filters"
    if len(cursor) > MAX_CURSOR:
        raise BadQuery("cursor", cursor, fix)
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, key = json.loads(raw)
        json.dumps(key, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise BadQuery("cursor", cursor, fix) from None
    if digest != _digest(question) or not isinstance(key, list) or len(key) != len(types):
        raise BadQuery("cursor", cursor, fix)
    if not all(type(part) is kind for part, kind in zip(key, types, strict=True)):
        raise BadQuery("cursor", cursor, fix)
    if any(abs(part) >= 2**63 for part in key if isinstance(part, int)):
        raise BadQuery("cursor", cursor, fix)
    return key


def _digest(question: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in question]).encode()).hexdigest()[:12]
