"""MLPerf inference runs with power: `mlperf_log_detail.txt` beside SPEC PTDaemon's `spl.txt`.

Measured, and taken as it is: wall power of the whole server (host included) at about 1 Hz; the times `power_begin`
and `power_end`; the number of samples; tokens a second; latency percentiles. Derived, because the log has no line
per request:

* Energy. Trapezoids between consecutive readings, in whole microjoules (`trapezoid`), method `integrated`, under
  one device `wall-SUT`. Energy inside the measured window goes to the workload `MODEL/SCENARIO`, other energy to
  `MODEL/SCENARIO/outside`. So the ledger of the first is the measured window, although the ledger's windows are
  aligned otherwise.
* The window's edges. Published energies are trapezoids over the readings between `power_begin` and `power_end`. So
  by default the measured window's energy runs from the first of these to the last (`edges="readings"`). Energy
  between `power_begin` or `power_end` and the reading next to it, up to a second at each end, goes to
  `MODEL/SCENARIO/edges`, cut on the straight line between readings. `edges="interpolated"` makes both one
  workload.
* J/token of the window is of all its energy, edges included. The published figure multiplies mean power by the
  time between `power_begin` and `power_end`, and tokens were made in all of it.
* Requests. As many as samples that ran. Server: issued evenly over `generated_query_duration` from `power_begin`;
  Offline: all at `power_begin`; others: evenly over the window less the longest latency. Latencies are the
  quantiles of the logged percentiles (linear in between), each used once, in a fixed scattered order; nothing ends
  after `power_end`. Runs of many samples, or of long ones, have one row for several requests (`MAX_OPEN_PIECES`).
* Tokens. All are completion tokens; prompt tokens are not in the log and are 0. Their total is loadgen's count:
  tokens/s over the time by which loadgen divided (samples over samples/s). That time ends with the last sample, a
  little before `power_end`. Where loadgen inferred tokens from a constant per sample, that constant is used. They
  are spread evenly over the requests.

Times are local without a zone in both files: UTC unless offsets are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from contracts.columns import I64
from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, Event, Method
from contracts.topics import check_name
from contracts.units import counted, rfc3339
from producers.recordings import base
from producers.recordings.base import BadRow, PowerRow, Recording, Row, TokenRow, bad_row, key_ms
from producers.recordings.batches import events_of
from producers.recordings.mlperf.loadgen import LOG, LoadgenRun, read_run, stamp_ms
from producers.recordings.text_lines import read_lines
from producers.recordings.trapezoid import Trapezoid, microwatts, power_at, spread
from producers.runtime.refusals import describe

SPL = "spl.txt"
MAX_READINGS = 2_000_000
"""Readings in one `spl.txt`: 23 days at 1 Hz."""
MAX_GAP_MS = 10_000
"""Between readings further apart than this nothing was measured: the trapezoid is marked `estimated`."""

MAX_OPEN_PIECES = 500_000
"""Sum over a run's rows of the windows in which they have a part: a third of what a worker holds (`max_open_rows`)."""
WINDOW_MS = 10_000

Edges = Literal["readings", "interpolated"]


class WallReading(NamedTuple):
    """Power at a time."""

    t_ms: int
    power_uw: int


