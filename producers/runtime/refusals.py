"""Refusals: each item that cannot be read is left out, counted by source and reason, and logged at a bounded rate.

An exception of any class refuses the current item (a line, a message, a row, a GPU's reading) and never its neighbours.
`read_each` and `refusal` do so for a source's items, the loops of this package for whole reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter

from contracts.errors import AccessDenied, BadInput, Unavailable

log = logging.getLogger(__name__)

MAX_LOGGED = 10
"""Refusals of one source that are logged in `WINDOW_MS`; one line gives the number of the others."""
WINDOW_MS = 60_000
SHOWN_CHARS = 80
"""Maximum number of characters of an error or of an item that a refusal quotes."""
INVALID = "invalid"
"""Reason of an invalid value; other reasons are the names of exceptions."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ItemRefusal(str):
    """Sentence that says why an item was refused. `reason` is one word, a label of the metric."""

    reason: str

    def __new__(cls, text: str, reason: str = INVALID) -> ItemRefusal:
        self = super().__new__(cls, text)
        self.reason = reason
        return self


def refusal(error: Exception, place: str = "", piece: object = None) -> ItemRefusal:
    """Describe an exception: its place, and its message or, for an unexpected class, the beginning of `piece` too.

    Give no piece that may hold a secret or a prompt.
    """
    prefix = f"{place}: " if place else ""
    if isinstance(error, BadInput | Unavailable):
        return ItemRefusal(f"{prefix}{error}")
    name = type(error).__name__
    excerpt = "" if piece is None else f": {shorten(piece)}"
    return ItemRefusal(f"{prefix}cannot be read ({name}: {shorten(error)}){excerpt}", name)


def shorten(value: object) -> str:
    """Return the beginning of a value of any class as printable text."""
    try:
        text = repr(value[:SHOWN_CHARS]) if isinstance(value, bytes | str) else str(value)
    except Exception as error:  # A text of an error may itself fail: of too deep a list, of too long a number.
        text = f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return "".join(c if c.isprintable() else "?" for c in text[:SHOWN_CHARS])


def read_each(
    items: Iterable[tuple[str, Item]], read: Callable[[Item], Result], refused: list[str], *, show: bool = False
) -> Iterator[Result]:
    """Yield the result of `read` for each item, given with its place; refuse alone an item whose reading raises.

    `show`: the beginning of such an item may be logged. AccessDenied and Unavailable are no item's fault and pass.
    """
    for place, item in items:
        try:
            result = read(item)
        except (AccessDenied, Unavailable):
            raise
        except Exception as error:
            refused.append(refusal(error, place, item if show else None))
            continue
        yield result


class RefusalReport:
    """Counter and bounded log of a process's refusals."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "wattlog_producer_refused", "Items and reads that were refused", ["source", "reason"], registry=registry
        )
        self._windows: dict[str, tuple[int, int]] = {}
        """By source: the end of its logging window (monotonic ms), and the refusals in it."""

    def add(self, source: str, refusals: Sequence[str], now_ms: int) -> None:
        """Count a source's refusals, and log the first ones of each window; `now_ms` is monotonic."""
        for text in refusals:
            self._refused.labels(source, getattr(text, "reason", INVALID)).inc()
            if self._may_log(source, now_ms):
                log.warning("%s: left out: %s", source, text)

    def _may_log(self, source: str, now_ms: int) -> bool:
        end_ms, count = self._windows.get(source, (now_ms, 0))
        if now_ms >= end_ms:
            if count > MAX_LOGGED:
                log.warning("%s: left out: %d more like these", source, count - MAX_LOGGED)
            end_ms, count = now_ms + WINDOW_MS, 0
        self._windows[source] = (end_ms, count + 1)
        return count < MAX_LOGGED
