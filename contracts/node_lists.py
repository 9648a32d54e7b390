"""Lists of nodes as Slurm writes them: `gpu[01-04,7],login1`. Pure."""

from __future__ import annotations

import re

MAX_NODES = 100_000
"""Nodes of one list. More are not told apart."""
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)


def expand_nodes(text: str) -> frozenset[str] | None:
    """Return the names of a list such as `gpu[01-04,7],login1`; None where it cannot be read or is too long."""
    names: set[str] = set()
    for part in re.split(r",(?![^\[]*\])", text):
        expanded = _expand(part)
        if expanded is None or len(names) + len(expanded) > MAX_NODES:
            return None
        names.update(expanded)
    return frozenset(names) if "" not in names else None


def _expand(text: str) -> list[str] | None:
    """Return the names of one element, which may have several brackets."""
    names = [""]
    while text:
        before, bracket, behind = text.partition("[")
        values, closing, text = behind.partition("]")
        if bool(bracket) != bool(closing) or "]" in before:
            return None
        endings = _ranges(values) if bracket else [""]
        if endings is None or len(names) * len(endings) > MAX_NODES:
            return None
        names = [name + before + ending for name in names for ending in endings]
    return names


def _ranges(text: str) -> list[str] | None:
    """Return the numbers of `01-04,7` with their leading zeros."""
    numbers: list[str] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if not match:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MAX_NODES:
            return None
        numbers += [f"{number:0{len(match[1])}d}" for number in range(first, last + 1)]
    return numbers