def mlperf(
    directory: Path, *, cluster: str = "mlperf", tenant: str = "mlperf", utc_offset: str = "+00:00",
    power_utc_offset: str | None = None, edges: Edges = "readings", workload: str | None = None,
    hardware: str | None = None, close_ms: int = base.CLOSE_MS,
) -> Recording:  # fmt: skip
    """Return the recording of one performance run in `directory`. The module's docstring lists what is derived, and
    how.

    `utc_offset` is the zone of both files' times (`+HH:MM`), `power_utc_offset` that of `spl.txt` if its machine
    had another one. `workload` defaults to MODEL/SCENARIO (`loadgen.model_name`), `hardware` to `wall of SUT`.
    Raises BadInput, naming file and field, for a log that lacks what is needed, or readings that do not span the
    run.
    """
    if edges not in ("readings", "interpolated"):
        raise BadInput("edges", edges, "use readings or interpolated")
    run = read_run(directory, base.offset_ms(utc_offset))
    spl = directory / SPL
    zone_ms = base.offset_ms(power_utc_offset or utc_offset)
    readings = [item for item in read_readings(spl, zone_ms) if isinstance(item, WallReading)]
    cut = _window(run, readings, spl.name, edges)
    workload = check_name("workload", workload or f"{run.model}/{run.scenario}")
    hardware = check_name("hardware", hardware or f"wall of {run.sut}")
    outside, beside = f"{workload}/outside", f"{workload}/edges"
    stamps = run.begin_ms, run.end_ms
    check_name("cluster", cluster), check_name("tenant", tenant)
    digest = base.fingerprint(
        (directory / LOG, spl), cluster, tenant, utc_offset, power_utc_offset, edges, workload, hardware
    )
    source = base.source_name("mlperf", directory.resolve(), digest)
    start_ms, end_ms = min(readings[0].t_ms, run.begin_ms), max(readings[-1].t_ms, run.end_ms)

    def events() -> Iterator[Event | BadRow]:
        # Reports of bad lines are first: they have no event time.
        yield from (item for item in read_readings(spl, zone_ms) if isinstance(item, BadRow))
        meter = (cluster, f"wall-{run.sut}", hardware)
        rows = merge(
            _power_rows(readings, (cut, stamps), meter, (workload, beside, outside)),
            _token_rows(run, (cluster, workload, tenant)),
            key=_key,
        )
        yield from events_of(
            rows, name=source, groups=[(cluster, w) for w in (workload, beside, outside)], epoch=start_ms,
            end_ms=end_ms, close_ms=close_ms,
        )  # fmt: skip

    return Recording(
        cluster=cluster,
        name=f"MLPerf {run.model} {run.scenario} on {run.sut}",
        start_ms=start_ms,
        end_ms=end_ms,
        window=stamps,
        workload=workload,
        rows=sum(1 for _ in _pieces(readings, cut, stamps)) + request_rows(run),
        events=events,
        references=_references(run, readings, cut),
        notes=(*_notes(run, readings, cut), _bill_note(workload, beside, outside, edges)),
        edges=beside,
    )


def read_readings(path: Path, zone_ms: int) -> Iterator[WallReading | BadRow]:
    """Yield the readings of a PTDaemon log: lines `Time,STAMP,Watts,W,...`. Channels after the total are ignored.

    Times are MM-DD-YYYY (PTDaemon's) or start with the year. A line of another shape, one without a measured
    power, and one that is not after the line before it are BadRows. Raises BadInput for a missing file or too many
    readings.
    """
    last_ms, count = -1, 0
    for item in read_lines(path):
        if isinstance(item, BadRow):
            yield item
            continue
        number, line = item
        cells = line.split(",")
        if len(cells) < 4 or cells[0] != "Time" or cells[2] != "Watts":
            yield bad_row(path, number, "", line, "no power reading: it begins `Time,MM-DD-YYYY hh:mm:ss.fff,Watts,W`")
            continue
        try:
            column = "Time"
            t_ms = stamp_ms(cells[1], zone_ms)
            if t_ms <= last_ms:
                raise ValueError("not after the reading before it")
            column = "Watts"
            reading = WallReading(t_ms, microwatts(cells[3]))
        except Exception as error:
            reason = str(error) if type(error) is ValueError else describe(error)
            yield bad_row(path, number, column, cells[1 if column == "Time" else 3], reason)
            continue
        last_ms = t_ms
        if (count := count + 1) > MAX_READINGS:
            raise BadInput("spl.txt", count, f"has more than {MAX_READINGS} readings; split it")
        yield reading


def _window(run: LoadgenRun, readings: list[WallReading], file: str, edges: Edges) -> tuple[int, int]:
    """Return the begin and end of the measured window's energy. Raises BadInput if the readings do not span it."""
    if not readings:
        raise BadInput(file, "", "has no reading that can be read")
    first, last = readings[0].t_ms, readings[-1].t_ms
    if first > run.begin_ms or last < run.end_ms:
        raise BadInput(
            f"{LOG}: power_begin, power_end",
            f"{rfc3339(run.begin_ms)} to {rfc3339(run.end_ms)}",
            f"{file} spans {rfc3339(first)} to {rfc3339(last)}; if its machine kept another zone, give its offset",
        )
    if edges == "interpolated":
        return run.begin_ms, run.end_ms
    inside = [r.t_ms for r in readings if run.begin_ms <= r.t_ms <= run.end_ms]
    if len(inside) < 2:
        raise BadInput(file, len(inside), "needs at least two readings between power_begin and power_end")
    return inside[0], inside[-1]


