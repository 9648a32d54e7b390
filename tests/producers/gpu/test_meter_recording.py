"""Real watts of an A100 under a varying load (nvidia-smi, 13 ms a reading): how the sampling rate changes joules."""

from __future__ import annotations

import csv
from bisect import bisect_right
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producers.gpu.meter import add_reading
from producers.gpu.meter_state import MeterState
from producers.gpu.readings import GpuReading

GRAIN_MS = 100
"""Update period of NVML's counter."""


class Recording:
    """Watts over time, and the counter of a GPU that drew them."""

    def __init__(self, path: Path) -> None:
        self.ms: list[int] = []
        self.watts: list[float] = []
        with path.open(encoding="utf-8") as text:
            for row in csv.DictReader(text, skipinitialspace=True):
                at = datetime.strptime(row["timestamp"], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC)
                self.ms.append(round(at.timestamp() * 1000))
                self.watts.append(float(row["power.draw.instant [W]"]))
        self.mj = [0.0]
        for n in range(1, len(self.ms)):
            mean_w = (self.watts[n - 1] + self.watts[n]) / 2
            self.mj.append(self.mj[-1] + mean_w * (self.ms[n] - self.ms[n - 1]))

    def reading(self, t_ms: int, *, counter: bool) -> GpuReading:
        """An agent's reading at a moment."""
        n = bisect_right(self.ms, t_ms) - 1
        moved = bisect_right(self.ms, self.ms[0] + (t_ms - self.ms[0]) // GRAIN_MS * GRAIN_MS) - 1
        return GpuReading("GPU-a", "A100", t_ms, t_ms, round(self.mj[moved]) + 1 if counter else None, self.watts[n])

    def metered_uj(self, every_ms: int, phase_ms: int, *, counter: bool) -> int:
        """Sum of the intervals of an agent that samples at this rate, from the first second to the last."""
        state: MeterState | None = None
        total = 0
        for t_ms in range(self.ms[0] + phase_ms, self.ms[-1], every_ms):
            took = add_reading(state, self.reading(t_ms, counter=counter))
            state = took.state
            total += sum(interval.energy_uj for interval in took.intervals)
        return total

    def true_uj(self, every_ms: int, phase_ms: int) -> float:
        """Energy of the same stretch."""
        times = range(self.ms[0] + phase_ms, self.ms[-1], every_ms)
        ends = [bisect_right(self.ms, t_ms) - 1 for t_ms in (times[0], times[-1])]
        return (self.mj[ends[1]] - self.mj[ends[0]]) * 1000


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> Recording:
    return Recording(shared_data / "power" / "nvidia_smi_A100_transient.csv")


def errors(recording: Recording, every_ms: int, *, counter: bool) -> list[float]:
    """Relative errors, by the time of the first sample."""
    phases = range(0, every_ms, max(every_ms // 10, 1))
    return [
        recording.metered_uj(every_ms, phase_ms, counter=counter) / recording.true_uj(every_ms, phase_ms) - 1
        for phase_ms in phases
    ]


@pytest.mark.parametrize("every_ms", [100, 1_000, 5_000])
def test_the_sampling_rate_hardly_matters_with_a_counter(recording: Recording, every_ms: int) -> None:
    """The remaining error is the counter's own resolution, at both ends."""
    assert max(map(abs, errors(recording, every_ms, counter=True))) < 0.01


def test_watts_without_a_counter_are_as_good_as_their_sampling_rate(recording: Recording) -> None:
    """Ten times a second follows the load; once in five seconds may miss it, or take it for the whole time."""
    assert max(map(abs, errors(recording, 100, counter=False))) < 0.01
    assert max(map(abs, errors(recording, 5_000, counter=False))) > 0.1
