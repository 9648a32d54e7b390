"""Readings to intervals, by the rules of `producers.gpu.meter`, as an agent on a node would make them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median_low

from contracts.events import Method
from contracts.units import UJ_PER_MJ
from producers.gpu import meter, meter_state, readings
from producers.gpu.evidence import OF_MODULE
from producers.gpu.plausibility import MAX_WATTS
from producers.recordings.base import BadRow, PowerRow, bad_row, key_ms
from producers.recordings.csv.devices import Device
from producers.recordings.csv.readings import PowerReading

_STEPS = 9
"""Steps between readings of which the median is the usual one."""
_HOLES_PER_STEP = 3
_SECTION_HOLE = 2
"""Usual steps beyond which readings have a hole: in general, and where another run of the tool began."""


@dataclass(slots=True)
class ReadingAnomalies:
    """Faults of a file's readings, counted. Times in milliseconds, energy in microjoules."""

    gaps: int = 0
    resets: int = 0
    holes: int = 0
    holes_ms: int = 0
    estimated_uj: int = 0
    estimated_ms: int = 0
    open_counters: set[str] = field(default_factory=set)
    """GPUs whose counter stood while watts were drawn."""
    differing: set[str] = field(default_factory=set)
    """GPUs whose counter and watts differed."""
    lone_readings: int = 0
    """GPUs with one reading, which makes no interval."""


@dataclass(slots=True)
class _DeviceMeter:
    """The meter of one device, and what the next row of it is compared with."""

    state: meter_state.MeterState | None
    first: PowerReading
    """First reading of the open stretch: the workload that it names occupied the GPU until the next reading."""
    last: PowerReading
    reading: readings.GpuReading
    steps: deque[int] = field(default_factory=lambda: deque(maxlen=_STEPS))
    end_ms: int = 0
    """End of the last interval of a file whose rows have durations."""

    def open_limit_ms(self, reading: PowerReading, max_gap_ms: int) -> int:
        """Return how long a counter may stand while watts are read: as for an agent with the usual step."""
        limit_ms = max(meter.MAX_GAP_MS, meter.PERIODS_PER_GAP * median_low(self.steps)) if self.steps else max_gap_ms
        return limit_ms if reading.watts is not None and reading.key_ms - self.last.key_ms <= limit_ms else max_gap_ms

    def has_hole(self, reading: PowerReading) -> bool:
        """Return True if nothing was read for longer than usual before a reading."""
        step_ms = reading.key_ms - self.last.key_ms
        usual_ms = median_low(self.steps) if self.steps else 0
        if reading.section != self.last.section:
            return step_ms > _SECTION_HOLE * usual_ms
        return bool(usual_ms) and step_ms > max(meter.MAX_GAP_MS, _HOLES_PER_STEP * usual_ms)


def power_rows(
    path: Path, placed: Iterable[tuple[PowerReading, Device, bool] | BadRow], max_gap_ms: int,
    anomalies: ReadingAnomalies,
) -> Iterator[PowerRow | BadRow]:  # fmt: skip
    """Yield the intervals between readings, GPU by GPU. Readings come in order, each with its device and True if the
    module's watts are its.

    An interval over a hole is ESTIMATED: nothing was read there, and the tool may not have run.
    """
    meters: dict[Device, _DeviceMeter] = {}
    for item in placed:
        if isinstance(item, BadRow):
            yield item
            continue
        reading, device, is_module = item
        gpu = meters.get(device)
        if reading.duration_ms:
            yield from _own_interval(path, meters, device, reading, is_module)
            continue
        if gpu is not None and reading.key_ms <= gpu.last.key_ms:
            again = "the same reading again" if reading.value == gpu.last.value else "not after the reading before it"
            yield bad_row(path, reading.line, "time", str(reading.key_ms), f"{again} of this GPU")
            continue
        gpu_reading = _gpu_reading(reading, device, is_module)
        limit_ms = min(max_gap_ms, gpu.open_limit_ms(reading, max_gap_ms)) if gpu else max_gap_ms
        result = meter.add_reading(gpu.state if gpu else None, gpu_reading, max_gap_ms=limit_ms)
        if gpu is None:
            meters[device] = _DeviceMeter(result.state, reading, reading, gpu_reading)
            continue
        intervals = _with_holes(gpu, reading, result.intervals, anomalies)
        if gpu.state and gpu.state.stands_to and any(i.method is Method.ESTIMATED for i in intervals):
            anomalies.open_counters.add(device[1])
        anomalies.gaps += result.gaps
        anomalies.resets += result.resets
        if result.differences:
            anomalies.differing.add(device[1])
        gpu.steps.append(reading.key_ms - gpu.last.key_ms)
        yield from _rows(gpu.first, device, intervals, anomalies)
        gpu.state, gpu.last, gpu.reading = result.state, reading, gpu_reading
        if intervals or result.gaps:
            gpu.first = reading
    yield from _open_rows(meters, anomalies)


