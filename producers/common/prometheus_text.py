"""Pages in Prometheus' text format, as samples by name. A malformed line is left out; the others are read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from contracts.errors import BadInput

Labels = Mapping[str, str]

MAX_SAMPLES = 200_000
MAX_LINE_CHARS = 16_384
"""The parser's time grows with the square of a line's length."""
MAX_KEPT_CHARS = 2_000
"""Characters that are kept of a malformed line, to find its labels."""
MAX_REFUSED = 1_000
"""Malformed lines on one page. A page with more is refused as a whole."""
MAX_COUNT = 2**53
"""Above it a float cannot represent every whole number."""
_LABEL = re.compile(r'\b([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


class RefusedLine(NamedTuple):
    """A line of a page that cannot be read, and why."""

    text: str
    reason: str

    def __str__(self) -> str:
        text = self.text if len(self.text) <= 120 else self.text[:117] + "..."
        return f"{text!r}: {self.reason}"

    @property
    def labels(self) -> Labels:
        """Labels that are complete in spite of the fault. They tell whose sample the line is."""
        return dict(_LABEL.findall(self.text))


@dataclass(slots=True, frozen=True)
class PrometheusPage:
    """Samples of one page. `samples` maps a sample's full name (`..._total`, `..._sum`) to its labels and values.

    `malformed` are the lines that could not be read, `refused_values` the values that a reader of the page refused.
    `newest_s` maps a sample's name to the newest timestamp of its lines, of those that have one.
    """

    samples: Mapping[str, Sequence[tuple[Labels, float]]]
    malformed: Sequence[RefusedLine] = ()
    refused_values: list[RefusedLine] = field(default_factory=list)
    newest_s: Mapping[str, float] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Return True if a sample of this name, or a malformed line with it, is on the page."""
        return name in self.samples or any(name in line.text for line in self.malformed)

    def get(self, name: str) -> Sequence[tuple[Labels, float]]:
        """Return the samples of this name; none where the page does not have it."""
        return self.samples.get(name, ())

    def counter(self, names: Sequence[str], *, scale: int = 1) -> Iterator[tuple[Labels, int | None]]:
        """Yield labels and values of a counter, in whole numbers of 1/`scale` of its unit.

        `names` are old and new names of one counter: the first that is on the page counts. A sample whose value cannot
        be a count (NaN, infinite, negative, above 2^53), or whose line is malformed, has the value None.
        """
        for name in names:
            if not self.has(name):
                continue
            yield from ((line.labels, None) for line in self.malformed if name in line.text)
            for labels, value in self.get(name):
                count = value * scale
                if math.isfinite(count) and 0 <= count < MAX_COUNT:
                    yield labels, round(count)
                else:
                    self.refuse(name, value, "a counter is a number from 0 to 2^53")
                    yield labels, None
            return

    def timestamp_ms(self, name: str, max_ms: int) -> int | None:
        """Return a time in seconds since 1970 as epoch ms; None where it is absent or no time up to `max_ms`."""
        return next((time_ms for _, time_ms in self.timestamps_ms(name, max_ms)), None)

    def timestamps_ms(self, name: str, max_ms: int) -> Iterator[tuple[Labels, int]]:
        """Yield labels and epoch ms of each sample of a time in seconds since 1970, without those above `max_ms`."""
        for labels, value in self.get(name):
            if math.isfinite(value) and 0 <= 1000 * value <= max_ms:
                yield labels, round(1000 * value)
            else:
                self.refuse(name, value, "a time is given in seconds since 1970")

    def created_ms(self, name: str) -> Mapping[frozenset[tuple[str, str]], int]:
        """Return when each series of a counter began to count, by its labels, as OpenMetrics' `..._created` says."""
        base = re.sub(r"_(total|sum|count)$", "", name)
        created = ((labels, value) for labels, value in self.get(f"{base}_created") if 0 < value < MAX_COUNT)
        return {frozenset(labels.items()): round(1000 * value) for labels, value in created}

    @property
    def refused(self) -> list[str]:
        """Sentences on everything that was left out of this page so far."""
        return [str(line) for line in (*self.malformed, *self.refused_values)]

    def refuse(self, name: str, value: object, reason: str) -> None:
        """Report that a reader of the page leaves a value out."""
        self.refused_values.append(RefusedLine(f"{name} {value}", reason))


def parse_page(text: str) -> PrometheusPage:
    """Parse a page; leave malformed lines out and keep them in `malformed`.

    Raises BadInput for a text without a readable sample but with others, with more than MAX_REFUSED malformed lines, or
    with more than MAX_SAMPLES samples.
    """
    samples: dict[str, list[tuple[Labels, float]]] = {}
    malformed: list[RefusedLine] = []
    newest_s: dict[str, float] = {}
    count = 0
    for line in map(str.strip, text.removeprefix("\ufeff").split("\n")):
        if not line or line.startswith("#"):
            continue
        try:
            name, labels, value, time_s = _parse_line(line)
        except Exception as error:
            malformed.append(RefusedLine(line[:MAX_KEPT_CHARS], str(error)[:120] or "not a sample"))
            if len(malformed) > MAX_REFUSED:
                raise BadInput("page", text[:60], f"over {MAX_REFUSED:,} lines are not Prometheus' text") from None
            continue
        count += 1
        if count > MAX_SAMPLES:
            raise BadInput("page", count, f"a page of at most {MAX_SAMPLES:,} samples can be read")
        samples.setdefault(name, []).append((labels, value))
        if time_s is not None:
            newest_s[name] = max(newest_s.get(name, time_s), time_s)
    if malformed and not samples:
        raise BadInput("page", text[:60], f"not in Prometheus' text format: {malformed[0].reason}")
    return PrometheusPage(samples, malformed, newest_s=newest_s)


def _parse_line(line: str) -> tuple[str, Labels, float, float | None]:
    if len(line) > MAX_LINE_CHARS:
        raise ValueError(f"longer than {MAX_LINE_CHARS:,} characters")
    if "}" not in line and len(line.split()) < 2:
        raise ValueError("has no value")  # The parser would take the last letter of `NaN` for one.
    # A line by itself: one that fails leaves the others alone, and no type in a comment changes a sample's name.
    ((sample,),) = (family.samples for family in text_string_to_metric_families(line))
    float(sample.value)  # Raises OverflowError for whole numbers that no float can hold.
    return sample.name, sample.labels, sample.value, None if sample.timestamp is None else float(sample.timestamp)
