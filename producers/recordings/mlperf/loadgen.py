"""Loadgen's log of an MLPerf run: `mlperf_log_detail.txt`, lines `:::MLLOG {json}`.

Names and meanings of the keys are those of loadgen's results.cc and logging.cc (mlcommons/inference, v4.0 to
v5.1). Server rates are over the time of the last sample's completion and count n - 1 samples. Offline rates are
over the longest latency and count n. Inferred tokens are samples times a constant whole number.

Offline, loadgen pads its one query to whole copies of the data set (`GenerateQueries` in loadgen.cc), runs and times
all of them, and logs the number before padding. So there the rates tell how many samples ran.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS
from producers.recordings.base import BadRow
from producers.recordings.text_lines import read_lines, time_ms

LOG = "mlperf_log_detail.txt"
MAX_SAMPLES = 10_000_000_000
"""Samples of one run: five times those of the fastest published ones."""
MAX_NUMBER = 1e18
"""Greatest number in a log, such as 31 years in nanoseconds."""
_PREFIX = ":::MLLOG "
_PERCENTILE = re.compile(r"result_(\d+\.\d+)_percentile_latency_ns")
_SAMPLE_RATES = ("result_completed_samples_per_sec", "result_samples_per_second")
_TOKEN_RATES = ("result_completed_tokens_per_second", "result_tokens_per_second")
_INFERRED_RATES = ("result_inferred_completed_tokens_per_second", "result_inferred_tokens_per_second")
_PRINTED = 2e-5
"""Loadgen prints rates with six significant digits, so a quotient of two is exact to this, relatively."""


@dataclass(frozen=True)
class LoadgenRun:
    """One performance run. Times in UTC epoch ms, latencies in ms; `latency_ms` maps quantiles (0 to 1) to latencies.

    `samples` ran; `logged_samples` is the log's own count of them. `tokens` is None if the log counts none.
    `tokens_per_s` and `samples_per_s` are as logged, over `rate_ms`. `issue_ms` is how long queries were issued.
    """

    sut: str
    model: str
    scenario: str
    begin_ms: int
    end_ms: int
    samples: int
    logged_samples: int
    tokens: int | None
    samples_per_s: float | None
    tokens_per_s: float | None
    rate_ms: float | None
    issue_ms: float
    latency_ms: Mapping[float, float]
    valid: str


def read_run(directory: Path, zone_ms: int) -> LoadgenRun:
    """Read the log of a run. Raises BadInput that names the file and the field that is missing or cannot be read."""
    log = _Log(directory / LOG)
    scenario = log.text("effective_scenario", "requested_scenario")
    begin_ms, end_ms = log.stamp("power_begin", zone_ms), log.stamp("power_end", zone_ms)
    if not begin_ms < end_ms <= begin_ms + MAX_SPAN_MS:
        raise BadInput(f"{LOG}: power_end", log.text("power_end"), "must be after power_begin, by 6 hours at most")
    latency_ms = _latencies(log)
    samples_per_s = log.first(_SAMPLE_RATES)
    logged_samples, samples = _samples(log, scenario, samples_per_s, latency_ms[1.0])
    sut = log.text("sut_name")
    # Server rates count one sample less than ran, but all tokens; both are over the same time.
    timed_samples = samples - 1 if scenario == "Server" else samples
    tokens, tokens_per_s = _tokens(log, samples, timed_samples, samples_per_s)
    if scenario == "Server":
        issue_ms = min(log.number("generated_query_duration") / 1e6, float(end_ms - begin_ms))
    else:
        issue_ms = 0.0 if scenario == "Offline" else max(0.0, end_ms - begin_ms - latency_ms[1.0])
    return LoadgenRun(
        sut=sut,
        model=model_name(directory, sut, scenario),
        scenario=scenario,
        begin_ms=begin_ms,
        end_ms=end_ms,
        samples=samples,
        logged_samples=logged_samples,
        tokens=tokens,
        samples_per_s=samples_per_s,
        tokens_per_s=tokens_per_s,
        rate_ms=timed_samples / samples_per_s * 1000 if samples_per_s else None,
        issue_ms=issue_ms,
        latency_ms=latency_ms,
        valid=log.text("result_validity", default="unknown"),
    )


def model_name(directory: Path, sut: str, scenario: str) -> str:
    """Return the benchmark's name, from the first of these that fits.

    It is the folder `mlperf_MODEL_SCENARIO`, MLCommons' own layout `MODEL/SCENARIO/performance/run_N`, or the
    system's name without `-SCENARIO-SUT`.
    """
    parts = directory.resolve().parts
    named = re.fullmatch(rf"mlperf_(.+)_{re.escape(scenario)}", parts[-1], re.IGNORECASE)
    if named:
        return named[1]
    if len(parts) > 4 and parts[-2] == "performance" and parts[-3].lower() == scenario.lower():
        return parts[-4]
    return re.sub(rf"[-_]{re.escape(scenario)}[-_]SUT$", "", sut, flags=re.IGNORECASE)


def stamp_ms(text: str, zone_ms: int) -> int:
    """Return a time of loadgen or PTDaemon as UTC epoch ms: MM-DD-YYYY (or with `/`), or with the year first.

    Day before month is not accepted: 03-04-2024 could be either. Raises ValueError.
    """
    month_first = re.match(r"(\d\d)[-/](\d\d)[-/](\d{4})", text)
    if month_first:
        text = f"{month_first[3]}-{month_first[1]}-{month_first[2]}{text[10:]}"
    elif not re.match(r"\d{4}[-/]", text):
        raise ValueError("not a stamp: give MM-DD-YYYY hh:mm:ss.fff, or ISO 8601")
    return time_ms(text, zone_ms)


def _latencies(log: _Log) -> dict[float, float]:
    quantiles = {float(m[1]) / 100: log.number(key) / 1e6 for key in log.values if (m := _PERCENTILE.fullmatch(key))}
    quantiles[0.0] = log.number("result_min_latency_ns", "result_min_query_latency_ns") / 1e6
    quantiles[1.0] = log.number("result_max_latency_ns", "result_max_query_latency_ns") / 1e6
    by_quantile = dict(sorted(quantiles.items()))
    values = list(by_quantile.values())
    if values[0] < 0 or values != sorted(values):
        raise BadInput(f"{LOG}: result_*_percentile_latency_ns", values, "percentiles of latency must not fall")
    return by_quantile


def _samples(log: _Log, scenario: str, samples_per_s: float | None, longest_ms: float) -> tuple[int, int]:
    """Return how many samples the log counts, and how many ran. Raises BadInput for an impossible number."""
    queries = log.number("result_query_count")
    logged = int(queries * log.number("generated_samples_per_query", "effective_samples_per_query", default=1))
    if not 1 <= logged <= MAX_SAMPLES:
        raise BadInput(f"{LOG}: result_query_count", logged, f"must be 1 to {MAX_SAMPLES} samples")
    if scenario != "Offline" or not samples_per_s:
        return logged, logged
    timed = samples_per_s * longest_ms / 1000
    if abs(timed - logged) <= max(0.5, _PRINTED * logged):
        return logged, logged
    if not 1 <= round(timed) <= MAX_SAMPLES:
        raise BadInput(
            f"{LOG}: samples per second", samples_per_s, f"gives {timed:g} samples in {longest_ms / 1000:g} s"
        )
    return logged, round(timed)


def _tokens(
    log: _Log, samples: int, timed_samples: int, samples_per_s: float | None
) -> tuple[int | None, float | None]:
    """Return (total, tokens/s), as far as the log has them."""
    counted, inferred = log.first(_TOKEN_RATES), log.first(_INFERRED_RATES)
    tokens_per_s = counted if counted is not None else inferred
    if tokens_per_s is None or not samples_per_s:
        return None, tokens_per_s
    ratio = tokens_per_s / samples_per_s
    if counted is not None:
        return round(timed_samples * ratio), counted
    constant = round(ratio)
    return round(samples * (constant if abs(ratio - constant) <= _PRINTED * ratio else ratio)), inferred


class _Log:
    """Values of a log by key. The last one wins."""

    def __init__(self, path: Path) -> None:
        self.values: dict[str, Any] = {}
        for item in read_lines(path):
            if isinstance(item, BadRow):  # The list of loaded samples may be a very long line, which is not needed.
                continue
            number, line = item
            if not line.startswith(_PREFIX):
                continue
            try:
                entry = msgspec.json.decode(line[len(_PREFIX) :])
                self.values[entry["key"]] = entry["value"]
            except Exception:
                raise BadInput(
                    f"{path.name}, line {number}", line, "not a line of loadgen: `:::MLLOG {json}`"
                ) from None
        if not self.values:
            raise BadInput(path.name, "", "no line starts with :::MLLOG: not loadgen's detail log")

    def text(self, *keys: str, default: str | None = None) -> str:
        for key in keys:
            if key in self.values:
                return str(self.values[key])
        if default is not None:
            return default
        raise self._missing(keys)

    def number(self, *keys: str, default: float | None = None) -> float:
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER:
                return value
            if value is not None:
                raise BadInput(f"{LOG}: {key}", value, f"must be a number of 0 to {MAX_NUMBER:g}")
        if default is not None:
            return default
        raise self._missing(keys)

    def first(self, keys: tuple[str, ...]) -> float | None:
        return self.number(*keys) if any(k in self.values for k in keys) else None

    def stamp(self, key: str, zone_ms: int) -> int:
        text = self.text(key)
        try:
            return stamp_ms(text, zone_ms)
        except ValueError as error:
            raise BadInput(f"{LOG}: {key}", text, str(error)) from None

    def _missing(self, keys: tuple[str, ...]) -> BadInput:
        power = " (only runs that measured power have it)" if keys[0].startswith("power_") else ""
        return BadInput(f"{LOG}: {keys[0]}", None, f"is not in the log{power}; give the log of a performance run")
