"""File of API keys: read by the API and the receivers, written by `wattlog key`.

A write holds a lock and replaces the file whole, so that a reader sees the old contents or the new. A reader looks at
the file at most once a second, and keeps the last good keys where the file is gone or broken.
"""

from __future__ import annotations

import fcntl
import hmac
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from access.api_keys import ApiKey, decode_keys, digest_of, encode_keys, is_key_text
from contracts.callers import Caller
from contracts.errors import AccessDenied, BadInput, BadSetting

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 8 * 2**20
LOOK_S = 1.0
"""Least time between two looks at the file."""


class KeysFile:
    """Keys of a file, as they are now.

    A file that is not there yet has no keys. Raises BadSetting for one that cannot be used.
    """

    def __init__(
        self, path: Path, now_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._now_s, self._monotonic_s = path, now_s, monotonic_s
        self._lock = threading.Lock()
        self._keys: dict[str, ApiKey] = {}
        self._problem = ""
        self._version = _version(path)
        self._next_look_s = monotonic_s() + LOOK_S
        if self._version is None:
            log.warning("keys_file: %s: it is not there yet; `wattlog key create` makes it", path)
            return
        try:
            self._keys = {key.digest: key for key in read_keys(path)}
        except BadInput as error:
            raise BadSetting("keys_file", str(path), str(error)) from None

    def caller(self, text: str) -> Caller:
        """Return the caller that a key names. Raises AccessDenied (401) for one that is not valid now."""
        if not is_key_text(text):
            raise AccessDenied(401, "This is no API key: was it copied whole?")
        digest = digest_of(text)
        key = self._current().get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise AccessDenied(401, "This API key is unknown.")
        state = key.state(round(self._now_s() * 1000))
        if state != "valid":
            raise AccessDenied(401, f"This API key is {state}: ask for a new one.")
        return key.caller

    def _current(self) -> dict[str, ApiKey]:
        """Return the keys by digest, read again where the file has changed."""
        with self._lock:
            if self._monotonic_s() >= self._next_look_s:
                self._next_look_s = self._monotonic_s() + LOOK_S
                self._refresh()
            return self._keys

    def _refresh(self) -> None:
        version = _version(self._path)
        if version == self._version and not (version is None and self._keys):
            return
        try:
            if version is None:
                raise BadInput("keys_file", str(self._path), "it is gone")
            self._keys = {key.digest: key for key in read_keys(self._path)}
            self._problem = ""
        except BadInput as error:
            if str(error) != self._problem:
                log.error("the keys read before stay valid: %s", error)
            self._problem = str(error)
        self._version = version


def read_keys(path: Path) -> list[ApiKey]:
    """Return the keys of a file. Raises BadInput where it cannot be read, is broken, or others may write it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            contents = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput("keys_file", str(path), f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode) or len(contents) > MAX_FILE_BYTES:
        raise BadInput("keys_file", str(path), f"give a file of at most {MAX_FILE_BYTES} bytes")
    if status.st_mode & 0o022:
        raise BadInput("keys_file", str(path), "others may write it: chmod 600")
    return decode_keys(contents)


@contextmanager
def changing_keys(path: Path) -> Iterator[tuple[list[ApiKey], Callable[[Sequence[ApiKey]], None]]]:
    """Yield the keys of a file, which no other process changes in the block, and the function that replaces them.

    Raises BadInput for a file that is broken or cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInput("keys_file", str(path), f"cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield read_keys(path) if path.exists() else [], lambda keys: _replace(path, encode_keys(keys))
    finally:
        os.close(descriptor)


def _replace(path: Path, contents: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise BadInput("keys_file", str(path), f"cannot be written: {error.strerror}") from None


def _version(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file's contents, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
