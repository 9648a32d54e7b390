"""For LiteLLM's own process: a callback that writes down who used how many tokens, one line of JSON a request.

This file needs nothing but Python and LiteLLM, so that it can be copied beside LiteLLM's config.yaml (docs/producers/
litellm.md). `wattlog produce litellm` reads what it writes.

It never holds a request up and never fails one: lines go to a bounded queue, and a thread of its own writes them. What
finds no room is counted, and the count written down as soon as there is room. Of a payload only `_KEPT` is written, so
no prompt and no answer gets to the disk.

Each process writes files of its own, a new one every few minutes, and never to one again that it has left: so whoever
reads them may delete them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

try:
    from litellm.integrations.custom_logger import CustomLogger
except ImportError:  # Its tests, and whoever only looks at it.
    CustomLogger = object

log = logging.getLogger("wattlog")

_KEPT = (
    "id", "litellm_call_id", "trace_id", "session_id", "status", "custom_llm_provider", "response_cost", "cache_hit",
    "prompt_tokens", "completion_tokens", "startTime", "endTime", "completionStartTime", "model", "model_group",
    "api_base", "hidden_params.api_base", "error_information.error_class", "error_information.error_code",
    "metadata.user_api_key_team_id", "metadata.user_api_key_team_alias", "metadata.user_api_key_org_id",
    "metadata.user_api_key_org_alias", "metadata.user_api_key_project_id", "metadata.user_api_key_project_alias",
    "metadata.user_api_key_alias", "metadata.user_api_key_user_id", "metadata.session_id",
    "metadata.requester_metadata.session_id", "metadata.requester_metadata.step", "metadata.spend_logs_metadata.step",
    "metadata.usage_object.prompt_tokens_details.cached_tokens", "metadata.usage_object.cache_read_input_tokens",
    "response.usage.prompt_tokens_details.cached_tokens", "response.usage.cache_read_input_tokens",
)  # fmt: skip
DROPPED = "wattlog_dropped"
"""The one field of a line that says how many requests found no room before it."""
MAX_TEXT = 1_000
"""Characters of a value that are written."""
SEGMENT_BYTES = 16 * 2**20
_TOGETHER = 1_000
_RETRY_S, _WAIT_S = 1.0, 0.2


def kept(payload: object, paths: Iterable[str] = _KEPT) -> dict[str, Any]:
    """Of a standard logging payload what is written down: texts, numbers and truth values at these paths."""
    found: dict[str, Any] = {}
    for path in paths:
        names = path.split(".")
        value: Any = payload
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or not isinstance(value, (str, int, float, bool)):
            continue
        at = found
        for name in names[:-1]:
            at = at.setdefault(name, {})
        if isinstance(value, str):
            value = (without_secrets(value) if names[-1] == "api_base" else value)[:MAX_TEXT]
        at[names[-1]] = value
    return found


def without_secrets(address: str) -> str:
    """An address without what some providers' have in them: a key in the query, a password before the host."""
    scheme, mark, rest = address.partition("?")[0].partition("#")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


class WattlogLogger(CustomLogger):  # type: ignore[misc, valid-type, unused-ignore]
    """See the module. `folder` holds at most `max_mb`; a file is written to for at most `segment_s` seconds. `more` are
    further paths of a payload that are written (a tenant that stands elsewhere). `written` and `dropped` count."""

    def __init__(
        self, folder: str | os.PathLike[str], *, max_mb: int = 256, max_queue: int = 10_000, segment_s: float = 300.0,
        more: Iterable[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.written = self.dropped = 0
        self._folder, self._max_bytes, self._segment_s = Path(folder), max_mb * 2**20, segment_s
        self._max_queue, self._paths = max_queue, (*_KEPT, *more)
        self._begin()
        atexit.register(self.close)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._note(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._note(kwargs)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._note(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._note(kwargs)

    def close(self, within_s: float = 2.0) -> None:
        """Write what waits, for so many seconds."""
        if self._thread is not None and self._process == os.getpid():
            self._stop.set()
            self._thread.join(within_s)

    def _note(self, kwargs: Any) -> None:
        """LiteLLM calls some of the above twice for one request: the reader knows a double by its id and times."""
        try:
            payload = kwargs.get("standard_logging_object")
            if not isinstance(payload, dict):
                raise TypeError("LiteLLM gave no standard_logging_object")
            line = json.dumps(kept(payload, self._paths), separators=(",", ":"))
            if self._thread is None or self._process != os.getpid():
                self._start()
            self._queue.put_nowait(line.encode())
        except queue.Full:
            self._drop(1)
        except Exception as error:  # Whatever it is, no request may fail of it.
            self._drop(1)
            log.debug("a request was not written down: %s", type(error).__name__)

    def _begin(self) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(self._max_queue)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._file: IO[bytes] | None = None
        self._opened_s, self._size, self._told = 0.0, 0, 0

    def _start(self) -> None:
        """In this process: a fork has no thread of its parent's."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wattlog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        waiting: list[bytes] = []
        while not (self._stop.is_set() and not waiting and self._queue.empty()):
            waiting += self._take(_TOGETHER - len(waiting))
            try:
                if self._write(waiting):
                    waiting = []
            except OSError as error:
                log.error("wattlog: %s cannot be written: %s", self._folder, error)
                self._leave()
            if waiting and self._stop.wait(_RETRY_S):
                self._drop(len(waiting))
                waiting = []
        self._leave()

    def _drop(self, requests: int) -> None:
        with self._lock:
            self.dropped += requests

    def _take(self, most: int) -> list[bytes]:
        found: list[bytes] = []
        try:
            while len(found) < most:
                found.append(self._queue.get_nowait() if found else self._queue.get(timeout=_WAIT_S))
        except queue.Empty:
            pass
        return found

    def _write(self, lines: list[bytes]) -> bool:
        """Whether there was room. Raises OSError; what is then written again is a double, which its reader knows."""
        if not lines:
            return True
        new = self.dropped - self._told
        if new:
            lines = [*lines, json.dumps({DROPPED: new}).encode()]
        body = b"".join(line + b"\n" for line in lines)
        if self._there() + len(body) > self._max_bytes:
            return False
        file = self._segment()
        if file.write(body) != len(body):
            raise OSError("only part of it was written")
        self._size += len(body)
        self.written += len(lines) - bool(new)
        self._told += new
        return True

    def _there(self) -> int:
        """Bytes in the folder."""
        size = 0
        for path in self._folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):  # Its reader has just deleted it.
                size += path.stat().st_size
        return size

    def _segment(self) -> IO[bytes]:
        now_s = time.monotonic()
        if self._file is not None and (now_s - self._opened_s > self._segment_s or self._size > SEGMENT_BYTES):
            self._leave()
        if self._file is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{time.time_ns() // 1_000_000}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
            self._opened_s, self._size = now_s, 0
        return self._file

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
