"""A page in Prometheus' text format, as samples by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from contracts.errors import BadInput

Labels = Mapping[str, str]
PrometheusPage = Mapping[str, Sequence[tuple[Labels, float]]]
"""By a sample's full name (`..._total`, `..._sum`): its labels and value."""

MAX_SAMPLES = 200_000
MAX_COUNT = 2**53
"""Above it a float misses whole numbers."""


def parse_page(text: str) -> PrometheusPage:
    """Raises BadInput for what is no such page, or an endless one."""
    found: dict[str, list[tuple[Labels, float]]] = {}
    # The parser ends the names of all counters with _total, as OpenMetrics does; servers do not.
    try:
        for n, sample in enumerate(s for family in text_string_to_metric_families(text) for s in family.samples):
            if n >= MAX_SAMPLES:
                raise BadInput("page", n, f"a page of at most {MAX_SAMPLES:,} samples can be read")
            name = sample.name if sample.name in text else sample.name.removesuffix("_total")
            found.setdefault(name, []).append((sample.labels, sample.value))
    except ValueError as error:
        raise BadInput("page", text[:60], f"not in Prometheus' text format: {error}") from None
    return found


def first_present(page: PrometheusPage, names: Sequence[str]) -> Iterator[tuple[Labels, int]]:
    """Samples of the first of these names that the page has, as whole numbers: old and new names of one counter.

    Raises BadInput for a value that no counter has.
    """
    for name in names:
        if name in page:
            for labels, value in page[name]:
                if not (math.isfinite(value) and 0 <= value < MAX_COUNT):
                    raise BadInput(name, value, "a counter is a number from 0 to 2^53")
                yield labels, round(value)
            return
