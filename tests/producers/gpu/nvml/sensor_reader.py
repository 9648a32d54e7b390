"""Run the real adapter on the real pynvml in a process of its own, whose library path has the stand-in.

Reads JSON from stdin: the control file's contents at each step, and the monotonic time of it. Prints JSON: the readings
of each step and the lost GPUs, or the error that kept the adapter from starting.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from contracts.errors import Unavailable
from producers.gpu.nvml.sensor import NvmlSensor
from tests.support.clocks import FakeClock


def main() -> None:
    control, steps = Path(os.environ["FAKE_NVML"]), json.load(sys.stdin)
    control.write_text(steps[0]["gpus"])
    try:
        nvml = NvmlSensor()
    except Unavailable as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    seen = []
    for step in steps:
        control.write_text(step["gpus"])
        seen.append([asdict(r) for r in nvml.readings(FakeClock(now_ms=step["ms"]))])
    measured = {uuid: (how.evidence, how.scope, how.mig) for uuid, how in nvml.measured.items()}
    print(
        json.dumps(
            {"readings": seen, "lost": nvml.lost, "trials": nvml.trials, "gpus": nvml.gpus, "measured": measured}
        )
    )
    nvml.close()


if __name__ == "__main__":
    main()
