"""`python -m tests.kafka.skewed_clock` is `wattlog produce nvml` whose clock, spool and memory a test decides.

ODD_TIME names a JSON file, read whenever the time is asked for: `step_ms` is added to the wall clock. `speed` (how fast
time goes), `behind_ms` (how long ago it begins), `spool_bytes` and `max_rows` are taken from it at the start.
"""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

from contracts.settings import Settings
from producers.runtime import agent_runner, outbox, runner
from producers.runtime.agent import AgentConfig
from producers.runtime.clock import SystemClock
from producers.runtime.spool import Spool

CONTROL = Path(os.environ["ODD_TIME"])


def told() -> dict[str, Any]:
    return dict(json.loads(CONTROL.read_text("utf-8")))


class OddClock(SystemClock):
    def __init__(self, stop: threading.Event) -> None:
        super().__init__(stop)
        said = told()
        self._speed, self._behind_ms = said.get("speed", 1), said.get("behind_ms", 0)
        self._wall_ms, self._monotonic_ms = super().wall_ms(), super().monotonic_ms()

    def _passed_ms(self) -> int:
        return round((super().monotonic_ms() - self._monotonic_ms) * self._speed)

    def wall_ms(self) -> int:
        return self._wall_ms - self._behind_ms + self._passed_ms() + int(told().get("step_ms", 0))

    def monotonic_ms(self) -> int:
        return self._monotonic_ms + self._passed_ms()

    def wait(self, seconds: float) -> bool:
        return super().wait(seconds / self._speed)


def main() -> None:
    said = told()
    runner.SystemClock = OddClock  # type: ignore[misc]
    if "max_rows" in said:
        agent_runner.AgentConfig = partial(AgentConfig, max_rows=said["max_rows"])  # type: ignore[misc, assignment]
    if "spool_bytes" in said:
        outbox.Spool = lambda path, max_bytes: Spool(path, max_bytes=said["spool_bytes"])  # type: ignore
    runner.run("nvml", Settings(), runner.stop_on_signals())


if __name__ == "__main__":
    main()
