"""Downloads: every row of an answer in bounded memory, a page at a time, each in its caller's turn.

A download that breaks is recognisable: its last chunk, or the rest of its length, is missing.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.question_bounds import QuestionBounds
from contracts.csv_text import csv_pieces
from contracts.errors import Unavailable
from warehouse.cursors import Page, PageRequest, all_pages

CSV_TYPE = "text/csv; charset=utf-8; header=present"
IN_MEMORY_BYTES = 8 * 1024 * 1024
"""Bytes of a spooled export in memory; the rest is in a temporary file."""
PIECE_BYTES = 256 * 1024

Rows = list[dict[str, Any]]


def paged_rows(
    read: Callable[[PageRequest], Page[Any]],
    first: Page[Any],
    page_request: PageRequest,
    flat: Callable[[Sequence[Any]], Rows],
) -> Iterator[Rows]:
    """Yield the rows of an export: the page that was asked for, or of a whole answer all pages."""
    pages = all_pages(read, first) if page_request.is_whole else iter([first.rows])
    return (flat(rows) for rows in pages)


def export(
    request: Request, pages: Iterator[Rows], columns: Sequence[str], headers: Mapping[str, str]
) -> StreamingResponse:
    """Respond with pages of rows as CSV, as they are read."""
    counts = [0]
    texts = (text.encode() for text in csv_pieces(_counted(pages, counts), columns))
    return StreamingResponse(_in_turns(request, texts, counts), media_type=CSV_TYPE, headers=dict(headers))


def spooled_export(
    request: Request, pages: Iterator[Rows], columns: Sequence[str], headers: Mapping[str, str]
) -> StreamingResponse:
    """Respond with pages of rows as CSV, after all were read (`spooled_file`)."""
    counts = [0]

    def write(file: BinaryIO) -> None:
        file.writelines(text.encode() for text in csv_pieces(_counted(pages, counts), columns))

    return spooled_file(request, write, CSV_TYPE, headers, counts)


def spooled_file(
    request: Request,
    write: Callable[[BinaryIO], None],
    media_type: str,
    headers: Mapping[str, str],
    counts: list[int],
) -> StreamingResponse:
    """Respond with a file, after all of it was written: its rows hold a reader, and a slow caller must not.

    `counts` has its rows, for the audit log. Raises what writing raises, so that a failure is a problem and no broken
    file.
    """
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 (closed when it was sent)
    try:
        write(file)  # type: ignore[arg-type]
    except BaseException as error:
        file.close()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise Unavailable("The folder of temporary files is full", "Free space there, or ask for less.") from error
        raise
    length = file.seek(0, os.SEEK_END)  # Writers of ZIP and XLSX go back in it.
    file.seek(0)
    texts = iter(lambda: file.read(PIECE_BYTES), b"")
    with_length = {**headers, "Content-Length": str(length)}
    return StreamingResponse(_in_turns(request, texts, counts, file.close), media_type=media_type, headers=with_length)


def named(name: str, *, is_shown: bool = False) -> dict[str, str]:
    """Return the header that names a download, in ASCII; one that `is_shown` opens in the browser."""
    return {"Content-Disposition": f'{"inline" if is_shown else "attachment"}; filename="{name}"'}


def _counted(pages: Iterator[Rows], counts: list[int]) -> Iterator[dict[str, Any]]:
    for row in chain.from_iterable(pages):
        counts[0] += 1
        yield row


async def _in_turns(
    request: Request, texts: Iterator[bytes], counts: list[int], close: Callable[[], None] = lambda: None
) -> AsyncIterator[bytes]:
    """Yield the texts of a download, each in its caller's turn; a caller who reads slowly holds none meanwhile."""
    bounds: QuestionBounds = request.app.state.questions
    record = partial(request.app.state.audit_log.record, request.state.caller.name, "export", request.url.path)
    outcome = "broken"
    try:
        await run_in_threadpool(record, "begun", query=request.url.query)
        async with bounds.download(request.state.asker) as in_turn:
            while True:
                async with in_turn():
                    text = await run_in_threadpool(next, texts, None)
                if text is None:
                    outcome = "done"
                    return
                yield text
    finally:
        close()
        record(outcome, query=request.url.query, rows=counts[0])
