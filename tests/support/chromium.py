"""Chromium that a test tells what to do, over its debugging pipe: one page, expressions in it, and its downloads."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import HANG_S, wait_until


class Tab:
    """A tab of a running browser."""

    def __init__(self, commands: int, answers: int, downloads: Path) -> None:
        self._commands, self._answers = commands, answers
        self._pending, self._id, self._session = b"", 0, ""
        self.downloads = downloads
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def go(self, address: str) -> None:
        """Open an address."""
        self._call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression in the page is true."""
        wait_until(lambda: self.evaluate(expression) is True, expression)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            while b"\0" in self._pending:
                text, _, self._pending = self._pending.partition(b"\0")
                answer = json.loads(text)
                if answer.get("id") == self._id:
                    assert "error" not in answer, answer
                    return answer["result"]  # type: ignore[no-any-return]
            self._pending += os.read(self._answers, 65_536)
        raise AssertionError(f"chromium did not answer {method}")


@contextmanager
def browser(chromium: str, flags: list[str], folder: Path) -> Iterator[Tab]:
    """Run a browser with a profile and downloads of its own in `folder`; yields its tab."""
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    their_input, commands = os.pipe()
    answers, their_output = os.pipe()
    # Chromium reads file 3 and writes file 4.
    shell = f'exec 3<&{their_input} 4>&{their_output}; exec "$@"'
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            shell,
            "-",
            chromium,
            *flags,
            "--remote-debugging-pipe",
            f"--user-data-dir={folder / 'profile'}",
        ],
        pass_fds=(their_input, their_output),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_input)
    os.close(their_output)
    try:
        yield Tab(commands, answers, downloads)
    finally:
        os.close(commands)
        os.close(answers)
        process.terminate()
        process.wait(HANG_S)
