"""Files as bytes, unpacked: plain, gzip, Zstandard, bzip2 or xz, by their first bytes and not by their names.

An unpacked file is streamed and bounded by MAX_UNPACKED bytes: a small file may unpack to any size.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from contracts.errors import BadInput, Unavailable

MAX_UNPACKED = 32 * 2**30
"""Bytes of one compressed file when unpacked: a year of 8 GPUs at 1 Hz has about 20 GiB."""
SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
_CUT = (EOFError, OSError, lzma.LZMAError)
"""What the libraries raise where a compressed file is cut or damaged."""


class CutFileError(Exception):
    """A compressed file ends too early or is damaged. What was read before is good."""


def open_unpacked(path: Path) -> io.BufferedReader:
    """Open a file for reading its unpacked bytes. Its reads raise CutFileError, and BadInput beyond MAX_UNPACKED."""
    raw = path.open("rb")
    magic = raw.peek(6)[:6]
    for start, unpack in _FORMATS:
        if magic.startswith(start):
            return io.BufferedReader(_Bounded(path, unpack(raw), raw))
    return raw


def stem(path: Path) -> str:
    """Return a file's name without the suffix of its format, and of its compression."""
    return Path(path.stem).stem if path.suffix.lower() in SUFFIXES else path.stem


def _zstandard(raw: IO[bytes]) -> Any:
    try:
        import pyarrow  # Replays belong to the extra `server`, which has it.
    except ImportError:
        raise Unavailable("a .zst file needs pyarrow to be read", "Or unpack it first: zstd -d FILE") from None
    return pyarrow.CompressedInputStream(raw, "zstd")


_FORMATS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"\x28\xb5\x2f\xfd", _zstandard),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a file, up to MAX_UNPACKED."""

    def __init__(self, path: Path, unpacked: IO[bytes], raw: IO[bytes]) -> None:
        self._path, self._unpacked, self._raw = path, unpacked, raw
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._unpacked.read(len(buffer))
        except _CUT as error:
            raise CutFileError(str(error)) from None
        self._bytes += len(chunk)
        if self._bytes > MAX_UNPACKED:
            raise BadInput("file", self._path.name, f"unpacks to more than {MAX_UNPACKED} bytes; split it")
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._raw.close()
        super().close()