def _open_rows(meters: dict[Device, _DeviceMeter], anomalies: ReadingAnomalies) -> Iterator[PowerRow]:
    """Yield what the meters still hold: the watts of a counter that stood or was silent up to the end."""
    for device, gpu in meters.items():
        if gpu.state is None:
            continue
        result = meter.send_open(gpu.state, gpu.reading, max_gap_ms=0)
        anomalies.gaps += result.gaps
        if gpu.state.stands_to and result.intervals:
            anomalies.open_counters.add(device[1])
        anomalies.lone_readings += not gpu.steps
        yield from _rows(gpu.first, device, result.intervals, anomalies)


def _with_holes(
    gpu: _DeviceMeter, reading: PowerReading, intervals: tuple[readings.EnergyInterval, ...],
    anomalies: ReadingAnomalies,
) -> tuple[readings.EnergyInterval, ...]:  # fmt: skip
    """Return the intervals up to a reading, ESTIMATED where they bridge a hole.

    The difference of a counter is that of the hole, unless another run of the tool began: it may be another counter.
    """
    if not intervals or not gpu.has_hole(reading):
        return intervals
    if reading.counter_uj is not None and reading.section == gpu.last.section:
        return intervals
    anomalies.holes += 1
    anomalies.holes_ms += reading.key_ms - gpu.last.key_ms
    return tuple(
        replace(i, method=Method.ESTIMATED) if i.method in (Method.COUNTER, Method.INTEGRATED) else i for i in intervals
    )


def _gpu_reading(reading: PowerReading, device: Device, is_module: bool) -> readings.GpuReading:
    counter_uj = reading.counter_uj
    return readings.GpuReading(
        gpu_uuid=device[1],
        hardware=reading.hardware + OF_MODULE if is_module else reading.hardware,
        t_ms=reading.key_ms,
        monotonic_ms=reading.key_ms,
        counter_mj=None if counter_uj is None else round(counter_uj / UJ_PER_MJ),
        watts=reading.module_watts if is_module else reading.watts,
        utilisation=reading.utilisation,
    )


def _own_interval(
    path: Path, meters: dict[Device, _DeviceMeter], device: Device, reading: PowerReading, is_module: bool
) -> Iterator[PowerRow | BadRow]:
    """Yield the interval of a row that has a duration: from its time on, its energy, or its watts throughout."""
    gpu_reading = _gpu_reading(reading, device, is_module)
    gpu = meters.setdefault(device, _DeviceMeter(None, reading, reading, gpu_reading))
    if reading.key_ms < gpu.end_ms:
        yield bad_row(path, reading.line, "time", str(reading.key_ms), "before the end of this GPU's row before it")
        return
    ms = reading.duration_ms
    energy_uj = reading.counter_uj
    if energy_uj is None:
        energy_uj = round(round((gpu_reading.watts or 0.0) * 1000) * ms)  # mW x ms = uJ
    if energy_uj > MAX_WATTS * 1000 * ms:
        reason = f"more than {MAX_WATTS} W; is the energy a counter? Then leave the duration out"
        yield bad_row(path, reading.line, "duration", str(ms), reason)
        return
    gpu.end_ms = reading.key_ms + ms
    busy_ms = -1 if reading.utilisation is None else round(reading.utilisation * ms)
    interval = readings.EnergyInterval(
        gpu_uuid=device[1], hardware=gpu_reading.hardware, t0_ms=reading.key_ms, t1_ms=gpu.end_ms,
        energy_uj=energy_uj, method=Method.INTEGRATED, busy_ms=busy_ms,
    )  # fmt: skip
    yield from _rows(reading, device, readings.split_interval(interval), ReadingAnomalies())


def _rows(
    first: PowerReading, device: Device, intervals: Iterable[readings.EnergyInterval], anomalies: ReadingAnomalies
) -> Iterator[PowerRow]:
    """Yield intervals as rows of the workload that the first reading of their stretch names."""
    cluster, workload = first.group
    for i in intervals:
        if i.method is Method.ESTIMATED:
            anomalies.estimated_uj += i.energy_uj
            anomalies.estimated_ms += i.t1_ms - i.t0_ms
        yield PowerRow(
            key_ms=key_ms(i.t0_ms, i.t1_ms), cluster=cluster, workload=workload, node=device[0],
            gpu_uuid=i.gpu_uuid, hardware=i.hardware, t0_ms=i.t0_ms, t1_ms=i.t1_ms, energy_uj=i.energy_uj,
            method=i.method, busy_ms=i.busy_ms, owner=first.owner,
        )  # fmt: skip
