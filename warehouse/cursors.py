"""Opaque cursors: where a page ended, as the sort key of its last row (keyset, so a page never shifts).

A cursor is base64url of JSON. It is no secret and gives no rights: what it holds is bound as parameters, and the
filters come from the request again. A digest of the question ties it to the question that it continues.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence

from contracts.errors import BadQuery
from warehouse.results import Page, Row

MAX_LIMIT = 10_000
"""Rows in one page, at most."""
MAX_CURSOR = 4_096

Key = list[str | int]


def check_limit(limit: int) -> int:
    """The limit, or BadQuery when it is not from 1 to MAX_LIMIT."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadQuery("limit", limit, f"give 1 to {MAX_LIMIT} rows and follow `next` for more")
    return limit


def write_cursor(question: Sequence[object], key: Key) -> str:
    """The cursor after the row with sort key `key`, in the answer to `question` (its name and filters)."""
    body = json.dumps([_digest(question), key], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def read_cursor(question: Sequence[object], cursor: str | None, kinds: Sequence[type]) -> Key | None:
    """The sort key in a cursor; None for the first page. `kinds` are the types that its parts must have.

    Raises BadQuery for a cursor that we did not write, or wrote for another question.
    """
    if not cursor:
        return None
    mend = "give the `next` of the page before, with the same filters"
    if len(cursor) > MAX_CURSOR:
        raise BadQuery("cursor", cursor, mend)
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, key = json.loads(raw)
        json.dumps(key, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise BadQuery("cursor", cursor, mend) from None
    if digest != _digest(question) or not isinstance(key, list) or len(key) != len(kinds):
        raise BadQuery("cursor", cursor, mend)
    if not all(type(part) is kind for part, kind in zip(key, kinds, strict=True)):
        raise BadQuery("cursor", cursor, mend)
    if any(abs(part) >= 2**63 for part in key if isinstance(part, int)):
        raise BadQuery("cursor", cursor, mend)
    return key


def page(question: Sequence[object], rows: list[Row], limit: int, key: Callable[[Row], Key]) -> Page[Row]:
    """Up to `limit + 1` rows as a page of `limit`, with a cursor if there are more."""
    if len(rows) <= limit:
        return Page(rows)
    return Page(rows[:limit], write_cursor(question, key(rows[limit - 1])))


def _digest(question: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in question]).encode()).hexdigest()[:12]
