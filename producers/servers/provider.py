"""What is wanted of an inference server: what it has served since it started, by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from producers.common.prometheus_text import Labels, PrometheusPage, first_present


class ServedTotals(NamedTuple):
    """Counts since the server's start. `life_ms` sums the requests' lives, where the tokens of a request are counted
    when it finishes; 0 where they are counted as they are made, or it is not known."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    failures: int = 0
    life_ms: int = 0


class InferenceMetricsProvider(Protocol):
    """One kind of server. `name` is what the configuration calls it."""

    @property
    def name(self) -> str: ...

    def served(self, page: PrometheusPage) -> Mapping[str, ServedTotals]:
        """By model ("" where the server does not say). Empty where the page is of another server.

        Raises BadInput for a counter that is none.
        """
        ...

    def running(self, page: PrometheusPage) -> int | None:
        """Requests in flight; None where the server does not say."""
        ...


@dataclass(frozen=True)
class NamedCounters:
    """A server whose samples say everything by themselves. Of several names the first that is on the page counts;
    samples that differ in other labels (engine, rank, reason) are summed.

    `failed` are values of any label that mark a request as a failure (`finished_reason="abort"`). `life_s` sums the
    seconds that finished requests took: given where tokens are counted at the finish.
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
    """By a sample's name: the values that a label of it must have to count."""

    def served(self, page: PrometheusPage) -> Mapping[str, ServedTotals]:
        if not any(name in page for name in (*self.prompt, *self.completion)):
            return {}
        found: dict[str, list[int]] = {}

        def add(at: int, names: Sequence[str]) -> None:
            for labels, value in self._samples(page, names):
                row = found.setdefault(self._model(labels), [0] * 6)
                failure = at == 3 and not self.failed.isdisjoint(labels.values())
                row[4 if failure else at] += value

        for at, names in enumerate((self.prompt, self.cached, self.completion, self.requests, self.failures)):
            add(at, names)
        for labels, seconds in ((labels, v) for n in self.life_s[:1] if n in page for labels, v in page[n]):
            found.setdefault(self._model(labels), [0] * 6)[5] += round(1000 * seconds)
        return {model: ServedTotals(*row) for model, row in found.items()}

    def running(self, page: PrometheusPage) -> int | None:
        found = list(first_present(page, self.in_flight))
        return sum(value for _, value in found) if found else None

    def _samples(self, page: PrometheusPage, names: Sequence[str]) -> list[tuple[Labels, int]]:
        name = next((n for n in names if n in page), "")
        wanted = self.only.get(name, {})
        return [
            (labels, value)
            for labels, value in first_present(page, names)
            if all(labels.get(label) in values for label, values in wanted.items())
        ]

    def _model(self, labels: Labels) -> str:
        return next((labels[name] for name in self.model_labels if labels.get(name)), "")
