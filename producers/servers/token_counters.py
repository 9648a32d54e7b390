"""Counters of one kind of inference server: tokens and requests since the server's start, by model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contracts.errors import BadInput
from producers.common.printable import printable
from producers.common.prometheus_text import Labels, PrometheusPage


class ServedTotals(NamedTuple):
    """Counts since the server's start.

    `life_ms` sums the durations of finished requests, for servers that count a request's tokens when it finishes. It is
    0 for servers that count tokens as they are made, or where it is not known.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    failures: int = 0
    life_ms: int = 0


@dataclass(frozen=True)
class NamedCounters:
    """Reader of a server whose single samples say everything, by their names.

    Of several names of one counter, the first that is on the page counts. Samples that differ in other labels (engine,
    rank, reason) are summed. `failed` are values of any label that mark a request as a failure
    (`finished_reason="abort"`). `life_s` sums the seconds that finished requests took: give it where tokens are counted
    at the finish.
    """

    name: str
    prompt: Sequence[str]
    completion: Sequence[str]
    cached: Sequence[str] = ()
    requests: Sequence[str] = ()
    failures: Sequence[str] = ()
    life_s: Sequence[str] = ()
    in_flight: Sequence[str] = ()
    failed: frozenset[str] = frozenset()
    model_labels: Sequence[str] = ("model_name", "model")
    only: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """By a sample's name: values that a label must have for the sample to count."""

    def served(self, page: PrometheusPage) -> Mapping[str, ServedTotals | None]:
        if not any(page.has(name) for name in (*self.prompt, *self.completion)):
            return {}
        totals = ModelTotals(self.model_labels)
        for field_name, names in (
            ("prompt_tokens", self.prompt), ("cached_tokens", self.cached), ("completion_tokens", self.completion),
            ("requests", self.requests), ("failures", self.failures),
        ):  # fmt: skip
            for labels, value in self._samples(page, names):
                is_failure = field_name == "requests" and not self.failed.isdisjoint(labels.values())
                totals.add("failures" if is_failure else field_name, labels, value)
        for labels, value in page.counter(self.life_s, scale=1000):
            totals.add("life_ms", labels, value)
        return totals.by_model(page)

    def running(self, page: PrometheusPage) -> int | None:
        return running(page, self.in_flight)

    def _samples(self, page: PrometheusPage, names: Sequence[str]) -> Iterator[tuple[Labels, int | None]]:
        name = next((n for n in names if page.has(n)), None)
        if name is None:
            return
        required = self.only.get(name, {})
        for labels, value in page.counter((name,)):
            if value is None or all(labels.get(label) in values for label, values in required.items()):
                yield labels, value


class ModelTotals:
    """Sums of counters by model. A model with a value None is unreadable, and has no totals."""

    def __init__(self, model_labels: Sequence[str]) -> None:
        self._model_labels = model_labels
        self._totals: dict[str, dict[str, int]] = {}
        self._unreadable: set[str] = set()

    def add(self, field_name: str, labels: Labels, value: int | None) -> None:
        """Add a sample to a field of `ServedTotals`."""
        model = printable(next((labels[name] for name in self._model_labels if labels.get(name)), ""))
        totals = self._totals.setdefault(model, {})
        if value is None:
            self._unreadable.add(model)
        else:
            totals[field_name] = totals.get(field_name, 0) + value

    def by_model(self, page: PrometheusPage) -> Mapping[str, ServedTotals | None]:
        """Return the totals. Raises BadInput for an unreadable sample that names no model, where others name one."""
        if "" in self._unreadable and len(self._totals) > 1:
            raise BadInput("page", page.refused[0], "it names no model, so no model's total is known")
        return {
            model: None if model in self._unreadable else ServedTotals(**totals)
            for model, totals in self._totals.items()
        }


def running(page: PrometheusPage, names: Sequence[str]) -> int | None:
    """Return the sum of a gauge of requests in flight, None where the page has no readable value."""
    values = [value for _, value in page.counter(names) if value is not None]
    return sum(values) if values else None
