"""Names from outside in the form that the event log accepts."""

from __future__ import annotations

from contracts.checks import MAX_TEXT


def printable(text: str) -> str:
    """Return a text as the log accepts it: at most 253 characters, with "?" for those that cannot be printed."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT])
