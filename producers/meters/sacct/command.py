"""Output of `sacct`: of the command, within bounds of time and size, or of a file in which it was saved."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

from contracts.errors import Unavailable
from producers.meters.sacct.job_records import FIELDS

MAX_BYTES = 64 * 2**20
ENVIRONMENT = {"TZ": "UTC", "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
OPTIONS = ("--allusers", "--duplicates", "--parsable2", "--noheader", "--format=" + ",".join(FIELDS))
"""`--duplicates` shows the earlier runs of requeued jobs."""
_HINT = "Give a smaller look_back_h."


def run_sacct(command: Sequence[str], since_s: int, timeout_s: float, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the accounting of the runs that ended after a time, or have not ended.

    Raises Unavailable where the command is missing, fails, takes longer than `timeout_s` or prints more than
    `max_bytes`: then it is ended, with what it started.
    """
    since = datetime.fromtimestamp(since_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    arguments = [*command, *OPTIONS, f"--starttime={since}", "--endtime=now"]
    name = arguments[0]
    with TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                env=os.environ | ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"{name} cannot be run: {error.strerror}", "Give its path in `command`.") from None
        try:
            content, status = _output(process, time.monotonic() + timeout_s, max_bytes)
        except TimeoutError:
            raise Unavailable(f"{name} did not end within {timeout_s:g} s", _HINT, reason="timeout") from None
        finally:
            _end(process)
        if len(content) > max_bytes:
            raise Unavailable(f"{name} prints more than {max_bytes:,} bytes", _HINT)
        if status:
            errors.seek(0)
            message = " ".join(errors.read(2_000).decode("utf-8", "replace").split())[:200]
            raise Unavailable(f"{name} ends with status {status}: {message}", "Try it as the producer's user.")
    return content


def _output(process: subprocess.Popen[bytes], end_s: float, max_bytes: int) -> tuple[bytes, int]:
    """Return what a command prints, and its status; 0 where it prints too much. Raises TimeoutError."""
    assert process.stdout
    content = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(content) <= max_bytes:
            if not selector.select(max(end_s - time.monotonic(), 0)):
                raise TimeoutError
            chunk = os.read(process.stdout.fileno(), 1 << 20)
            if not chunk:
                break
            content += chunk
        else:
            return bytes(content), 0
    try:
        return bytes(content), process.wait(max(end_s - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that was not waited for, with what it started: they have a session of their own."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()


def read_saved(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a file. Raises Unavailable where it cannot be read or has more than `max_bytes`."""
    try:
        if not path.is_file():
            raise Unavailable(f"{path} is no file", "Save the output of sacct there.")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}", "May the producer's user read it?") from None
    if len(content) > max_bytes:
        raise Unavailable(f"{path} has more than {max_bytes:,} bytes", "Save a shorter time.")
    return content
