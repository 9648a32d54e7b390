"""Lists of rows cut so that each part fits into one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Row = TypeVar("Row")


def chunks(
    rows: Iterable[Row], row_bytes: Callable[[Row], int], *, max_rows: int, max_bytes: int
) -> Iterator[list[Row]]:
    """Yield the rows in their order, as lists of at most `max_rows` rows and `max_bytes` bytes by `row_bytes`.

    A single row that is larger than `max_bytes` is a list of its own. No list is empty.
    """
    part: list[Row] = []
    part_bytes = 0
    for row in rows:
        size = row_bytes(row)
        if part and (len(part) == max_rows or part_bytes + size > max_bytes):
            yield part
            part, part_bytes = [], 0
        part.append(row)
        part_bytes += size
    if part:
        yield part
