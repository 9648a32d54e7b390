"""Child processes for tests with several workers: started, read line by line, killed, and never left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.paths import ROOT
from tests.support.waiting import HANG_S

Line = dict[str, Any]


class Worker:
    """`python -m MODULE ARGS...` as a child, in the project's root, with `env` added to this process's environment.

    Its stdout is in `lines`: JSON objects as they are, other text as `{"text": ...}`. Its stderr is in `error_text()`.
    """

    def __init__(
        self, folder: Path, name: str, module: str, args: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._errors = folder / f"{name}.stderr"
        self._fresh: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"reads {name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def until(self, true: Callable[[list[Line]], bool], goal: str) -> None:
        """Read lines until `true(lines)`. Fails, with the worker's stderr, when it ends or hangs."""
        while not true(self.lines):
            try:
                line = self._fresh.get(timeout=HANG_S)
            except queue.Empty:
                text = (
                    f"{self.name}: not {goal}, and silent for {HANG_S:g} s; said {self.lines[-5:]}\n{self.error_text()}"
                )
                raise AssertionError(text) from None
            if line is None:
                raise AssertionError(f"{self.name} ended before it was {goal}\n{self.error_text()}")
            self.lines.append(line)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def pause(self) -> None:
        """SIGSTOP: the process exists and does nothing, as on a machine that swaps or whose disk hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: the process continues, unaware of the time that has passed."""
        self._process.send_signal(signal.SIGCONT)

    def ended(self) -> int:
        """Wait until the process ends; return its exit status."""
        try:
            return self._process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {HANG_S:g} s\n{self.error_text()}") from None

    def catch_up(self) -> None:
        """Read the lines printed so far, without waiting."""
        while not self._fresh.empty():
            line = self._fresh.get()
            if line is not None:
                self.lines.append(line)

    def kill(self) -> None:
        """SIGKILL, as when a machine fails."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def terminate(self) -> int:
        """SIGTERM; the exit status. Fails when the worker does not end in time."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end {HANG_S:g} s after SIGTERM\n{self.error_text()}") from None
        self._reader.join()
        self.catch_up()
        return status

    def error_text(self, lines: int = 30) -> str:
        """The last lines of the worker's stderr."""
        return "\n".join(self._errors.read_text(errors="replace").splitlines()[-lines:])

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as out:
            for text in out:
                self._fresh.put(_line(text))
        self._fresh.put(None)


def _line(text: str) -> Line:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"text": text.rstrip("\n")}
