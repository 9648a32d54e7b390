"""Counters of one kind of inference server or gateway: tokens and requests since its start, by series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from contracts.errors import BadInput
from producers.bindings.claims import tenant_fault
from producers.common.printable import printable
from producers.common.prometheus_text import Labels, PrometheusPage
from producers.servers.counter_names import terms_on

NO_TENANT = frozenset({"", "None", "unknown"})
"""Values of a tenant's label that gateways write for a caller they do not know."""


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


class CounterSeries(NamedTuple):
    """One counter of a page: a sample by its name and labels. `value` is None where it cannot be read.

    `column` is the field of `ServedTotals` that it adds to. `tenant` is "" where the page names none. `created_ms` is
    when the series began to count, None where the page does not say (`..._created`).
    """

    name: str
    labels: Labels
    column: str
    model: str
    value: int | None
    tenant: str = ""
    created_ms: int | None = None

    @property
    def key(self) -> str:
        """Identity of the series: a digest of its name and labels."""
        text = repr((self.name, self.column, sorted(self.labels.items())))
        return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class NamedCounters:
    """Reader of a page whose single samples say everything, by their names (`counter_names`).

    Of several names of one counter, the first that is on the page counts. Samples that differ in other labels (engine,
    rank, reason) are summed. `failed` are values of any label that mark a request as a failure
    (`finished_reason="abort"`). `life_s` sums the seconds that finished requests took: give it where tokens are counted
    at the finish; `live` are names of prompt tokens that are counted as they are made, so that `life_s` does not apply.
    `copies` are labels of processes that count the same tokens: of samples that differ in them only, one counts.
    `tenant_labels` name the tenant; the first that has a value counts.
    """

    name: str
    prompt: Sequence[str] = ()
    completion: Sequence[str] = ()
    cached: Sequence[str] = ()
    requests: Sequence[str] = ()
    failures: Sequence[str] = ()
    life_s: Sequence[str] = ()
    in_flight: Sequence[str] = ()
    failed: frozenset[str] = frozenset()
    model_labels: Sequence[str] = ("model_name", "model")
    tenant_labels: Sequence[str] = ()
    copies: Sequence[str] = ()
    live: Sequence[str] = ()

    def series(self, page: PrometheusPage) -> Sequence[CounterSeries]:
        tokens = (*self.prompt, *self.completion) or (*self.requests, *self.failures)
        if not terms_on(page, tokens):
            return ()
        is_live = bool(terms_on(page, self.live))
        result: list[CounterSeries] = []
        for column, names in (
            ("prompt_tokens", self.prompt), ("cached_tokens", self.cached), ("completion_tokens", self.completion),
            ("requests", self.requests), ("failures", self.failures), ("life_ms", () if is_live else self.life_s),
        ):  # fmt: skip
            for term in terms_on(page, names):
                created_ms = page.created_ms(term.name)
                for labels, value in page.counter((term.name,), scale=1000 if column == "life_ms" else 1):
                    if value is None or term.matches(labels):
                        is_failure = column == "requests" and not self.failed.isdisjoint(labels.values())
                        result.append(
                            CounterSeries(
                                term.name, labels, "failures" if is_failure else column, self._model(labels), value,
                                tenant=self._tenant(page, term.name, labels),
                                created_ms=created_ms.get(frozenset(labels.items())),
                            )
                        )  # fmt: skip
        return _without_copies(result, frozenset(self.copies))

    def served(self, page: PrometheusPage) -> Mapping[str, ServedTotals | None]:
        return served_totals(page, self.series(page))

    def running(self, page: PrometheusPage) -> int | None:
        return running(page, self.in_flight)

    def _model(self, labels: Labels) -> str:
        return printable(next((labels[name] for name in self.model_labels if labels.get(name)), ""))

    def _tenant(self, page: PrometheusPage, name: str, labels: Labels) -> str:
        values = (labels.get(label, "") for label in self.tenant_labels)
        tenant = printable(next((value for value in values if value not in NO_TENANT), ""))
        if not tenant:
            return ""
        if fault := tenant_fault(tenant):
            page.refuse(name, tenant, f"it cannot be a tenant, so the configured one pays: {fault}")
            return ""
        return tenant


def _without_copies(series: list[CounterSeries], copies: frozenset[str]) -> Sequence[CounterSeries]:
    """Return one series for those that differ in the labels `copies` only: the highest, without these labels.

    So it goes on when one of them leaves the page.
    """
    if not copies:
        return series
    chosen: dict[tuple[object, ...], CounterSeries] = {}
    for s in series:
        own = {label: value for label, value in s.labels.items() if label not in copies}
        group = (s.name, s.column, *sorted(own.items()))
        if group not in chosen or (s.value or 0) > (chosen[group].value or 0):
            chosen[group] = s._replace(labels=own)
    return list(chosen.values())


def served_totals(page: PrometheusPage, series: Iterable[CounterSeries]) -> Mapping[str, ServedTotals | None]:
    """Return the sums of series by model; None for a model with a series that cannot be read.

    Raises BadInput for an unreadable series that names no model, where others name one.
    """
    totals: dict[str, dict[str, int]] = {}
    unreadable: set[str] = set()
    for s in series:
        of_model = totals.setdefault(s.model, {})
        if s.value is None:
            unreadable.add(s.model)
        else:
            of_model[s.column] = of_model.get(s.column, 0) + s.value
    if "" in unreadable and len(totals) > 1:
        raise BadInput("page", page.refused[0], "it names no model, so no model's total is known")
    return {model: None if model in unreadable else ServedTotals(**columns) for model, columns in totals.items()}


def running(page: PrometheusPage, names: Sequence[str]) -> int | None:
    """Return the sum of a gauge of requests in flight, None where the page has no readable value."""
    values = [value for _, value in page.counter(names) if value is not None]
    return sum(values) if values else None
