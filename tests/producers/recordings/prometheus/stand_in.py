"""A stand-in for Prometheus' range queries over raw samples, with its lookback, limits and errors."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.support.http_server import Request, Response, serving

MAX_POINTS = 11_000
STALE = "stale"
"""Value of a staleness marker: the series ends there."""


@dataclass
class RawSeries:
    """One series: its name, labels, and raw samples as (epoch seconds, value)."""

    name: str
    labels: dict[str, str]
    samples: list[tuple[float, float | str]]


@dataclass
class StandIn:
    """Its data, faults and the requests that it answered.

    `faults` are answers that come first, one a request. `max_samples` is the limit of a query.
    """

    series: list[RawSeries] = field(default_factory=list)
    faults: list[tuple[int, object]] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)
    max_samples: int = 50_000_000
    requests: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, samples: list[tuple[float, float | str]], /, **labels: str) -> None:
        self.series.append(RawSeries(name, labels, samples))

    def answer(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        self.requests.append({"path": request.path, **form})
        self.headers.append(dict(request.headers))
        if self.faults:
            status, body = self.faults.pop(0)
            return Response(status, (body if isinstance(body, str) else json.dumps(body)).encode())
        start, end, step = float(form["start"]), float(form["end"]), float(form["step"])
        if (end - start) / step > MAX_POINTS:
            return _error(400, "bad_data", "exceeded maximum resolution of 11,000 points per timeseries.")
        lookback = float(form["lookback_delta"].removesuffix("s"))
        result = []
        for series in self._selected(form["query"]):
            values = [
                [t, str(value)]
                for n in range(int((end - start) // step) + 1)
                if (value := _at(series, t := start + n * step, lookback)) is not None
            ]
            if values:
                result.append({"metric": {"__name__": series.name, **series.labels}, "values": values})
        if sum(len(s["values"]) for s in result) > self.max_samples:  # type: ignore[arg-type]
            return _error(
                422, "execution", "query processing would load too many samples into memory in query execution"
            )
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}, **self.extra}
        return Response(200, json.dumps(body).encode())

    def _selected(self, query: str) -> Iterator[RawSeries]:
        name, _, matchers_text = query.partition("{")
        matchers = re.findall(r'(\w+)="([^"]*)"', matchers_text)
        for series in self.series:
            if series.name == name and all(series.labels.get(k) == v for k, v in matchers):
                yield series

    @contextmanager
    def serving(self) -> Iterator[str]:
        with serving(self.answer) as url:
            yield url


def _at(series: RawSeries, t: float, lookback: float) -> float | str | None:
    """Return the last sample at or before a time, within the lookback; None behind a staleness marker."""
    n = bisect_right(series.samples, t, key=lambda sample: sample[0])
    if not n:
        return None
    at, value = series.samples[n - 1]
    return None if value == STALE or at <= t - lookback else value


def _error(status: int, kind: str, text: str) -> Response:
    return Response(status, json.dumps({"status": "error", "errorType": kind, "error": text}).encode())
