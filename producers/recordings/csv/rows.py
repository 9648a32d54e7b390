"""Rows of the user's CSV files: cells to requests and intervals, and reports of what cannot be read.

Power readings become intervals by the rules of `producers.gpu.meter`, as an agent on a node would make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TOKENS
from producers.gpu import meter, meter_state, readings
from producers.recordings.base import BadRow, PowerRow, TokenRow, bad_row, key_ms, reorder
from producers.recordings.batches import Group
from producers.recordings.text_lines import NO_VALUE, BadCell, CsvLine, CsvTable, read_rows
from producers.recordings.trapezoid import microwatts

POWER_COLUMNS = {
    "time": ("time", "timestamp"),
    "gpu": ("gpu", "gpu_uuid", "uuid", "index"),
    "energy_mj": ("energy_mj",),
    "energy_j": ("energy_j",),
    "power_w": ("power_w", "power.draw", "power.draw.average", "power.draw.instant"),
    "hardware": ("hardware", "name", "gpu_name"),
    "utilization": ("utilization", "utilization.gpu"),
    "node": ("node", "hostname"),
    "workload": ("workload",),
    "cluster": ("cluster",),
    "owner": ("owner",),
}
"""Our columns of the power file, and the headers that they may have, best first (those with dots are nvidia-smi's)."""
TOKEN_COLUMNS = {
    "start": ("start", "t_start"),
    "end": ("end", "t_end"),
    "first": ("first", "t_first"),
    "tenant": ("tenant",),
    "model": ("model",),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
    "cached_tokens": ("cached_tokens",),
    "request_id": ("request_id",),
    "status": ("status",),
    "session_id": ("session_id",),
    "trace_id": ("trace_id",),
    "workload": ("workload",),
    "cluster": ("cluster",),
}
"""Our columns of the requests file, and the headers that they may have."""
MAX_NAMES = 100_000
"""GPUs, and workloads, of one recording."""
MAX_GAP_MS = 300_000
"""Watts are not integrated over longer gaps: no energy is made up where nothing was measured.

Counters bridge any gap.
"""
_MAX_COUNTER_MJ = 2**62
"""About 1.3 TWh. Blanks such as DCGM's (9.2e18) are greater."""


@dataclass(slots=True, frozen=True, repr=False)
class CsvDefaults:
    """Values to use where a file has no such column, or a cell is empty."""

    cluster: str
    workload: str
    node: str
    gpu: str
    hardware: str
    owner: str
    zone_ms: int
    max_gap_ms: int

    def __repr__(self) -> str:
        """Return the text that goes into the recording's fingerprint. It must stay the same: see `base.fingerprint`."""
        options = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"Defaults({options})"


class PowerReading(NamedTuple):
    """One power reading, with its place. `key_ms` is its time."""

    key_ms: int
    line: int
    gpu_reading: readings.GpuReading
    group: Group
    node: str
    owner: str


@dataclass(slots=True)
class ReadingAnomalies:
    """Counts of gaps between a file's readings, and of counters that were reset."""

    gaps: int = 0
    resets: int = 0


def token_rows(path: Path, defaults: CsvDefaults) -> Iterator[TokenRow | BadRow]:
    """Yield the requests of a file in its order, with bad rows in between."""
    table = CsvTable(path, TOKEN_COLUMNS, ("start", "end", "tenant", "model", "prompt_tokens", "completion_tokens"))
    yield from read_rows(table, lambda line: _token_row(line, path.stem, defaults))


def power_rows(path: Path, defaults: CsvDefaults, anomalies: ReadingAnomalies) -> Iterator[PowerRow | BadRow]:
    """Yield the intervals between a file's readings, GPU by GPU. Counts gaps and counter resets in `anomalies`.

    An interval belongs to the workload that its first reading names: that one occupied the GPU until the next
    reading.
    """
    states: dict[tuple[str, str], meter_state.MeterState] = {}
    first_readings: dict[tuple[str, str], PowerReading] = {}
    last_readings: dict[tuple[str, str], PowerReading] = {}
    for reading in reorder(_readings(path, defaults)):
        if isinstance(reading, BadRow):
            yield reading
            continue
        gpu = (reading.node, reading.gpu_reading.gpu_uuid)
        state = states.get(gpu)
        if state is None:
            if len(states) >= MAX_NAMES:
                raise BadInput("gpu", reading.gpu_reading.gpu_uuid, f"more than {MAX_NAMES} GPUs; split the recording")
        elif reading.key_ms <= state.last.monotonic_ms:
            yield bad_row(
                path, reading.line, "time", str(reading.key_ms), "not after the reading of this GPU before it"
            )
            continue
        result = meter.add_reading(state, reading.gpu_reading, max_gap_ms=defaults.max_gap_ms)
        states[gpu] = result.state
        anomalies.gaps += result.gaps
        anomalies.resets += result.resets
        last_readings[gpu] = reading
        yield from _power_rows(first_readings.setdefault(gpu, reading), result.intervals)
        if result.intervals or result.gaps:
            first_readings[gpu] = reading
    for gpu, reading in last_readings.items():  # A counter that stood or was silent up to the end: its watts.
        result = meter.send_open(states[gpu], reading.gpu_reading, max_gap_ms=0)
        anomalies.gaps += result.gaps
        yield from _power_rows(first_readings[gpu], result.intervals)


def _power_rows(first: PowerReading, intervals: Iterable[readings.EnergyInterval]) -> Iterator[PowerRow]:
    """Yield intervals as rows of the workload that the first reading of their stretch names."""
    cluster, workload = first.group
    for i in intervals:
        yield PowerRow(
            key_ms=key_ms(i.t0_ms, i.t1_ms), cluster=cluster, workload=workload, node=first.node,
            gpu_uuid=i.gpu_uuid, hardware=i.hardware, t0_ms=i.t0_ms, t1_ms=i.t1_ms, energy_uj=i.energy_uj,
            method=i.method, busy_ms=i.busy_ms, owner=first.owner,
        )  # fmt: skip


def _token_row(line: CsvLine, stem: str, defaults: CsvDefaults) -> TokenRow:
    start_ms, end_ms = line.time("start", defaults.zone_ms), line.time("end", defaults.zone_ms)
    if not start_ms <= end_ms <= start_ms + MAX_SPAN_MS:
        raise BadCell("end", line.get("end"), "must be 0 to 6 hours after start")
    first_ms = line.time("first", defaults.zone_ms) if line.get("first") else 0
    if first_ms and not start_ms <= first_ms <= end_ms:
        raise BadCell("first", line.get("first"), "must lie between start and end")
    prompt, completion = line.count("prompt_tokens", MAX_TOKENS), line.count("completion_tokens", MAX_TOKENS)
    cached = line.count("cached_tokens", MAX_TOKENS, default=0)
    if cached > prompt:
        raise BadCell("cached_tokens", str(cached), "is a subset of prompt_tokens")
    tenant = _required(line, "tenant")
    if tenant.startswith("__"):
        raise BadCell("tenant", tenant, "names that begin with '__' are Wattlog's own")
    cluster, workload = _group(line, defaults)
    return TokenRow(
        key_ms=key_ms(start_ms, end_ms), cluster=cluster, workload=workload, tenant=tenant,
        model=_required(line, "model"), request_id=line.text("request_id", f"{stem}-{line.number}"),
        t_start_ms=start_ms, t_first_ms=first_ms, t_end_ms=end_ms, prompt_tokens=prompt, cached_tokens=cached,
        completion_tokens=completion, status=line.text("status", "ok"), session_id=line.text("session_id", ""),
        trace_id=line.text("trace_id", ""),
    )  # fmt: skip


def _readings(path: Path, defaults: CsvDefaults) -> Iterator[PowerReading | BadRow]:
    table = CsvTable(path, POWER_COLUMNS, ("time",))
    if not any(table.has(c) for c in ("energy_mj", "energy_j", "power_w")):
        raise BadInput("columns", table.columns, f"{path.name} also needs one of energy_mj, energy_j or power_w")
    yield from read_rows(table, lambda line: _reading(line, table, defaults))


def _reading(line: CsvLine, table: CsvTable, defaults: CsvDefaults) -> PowerReading:
    t_ms = line.time("time", defaults.zone_ms)
    counter_mj = _counter_mj(line)
    watts = _watts(line)
    if counter_mj is None and watts is None:
        column = next(c for c in ("energy_mj", "energy_j", "power_w") if table.has(c))
        raise BadCell(column, line.get(column), "no reading: neither a counter nor watts")
    gpu = line.text("gpu", defaults.gpu)
    reading = readings.GpuReading(
        gpu_uuid=f"gpu-{gpu}" if gpu.isdecimal() else gpu,
        hardware=line.text("hardware", defaults.hardware),
        t_ms=t_ms,
        monotonic_ms=t_ms,
        counter_mj=counter_mj,
        watts=watts,
        utilisation=_utilisation(line),
    )
    owner = line.text("owner", defaults.owner)
    return PowerReading(t_ms, line.number, reading, _group(line, defaults), line.text("node", defaults.node), owner)


def _group(line: CsvLine, defaults: CsvDefaults) -> Group:
    cluster = line.text("cluster", defaults.cluster)
    if "/" in cluster:
        raise BadCell("cluster", cluster, "a cluster's name has no '/'")
    return cluster, line.text("workload", defaults.workload)


def _required(line: CsvLine, column: str) -> str:
    value = line.text(column, "")
    if not value:
        raise BadCell(column, value, "is empty")
    return value


def _counter_mj(line: CsvLine) -> int | None:
    """Return the energy counter in whole millijoules, or None if there is none."""
    for column, mj in (("energy_mj", 1), ("energy_j", 1000)):
        text = line.get(column)
        if text.lower() in NO_VALUE:
            continue
        try:
            counter = Decimal(text) * mj
        except Exception:
            raise BadCell(column, text, "not a number") from None
        if not (counter.is_finite() and 0 <= counter < _MAX_COUNTER_MJ):
            raise BadCell(column, text, "no counter reads that: give a number of 0 or more, below 2^62 mJ")
        return round(counter)
    return None


def _watts(line: CsvLine) -> float | None:
    text = line.get("power_w")
    if text.lower() in NO_VALUE:
        return None
    try:
        return microwatts(text, max_w=meter.MAX_WATTS) / 1e6
    except ValueError as error:
        raise BadCell("power_w", text, str(error)) from None


def _utilisation(line: CsvLine) -> float | None:
    """Return a ratio of percent, or None for a cell that cannot be read: no energy depends on it."""
    text = line.get("utilization").removesuffix("%").strip()
    return int(text) / 100 if text.isdecimal() and text.isascii() and len(text) <= 3 and int(text) <= 100 else None
