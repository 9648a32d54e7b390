"""LiteLLM callback that writes who used how many tokens to files: one line of JSON per request.

It runs in LiteLLM's own process. The file needs only Python and LiteLLM, so it can be copied beside LiteLLM's
config.yaml (producers/gateways/litellm/README.md). `wattlog produce litellm` reads what it writes.

A request is never delayed and never fails because of it: lines go to a bounded queue, and a separate thread writes
them. Requests that find no room are counted, and the count is written as soon as there is room. Of a payload only
`_FIELDS` are written, so no prompt and no answer reaches the disk.

Each process writes files of its own and starts a new one every few minutes. It never returns to an old file, so the
reader may delete it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

try:
    from litellm.integrations.custom_logger import CustomLogger  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # LiteLLM is not installed where only the tests or the reader run.
    CustomLogger = object

log = logging.getLogger("wattlog")

_FIELDS = (
    "id", "litellm_call_id", "trace_id", "session_id", "status", "custom_llm_provider", "response_cost", "cache_hit",
    "prompt_tokens", "completion_tokens", "startTime", "endTime", "completionStartTime", "model", "model_group",
    "api_base", "hidden_params.api_base", "error_information.error_class", "error_information.error_code",
    "metadata.user_api_key_team_id", "metadata.user_api_key_team_alias", "metadata.user_api_key_org_id",
    "metadata.user_api_key_org_alias", "metadata.user_api_key_project_id", "metadata.user_api_key_project_alias",
    "metadata.user_api_key_alias", "metadata.user_api_key_user_id", "metadata.session_id",
    "metadata.requester_metadata.session_id", "metadata.requester_metadata.step", "metadata.spend_logs_metadata.step",
    "metadata.requester_metadata.feature", "metadata.spend_logs_metadata.feature",
    "call_type", "stream", "total_tokens", "model_parameters.stream_options.include_usage",
    "hidden_params.litellm_model_name",
    *(f"{usage}.{name}" for usage in ("metadata.usage_object", "response.usage") for name in (
        "prompt_tokens", "completion_tokens", "total_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
        *(f"prompt_tokens_details.{kind}" for kind in ("cached_tokens", "audio_tokens", "image_tokens", "text_tokens")),
        *(f"completion_tokens_details.{kind}" for kind in (
            "reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens", "audio_tokens",
            "image_tokens")),
    )),
)  # fmt: skip
_NUMBERS = ("_tokens", "Time", "response_cost")
"""Ends of the names of numbers and times."""
_NUMBER = re.compile(r"[0-9.eETZ:+ -]{1,40}")
DROPPED = "wattlog_dropped"
"""The only field of a line that counts the requests which found no room before it."""
MAX_TEXT = 1_000
"""Characters that are written of a value."""
SEGMENT_BYTES = 16 * 2**20
_MAX_BLOCK_LINES = 1_000
_RETRY_S, _WAIT_S = 1.0, 0.2


def select_fields(payload: object, paths: Iterable[str] = _FIELDS) -> dict[str, Any]:
    """Return the texts, numbers and booleans at `paths` of a standard logging payload."""
    record: dict[str, Any] = {}
    for path in paths:
        names = path.split(".")
        value: Any = payload
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or not isinstance(value, (str, int, float, bool)):
            continue
        target = record
        for name in names[:-1]:
            target = target.setdefault(name, {})
        if isinstance(value, str):
            if names[-1].endswith(_NUMBERS) and not _NUMBER.fullmatch(value):
                continue  # No text stands where a number belongs.
            value = (without_secrets(value) if names[-1] == "api_base" else value)[:MAX_TEXT]
        target[names[-1]] = value
    return record


def without_secrets(address: str) -> str:
    """Return an address without its query, and without user and password. Some providers have a key there."""
    scheme, separator, tail = address.partition("?")[0].partition("#")[0].rpartition("://")
    host, slash, path = tail.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


class WattlogLogger(CustomLogger):  # type: ignore[misc, valid-type, unused-ignore]
    """Writes requests to `folder`, which holds at most `max_mb`. A file is written for at most `segment_s` seconds.

    `more` are additional paths of the payload to write, such as a tenant elsewhere in it. The attributes `written`
    and `dropped` count requests.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, max_mb: int = 256, max_queue: int = 10_000, segment_s: float = 300.0,
        more: Iterable[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.written = self.dropped = 0
        self._folder, self._max_bytes, self._segment_s = Path(folder), max_mb * 2**20, segment_s
        self._max_queue, self._paths = max_queue, (*_FIELDS, *more)
        self._reset()
        atexit.register(self.close)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._enqueue(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._enqueue(kwargs)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._enqueue(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._enqueue(kwargs)

    def close(self, within_s: float = 2.0) -> None:
        """Write the lines in the queue. Wait `within_s` seconds at most."""
        if self._thread is not None and self._process == os.getpid():
            self._stop.set()
            self._thread.join(within_s)

    def _enqueue(self, kwargs: Any) -> None:
        """Queue the line of a request. LiteLLM calls several hooks for one request: the reader recognises doubles by
        id and times.
        """
        try:
            payload = kwargs.get("standard_logging_object")
            if not isinstance(payload, dict):
                raise TypeError("LiteLLM gave no standard_logging_object")
            line = json.dumps(select_fields(payload, self._paths), separators=(",", ":"))
            if self._thread is None or self._process != os.getpid():
                self._start()
            self._queue.put_nowait(line.encode())
        except queue.Full:
            self._count_dropped(1)
        except Exception as error:  # No request may fail because of this callback.
            self._count_dropped(1)
            log.debug("a request was not written: %s", type(error).__name__)

    def _reset(self) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(self._max_queue)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._file: IO[bytes] | None = None
        self._opened_s, self._size, self._reported = 0.0, 0, 0

    def _start(self) -> None:
        """Start the thread of this process. A forked process does not inherit its parent's thread."""
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wattlog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        waiting: list[bytes] = []
        while not (self._stop.is_set() and not waiting and self._queue.empty()):
            waiting += self._take_lines(_MAX_BLOCK_LINES - len(waiting))
            try:
                if self._write(waiting):
                    waiting = []
            except OSError as error:
                log.error("wattlog: %s cannot be written: %s", self._folder, error)
                self._close_segment()
            if waiting and self._stop.wait(_RETRY_S):
                self._count_dropped(len(waiting))
                waiting = []
        self._close_segment()

    def _count_dropped(self, requests: int) -> None:
        with self._lock:
            self.dropped += requests

    def _take_lines(self, max_lines: int) -> list[bytes]:
        lines: list[bytes] = []
        try:
            while len(lines) < max_lines:
                lines.append(self._queue.get_nowait() if lines else self._queue.get(timeout=_WAIT_S))
        except queue.Empty:
            pass
        return lines

    def _write(self, lines: list[bytes]) -> bool:
        """Write lines and return True, or return False if the folder has no room. Raises OSError.

        Lines that are written again after an error are doubles, which the reader recognises.
        """
        if not lines:
            return True
        new = self.dropped - self._reported
        if new:
            lines = [*lines, json.dumps({DROPPED: new}).encode()]
        body = b"".join(line + b"\n" for line in lines)
        if self._folder_bytes() + len(body) > self._max_bytes:
            return False
        file = self._open_segment()
        if file.write(body) != len(body):
            raise OSError("only a part of the lines was written")
        self._size += len(body)
        self.written += len(lines) - bool(new)
        self._reported += new
        return True

    def _folder_bytes(self) -> int:
        """Return the bytes of all files in the folder."""
        size = 0
        for path in self._folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):  # The reader has just deleted the file.
                size += path.stat().st_size
        return size

    def _open_segment(self) -> IO[bytes]:
        now_s = time.monotonic()
        if self._file is not None and (now_s - self._opened_s > self._segment_s or self._size > SEGMENT_BYTES):
            self._close_segment()
        if self._file is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{time.time_ns() // 1_000_000}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
            self._opened_s, self._size = now_s, 0
        return self._file

    def _close_segment(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
