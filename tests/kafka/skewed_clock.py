"""`python -m tests.kafka.skewed_clock` is `wattlog produce nvml` whose clock, spool and memory a test decides.

CLOCK_SKEW names a JSON file. Each reading of the time adds its `step_ms` to the wall clock. `speed` (how fast time
goes), `behind_ms` (how long ago it begins), `spool_bytes` and `max_rows` are read once, at the start.
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

CONTROL = Path(os.environ["CLOCK_SKEW"])


def announce() -> dict[str, Any]:
    return dict(json.loads(CONTROL.read_text("utf-8")))


class SkewedClock(SystemClock):
    def __init__(self, stop: threading.Event) -> None:
        super().__init__(stop)
        control = announce()
        self._speed, self._behind_ms = control.get("speed", 1), control.get("behind_ms", 0)
        self._wall_ms, self._monotonic_ms = super().wall_ms(), super().monotonic_ms()

    def _passed_ms(self) -> int:
        return round((super().monotonic_ms() - self._monotonic_ms) * self._speed)

    def wall_ms(self) -> int:
        return self._wall_ms - self._behind_ms + self._passed_ms() + int(announce().get("step_ms", 0))

    def monotonic_ms(self) -> int:
        return self._monotonic_ms + self._passed_ms()

    def wait(self, seconds: float) -> bool:
        return super().wait(seconds / self._speed)


def main() -> None:
    control = announce()
    runner.SystemClock = SkewedClock  # type: ignore[misc]
    if "max_rows" in control:
        agent_runner.AgentConfig = partial(AgentConfig, max_rows=control["max_rows"])  # type: ignore[misc, assignment]
    if "spool_bytes" in control:
        outbox.Spool = lambda path, max_bytes: Spool(path, max_bytes=control["spool_bytes"])  # type: ignore
    runner.run("nvml", Settings(), runner.stop_on_signals())


if __name__ == "__main__":
    main()
