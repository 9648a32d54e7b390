"""Refusals: each item that cannot be read is left out, counted by source and reason, and logged at a bounded rate.

An exception of any class refuses the current item (a line, a message, a row, a GPU's reading) and never its neighbours.
`read_each` and `refusal` do so for a source's items, the loops of this package for whole reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter

from contracts.errors import AccessDenied, BadInput, Unavailable

log = logging.getLogger(__name__)

MAX_LOGGED = 10
"""Refusals of one source that are logged in `WINDOW_MS`; one line gives the number of the others."""
WINDOW_MS = 60_000
SHOWN_CHARS = 80
"""Maximum number of characters of an error or of an item that a refusal quotes."""
INVALID, FORBIDDEN = "invalid", "forbidden"
"""Reasons of an invalid value, and of an item that its sender may not send; others are those of `Unavailable`, and the
names of exceptions."""

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
        return ItemRefusal(f"{prefix}{error}", error.reason if isinstance(error, Unavailable) else INVALID)
    name = type(error).__name__
    excerpt = "" if piece is None else f": {shorten(piece)}"
    return ItemRefusal(f"{prefix}cannot be read ({describe(error)}){excerpt}", name)


def at_place(place: str, text: str) -> ItemRefusal:
    """Return a refusal with the place of the message or file that its item is part of."""
    return ItemRefusal(f"{place}: {text}", getattr(text, "reason", INVALID))


def describe(error: Exception) -> str:
    """Return an error's class and the beginning of its message."""
    text = shorten(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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

    `show`: the beginning of such an item may be logged. Unavailable is no item's fault and passes.
    """
    for place, item in items:
        try:
            result = read(item)
        except Unavailable:
            raise
        except AccessDenied as error:
            refused.append(ItemRefusal(f"{place}: {error.detail}", FORBIDDEN))
            continue
        except Exception as error:
            refused.append(refusal(error, place, item if show else None))
            continue
        yield result


@dataclass
class _LogWindow:
    """A stretch of time of one source: what was logged in it."""

    end_ms: int
    logged: int = 0
    unlogged: int = 0
    last: str = ""


class RefusalReport:
    """Counter and bounded log of a process's refusals."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "wattlog_producer_refused", "Items and reads that were refused", ["source", "reason"], registry=registry
        )
        self._windows: dict[str, _LogWindow] = {}
        """By source."""

    def add(self, source: str, refusals: Sequence[str], now_ms: int, *, outcome: str = "left out") -> None:
        """Count a source's refusals, and log the first ones of each window; `now_ms` is monotonic.

        A refusal like the one before it is counted only.
        """
        for text in refusals:
            self._refused.labels(source, getattr(text, "reason", INVALID)).inc()
            window = self._window(source, now_ms)
            if window.logged < MAX_LOGGED and text != window.last:
                window.logged, window.last = window.logged + 1, text
                log.warning("%s: %s: %s", source, outcome, text)
            else:
                window.unlogged += 1

    def _window(self, source: str, now_ms: int) -> _LogWindow:
        window = self._windows.get(source)
        if window is None or now_ms >= window.end_ms:
            if window and window.unlogged:
                log.warning("%s: %d more like these", source, window.unlogged)
            window = self._windows[source] = _LogWindow(now_ms + WINDOW_MS)
        return window
