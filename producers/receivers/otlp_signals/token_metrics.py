"""Reads the growth of counters of tokens from OTLP's metrics: `gen_ai.client.token.usage`, `claude_code.token.usage`.

Such a metric has no single calls. The growth of its points up to one time becomes one row, which stands for as many
requests as the metric says, or for none. Delta points are growth as they are; of cumulative ones the receiver
keeps the last total (`producers.runtime.series_totals`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TOKENS
from producers.common.body_cost import check_items
from producers.gateways.calls import UNKNOWN, check_end_ms, text_or_empty
from producers.gateways.token_names import name_by_words
from producers.receivers.otlp_signals.decoding import AttributeValue, SignalItem, encoded, scalars
from producers.receivers.otlp_signals.rules import SignalRules
from producers.runtime.batching import RequestRow
from producers.runtime.call_bounds import NO_BOUNDS, CallBounds
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.refusals import read_each
from producers.runtime.series_totals import SeriesTotal, TotalGrowth, series_of

ORIGIN = "otlp-metrics"
DELTA, CUMULATIVE = 1, 2
"""Aggregation temporalities."""
OTHER, UNKNOWN_KIND, BEGINS, SERVICE = "other", "unknown_kind", "begins", "service"
"""Reasons of points that do not count: another metric, a kind of tokens that no column holds or that is not known, the
first total of a series that began before, a service that is not named."""
NS = 1_000_000


class TokenMetric(NamedTuple):
    """Convention of a metric: the attribute that names the kind of tokens, and the column of each kind.

    `beside`: what was read from a cache or written to it is counted beside the prompt. `provider` served all of it.
    """

    kind: str
    columns: Mapping[str, str]
    model: tuple[str, ...]
    beside: bool = False
    provider: str = ""

    def column_of(self, kind: str) -> str | None:
        """Return the column of a kind of tokens, by its words if it is not listed: "" for none, None if unknown."""
        if kind in self.columns:
            return self.columns[kind]
        name = name_by_words(kind)
        column = "" if name is None else name.column
        return None if name is None else column if column in RequestRow._fields else ""


TOKEN_METRICS: Mapping[str, TokenMetric] = {
    "gen_ai.client.token.usage": TokenMetric(
        "gen_ai.token.type",
        {
            "input": "prompt_tokens", "output": "completion_tokens", "cached_input": "cached_tokens",
            "cache_read_input": "cached_tokens", "cache_creation_input": "cache_write_tokens",
            "reasoning": "reasoning_tokens",
        },
        ("gen_ai.response.model", "gen_ai.request.model"),
    ),
    "claude_code.token.usage": TokenMetric(
        "type",
        {
            "input": "prompt_tokens", "output": "completion_tokens", "cacheRead": "cached_tokens",
            "cacheCreation": "cache_write_tokens",
        },
        ("model",), beside=True, provider="anthropic",
    ),
}  # fmt: skip
_ADDRESS, _PORT, _SERVICE = "server.address", "server.port", "service.name"


class RowKey(NamedTuple):
    """Points of one key are one row: the names of a request, the end of the time, and the metric."""

    metric: str
    tenant: str
    model: str
    api_base: str
    route: str
    session_id: str
    t1_ms: int


@dataclass
class _Sum:
    t0_ms: int
    counts: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)


class MetricRow(NamedTuple):
    """Growth of one key: `requests` is the number of requests that it stands for, 0 where the metric says none."""

    row: RequestRow
    requests: int
    provider: str


class MetricRows(NamedTuple):
    """Rows, errors of points that could not be read, and the number of points that do not count, by reason."""

    rows: list[MetricRow]
    refused: list[str]
    skipped: Mapping[str, int]


class _Point(NamedTuple):
    """A point of a counter: `values` is the number of values of a histogram."""

    attributes: Sequence[Any]
    start_ns: int
    time_ns: int
    total: int
    values: int


class MetricReader:
    """Reads rows from metrics.

    `payer` maps the tenant that a point names ("" for none) to the one that pays. `sender` is who reports them.
    A row beyond `bounds` is refused.
    """

    def __init__(
        self, rules: SignalRules, names: Sequence[str], payer: Callable[[str], str] = str, sender: str = ORIGIN,
        bounds: CallBounds = NO_BOUNDS,
    ) -> None:  # fmt: skip
        self._bounds = bounds
        self._rules, self._payer, self._sender = rules, payer, sender
        self._metrics = {name: TOKEN_METRICS[name] for name in names}

    def read(self, items: Sequence[SignalItem], trial: DeduplicationTrial, latest_ms: int) -> MetricRows:
        """Read the metrics of one message, and note their points in `trial`. Raises BadInput for too many points."""
        check_items(sum(len(_data_points(item.message)) for item in items), "data points")
        refused, skipped = list[str](), Counter[str]()
        sums: dict[RowKey, _Sum] = {}

        def read(point: tuple[SignalItem, _Point, int]) -> None:
            reason = self._add(*point, trial, latest_ms, sums)
            if reason:
                skipped[reason] += 1

        for item in items:
            points = read_each([(f"metric {item.message.name[:64]!r}", item)], self._points, refused)
            if item.message.name not in self._metrics:
                skipped[OTHER] += 1
                continue
            for temporality, many in points:
                placed = (
                    (f"point {n} of {item.message.name}", (item, point, temporality)) for n, point in enumerate(many, 1)
                )
                list(read_each(placed, read, refused))
        rows = [self._row(key, value, refused) for key, value in sums.items()]
        return MetricRows([row for row in rows if row is not None], refused, skipped)

    def _points(self, item: SignalItem) -> tuple[int, list[_Point]]:
        """Return a metric's temporality and its points. Raises BadInput where it is no counter."""
        metric, name = item.message, item.message.name[:64]
        kind = metric.WhichOneof("data")
        if kind not in ("sum", "histogram", "exponential_histogram"):
            raise BadInput("metric", name, f"is a {kind or 'metric without data'}; tokens need a counter or histogram")
        data = getattr(metric, kind)
        if kind == "sum" and not data.is_monotonic:
            raise BadInput("metric", name, "is not monotonic, so its growth is unknown")
        if data.aggregation_temporality not in (DELTA, CUMULATIVE):
            raise BadInput("aggregationTemporality", data.aggregation_temporality, "give DELTA or CUMULATIVE")
        return data.aggregation_temporality, [_point(point, kind) for point in data.data_points]

    def _add(
        self, item: SignalItem, point: _Point, temporality: int, trial: DeduplicationTrial, latest_ms: int,
        sums: dict[RowKey, _Sum],
    ) -> str:  # fmt: skip
        """Add a point to its row. Return why it does not count, or "". Raises BadInput."""
        metric, name = self._metrics[item.message.name], item.message.name
        resource, own = item.resource.scalars(self._rules.names()), self._rules.select(point.attributes)
        if not self._rules.counts(resource):
            return SERVICE
        attributes = scalars(point.attributes, (metric.kind, *metric.model, _ADDRESS, _PORT))
        column = metric.column_of(str(attributes.get(metric.kind, "")))
        if not column:
            return OTHER if column == "" else UNKNOWN_KIND
        if point.time_ns <= 0 or point.start_ns > point.time_ns:
            raise BadInput("timeUnixNano", point.time_ns, "give Unix nanoseconds, not before the start")
        check_end_ms(point.time_ns // NS, latest_ms, self._bounds.oldest_ms)
        growth = self._growth(item, point, temporality, trial)
        if isinstance(growth, str):
            return growth
        t1_ms = point.time_ns // NS
        key = RowKey(
            metric=name,
            tenant=self._payer(self._rules.tenant_of(own, resource)) or self._rules.otherwise,
            model=_first_text(attributes, metric.model) or UNKNOWN,
            api_base=_address(attributes),
            route=text_or_empty(str(resource.get(_SERVICE, ""))),
            session_id=self._rules.session_of(own, resource),
            t1_ms=t1_ms,
        )
        if not key.tenant:
            raise BadInput("tenant", "", "is needed: name its attribute in produce.otlp.tenant")
        total = sums.setdefault(key, _Sum(t1_ms))
        total.t0_ms = max(min(total.t0_ms, growth.t0_ns // NS), t1_ms - MAX_SPAN_MS)
        total.counts[column] += growth.total
        total.requests[column] += growth.count
        return ""

    def _growth(
        self, item: SignalItem, point: _Point, temporality: int, trial: DeduplicationTrial
    ) -> TotalGrowth | str:
        """Return the growth that a point shows, or why it shows none."""
        series = series_of(
            item.message.name.encode(), item.scope.encode(), item.resource.encoded, encoded(point.attributes)
        )
        if temporality == DELTA:
            identity = f"point {series} {point.start_ns} {point.time_ns}"
            if trial.has(identity):
                return REPEATED
            trial.add((identity,))
            return TotalGrowth(point.start_ns or point.time_ns, point.total, point.values)
        now = SeriesTotal(point.start_ns, point.time_ns, point.total, point.values)
        growth = trial.series.growth(series, now)
        return growth if growth is not None else REPEATED if trial.series.is_repeated(series, now) else BEGINS

    def _row(self, key: RowKey, total: _Sum, refused: list[str]) -> MetricRow | None:
        """Return the row of a key, or None where nothing grew."""
        counts, metric = total.counts, self._metrics[key.metric]
        if not any(counts.values()):
            return None
        if metric.beside:
            counts["prompt_tokens"] += counts["cached_tokens"] + counts["cache_write_tokens"]
        for part, entire in (("cached_tokens", "prompt_tokens"), ("cache_write_tokens", "prompt_tokens"),
                            ("reasoning_tokens", "completion_tokens")):  # fmt: skip
            if counts[part] > counts[entire]:
                refused.append(f"{key.metric}: {part}: {counts[part]}: are more than {entire}; the excess is left out")
                counts[part] = counts[entire]
        if max(counts.values()) > MAX_TOKENS:
            refused.append(f"{key.metric}: {max(counts.values())}: more tokens than one row may have, 2^31-1")
            return None
        requests = total.requests["prompt_tokens"] or total.requests["completion_tokens"]
        known: dict[str, Any] = {name: count for name, count in counts.items() if name in RequestRow._fields}
        known = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0} | known
        row = RequestRow(
            tenant=key.tenant, model=key.model,
            request_id=f"{key.metric}-{series_of(*(str(part).encode() for part in key)):x}",
            t_start_ms=total.t0_ms, t_first_ms=0, t_end_ms=key.t1_ms, session_id=key.session_id, api_base=key.api_base,
            route=key.route, provider=metric.provider, sender=self._sender, **known,
        )  # fmt: skip
        try:
            self._bounds.check(row)
        except BadInput as error:
            refused.append(f"{key.metric}: {error}")
            return None
        return MetricRow(row, min(requests, MAX_TOKENS), metric.provider)


def _data_points(metric: Any) -> Sequence[Any]:
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _point(point: Any, kind: str) -> _Point:
    """Return a point. Raises BadInput where it has no whole number of tokens."""
    if kind == "sum":
        value, count = getattr(point, point.WhichOneof("value") or "as_int"), 0
    else:
        value, count = point.sum if point.HasField("sum") else None, point.count
    if value is None or value != value or value < 0 or value > 2**62 or value != int(value):
        raise BadInput("sum", value, "give a whole number of tokens, 0 or more")
    return _Point(list(point.attributes), point.start_time_unix_nano, point.time_unix_nano, int(value), count)


def _first_text(attributes: Mapping[str, AttributeValue], names: Sequence[str]) -> str:
    return next((text for name in names if (text := text_or_empty(str(attributes.get(name, ""))))), "")


def _address(attributes: Mapping[str, AttributeValue]) -> str:
    address, port = str(attributes.get(_ADDRESS, "")), attributes.get(_PORT)
    return text_or_empty(f"{address}:{port}" if address and port is not None else address)