class PowerPiece(NamedTuple):
    """Power between two readings, or between one and a cut. `gap_ms` is the time between the readings."""

    a: WallReading
    b: WallReading
    gap_ms: int

    def inside(self, cut: tuple[int, int]) -> bool:
        return cut[0] <= self.a.t_ms and self.b.t_ms <= cut[1]


def _pieces(readings: list[WallReading], *cuts: tuple[int, int]) -> Iterator[PowerPiece]:
    """Yield the pieces between consecutive readings, cut on the straight line between them where the window is cut.

    More than six hours without a reading make no piece: nothing is known there, and the ledger's coverage shows
    it.
    """
    for a, b in pairwise(readings):
        gap_ms = b.t_ms - a.t_ms
        if gap_ms <= MAX_SPAN_MS:
            at = sorted({t for cut in cuts for t in cut if a.t_ms < t < b.t_ms})
            inner = [WallReading(t, power_at(t, *a, *b)) for t in at]
            yield from (PowerPiece(p, q, gap_ms) for p, q in pairwise([a, *inner, b]))


def _power_rows(
    readings: list[WallReading],
    cuts: tuple[tuple[int, int], tuple[int, int]],
    meter: tuple[str, str, str],
    workloads: tuple[str, str, str],
) -> Iterator[Row]:
    """Yield the energy of all pieces. `cuts` are nested.

    `workloads` are those of pieces inside the first cut, else inside the second, else outside of both.
    """
    cluster, uuid, hardware = meter
    trapezoids = [Trapezoid() for _ in workloads]  # The measured window carries no remainder from outside it.
    for piece in _pieces(readings, *cuts):
        a, b = piece.a, piece.b
        place = next((i for i, cut in enumerate(cuts) if piece.inside(cut)), len(cuts))
        yield PowerRow(
            key_ms=key_ms(a.t_ms, b.t_ms),
            cluster=cluster,
            workload=workloads[place],
            node="wall",
            gpu_uuid=uuid,
            hardware=hardware,
            t0_ms=a.t_ms,
            t1_ms=b.t_ms,
            energy_uj=trapezoids[place].energy_uj(a.power_uw, b.power_uw, b.t_ms - a.t_ms),
            method=Method.INTEGRATED if piece.gap_ms <= MAX_GAP_MS else Method.ESTIMATED,
        )


def _token_rows(run: LoadgenRun, names: tuple[str, str, str]) -> Iterator[Row]:
    """Yield the derived requests, in the order of their keys."""
    cluster, workload, tenant = names
    start_ms, end_ms = request_times(run)
    keys = np.maximum(start_ms, np.minimum(end_ms - 1, start_ms + base.HOLD_MS))
    count = len(keys)
    requests, tokens = spread(run.samples, count), spread(run.tokens or 0, count)
    width = len(str(count - 1))
    for i in np.argsort(keys, kind="stable").tolist():
        yield TokenRow(
            key_ms=int(keys[i]),
            cluster=cluster,
            workload=workload,
            tenant=tenant,
            model=run.model,
            request_id=f"{run.model}-{run.scenario}-{i:0{width}d}",
            t_start_ms=int(start_ms[i]),
            t_first_ms=0,
            t_end_ms=int(end_ms[i]),
            prompt_tokens=0,
            cached_tokens=0,
            completion_tokens=tokens[i],
            requests=requests[i],
        )


def request_rows(run: LoadgenRun) -> int:
    """Return how many rows the run's requests make: one for each, or as many as `MAX_OPEN_PIECES` permits."""
    mean_ms = float(np.trapezoid(list(run.latency_ms.values()), list(run.latency_ms)))
    return min(run.samples, max(1, int(MAX_OPEN_PIECES / (1 + mean_ms / WINDOW_MS))))


