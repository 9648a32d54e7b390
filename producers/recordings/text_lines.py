"""Text files by lines, bounded, in spite of BOMs, CRLF, UTF-16, quotes and units.

Each physical line is parsed on its own, so that a stray quote spoils one line and not the others.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from contracts.errors import BadInput
from producers.recordings.base import BadRow, bad_row
from producers.recordings.unpack import CutFileError, open_unpacked

MAX_LINE = 65_536
"""Characters in one line."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class CutLine(NamedTuple):
    """The last line of a file that does not end with a newline: it may be cut in the middle."""

    number: int
    text: str


def read_lines(path: Path) -> Iterator[tuple[int, str] | CutLine | BadRow]:
    """Yield (line number from 1, line without its end) of each line that is not blank.

    The file is UTF-8 with or without a BOM, or UTF-16, and may be compressed (`unpack`). Bytes that are no text become
    lone surrogates, which no name may hold. A line longer than MAX_LINE, and the place where a compressed file is cut,
    is a BadRow. Raises BadInput if the file cannot be opened.
    """
    number = 0
    try:
        with open_unpacked(path) as raw:
            encoding = _encoding(raw.peek(4)[:4])
            errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
            file = io.TextIOWrapper(raw, encoding=encoding, errors=errors)
            while line := file.readline(MAX_LINE):
                number += 1
                has_end = line.endswith("\n")
                if len(line) == MAX_LINE and not has_end:
                    while (continuation := file.readline(MAX_LINE)) and not continuation.endswith("\n"):
                        pass
                    yield bad_row(path, number, "", line, f"longer than {MAX_LINE} characters")
                elif line := line.strip():
                    yield (number, line) if has_end else CutLine(number, line)
    except CutFileError:
        yield bad_row(path, number + 1, "", "", "the compressed file is cut or damaged here; nothing behind is read")
    except OSError as error:
        raise BadInput(path.name, str(path), error.strerror or "cannot be read") from None


def _encoding(start: bytes) -> str:
    """Return the encoding of a file by its first bytes. UTF-16 without a BOM has a zero in each letter of a header."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if len(start) == 4 and start[1::2] == b"\0\0" and start[0] and start[2]:
        return "utf-16-le"
    if len(start) == 4 and start[::2] == b"\0\0" and start[1] and start[3]:
        return "utf-16-be"
    return "utf-8-sig"


def time_ms(text: str, zone_ms: int = 0) -> int:
    """Return a time as UTC epoch milliseconds, cut (not rounded) to the millisecond.

    A plain number is epoch seconds below 1e11 (the year 5138), epoch milliseconds below 1e14. Anything else is RFC
    3339 or ISO 8601, also with `/` between year, month and day, as nvidia-smi prints it. A time without a zone is
    local time in the zone that is `zone_ms` ahead of UTC. Raises ValueError that says what would be right.
    """
    if text.replace(".", "", 1).isdecimal() and text.isascii():
        number = float(text)
        if number >= 1e14:
            raise ValueError("too large: give epoch seconds, epoch milliseconds or RFC 3339")
        if number >= 1e11:
            return int(number)
        seconds, _, fraction = text.partition(".")
        return int(seconds or 0) * 1000 + int(fraction[:3].ljust(3, "0"))
    try:
        stamp = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise ValueError("not a time: give RFC 3339, epoch seconds or epoch milliseconds") from None
    local = stamp.tzinfo is None
    ms = ((stamp.replace(tzinfo=UTC) if local else stamp) - _EPOCH) // _MS - (zone_ms if local else 0)
    if ms < 0:
        raise ValueError("before 1970")
    return ms