def request_times(run: LoadgenRun) -> tuple[I64, I64]:
    """Return start and end of each row of derived requests, in UTC epoch ms."""
    count = request_rows(run)
    number = np.arange(count)
    start_ms = run.begin_ms + (number * (run.issue_ms / count)).astype(np.int64)
    # Each quantile once; the stride of the golden section scatters them evenly, so that every window sees them all.
    stride = next(s for s in range(max(1, round(count * 0.6180339887498949)), 2 * count + 2)
                  if np.gcd(s, count) == 1)  # fmt: skip
    quantile = ((number * stride) % count + 0.5) / count
    latency_ms = np.interp(quantile, list(run.latency_ms), list(run.latency_ms.values()))
    end_ms = np.minimum(start_ms + np.rint(latency_ms).astype(np.int64), run.end_ms)
    return np.minimum(start_ms, end_ms), end_ms


def _key(row: Row) -> int:
    return row.key_ms


def _references(run: LoadgenRun, readings: list[WallReading], cut: tuple[int, int]) -> dict[str, str]:
    """Return the recording's own figures, from the readings and the log, in floating point and independent of the
    ledger.
    """
    inside = [r for r in readings if run.begin_ms <= r.t_ms <= run.end_ms]
    mean_w = sum(r.power_uw for r in inside) / max(1, len(inside)) / 1e6
    pieces = [p for p in _pieces(readings, cut) if p.inside(cut)]
    energy_j = sum((a.power_uw + b.power_uw) * (b.t_ms - a.t_ms) for a, b, _ in pieces) / 2e9
    figures = {"mean power of readings": f"{mean_w:.1f} W", "energy, trapezoid": f"{energy_j:.0f} J"}
    if run.tokens_per_s:
        figures["tokens per second"] = f"{run.tokens_per_s:g}"
        figures["energy per token (mean power / tokens per second)"] = f"{mean_w / run.tokens_per_s:.4f} J"
    if run.samples_per_s:
        figures["samples per second"] = f"{run.samples_per_s:g}"
        figures["energy per sample (mean power / samples per second)"] = f"{mean_w / run.samples_per_s:.6g} J"
    return figures


def _bill_note(workload: str, beside: str, outside: str, edges: Edges) -> str:
    """Say how the figures of a bill come to those of this run."""
    parts = (workload, beside) if edges == "readings" else (workload,)
    return (
        f"Energy per token and sample is that of {' and '.join(parts)}. In bills each workload is a row of "
        f"`wattlog chargeback --by workload`; totals also have that before and after the run, {outside}."
    )


def _notes(run: LoadgenRun, readings: list[WallReading], cut: tuple[int, int]) -> tuple[str, ...]:
    notes = [
        "Wall power of the whole server, host included.",
        f"Energy of the measured window is that of {rfc3339(cut[0])} to {rfc3339(cut[1])}.",
        "Requests and their times are derived from counts, rates and percentiles; prompt tokens are not logged (0).",
    ]
    if run.samples != run.logged_samples:
        cause = ": loadgen pads its query to whole copies of the data set" if run.samples > run.logged_samples else ""
        notes.append(
            f"{run.samples:,} samples ran, by samples/s and the longest latency, and the log counts "
            f"{run.logged_samples:,}{cause}."
        )
    if (count := request_rows(run)) < run.samples:
        notes.append(f"{count:,} rows stand for the {run.samples:,} requests: single ones are not stored.")
    if run.rate_ms and (longer_ms := run.end_ms - run.begin_ms - run.rate_ms) > 0.0001 * run.rate_ms:
        notes.append(
            f"Power was measured for {longer_ms / 1000:.3f} s ({longer_ms / run.rate_ms:.2%}) more than loadgen's "
            "rates span: energy per token and sample is higher by as much than mean power divided by a rate."
        )
    if run.tokens is None:
        notes.append("The log counts no tokens: completion tokens are 0, and there is no energy per token.")
    if run.valid != "VALID":
        notes.append(f"Loadgen calls this run {run.valid}.")
    gaps = [b.t_ms - a.t_ms for a, b in pairwise(readings) if b.t_ms - a.t_ms > MAX_GAP_MS]
    if gaps:
        notes.append(f"{counted(len(gaps), 'gap')} between readings, the longest {max(gaps) / 1000:g} s.")
    return tuple(notes)
