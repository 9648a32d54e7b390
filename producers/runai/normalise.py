"""Samples to rows: each stands for its share of the window, exactly, in decimals. Pure.

Of a window for which `n` samples were asked, each stands for the n-th part: the samples at its ends, half-open at the
start so that the windows beside it do not count them too. What has no sample is not known, and so is in no row: a
workload that began half-way through a window is metered for the half that it was there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Literal
from urllib.parse import quote

from contracts.checks import MAX_TEXT
from contracts.errors import BadInput
from producers.runai.meters import METERS, RUNNING, WORKLOAD_MINUTES, RunAiMeter
from producers.runai.responses import Measurement, RunAiSample, epoch_ms
from producers.runai.windows import ReadUnit, RunAiWindow
from producers.runtime.batching import UsageRow, decimal_text

_EXACT = Context(prec=80)
_MINUTE_MS = 60_000
_CENT = Decimal("0.01")
MAX_LABELS = 8
MAX_DEVICES = 256
"""Measurements of one metric of one pod: one a GPU."""


@dataclass(frozen=True)
class TenantRule:
    """Who pays: the project's or department's name, or the tenant that `tenants` has for it. `other`, if given, is the
    tenant of those that it does not have."""

    by: Literal["project", "department"] = "project"
    tenants: Mapping[str, str] = field(default_factory=dict)
    other: str = ""

    def tenant(self, about: Mapping[str, str]) -> str:
        """ "" where Run:ai names nobody, or somebody whom the ledger cannot have: nobody is guessed."""
        name = about.get(self.by, "")
        tenant = self.tenants.get(name) or self.other or name
        return "" if tenant.startswith("__") else tenant


@dataclass(frozen=True)
class RowTerms:
    """What rows are made by. `origin` says which Run:ai; `samples` 0: one for each scrape."""

    origin: str
    rule: TenantRule = field(default_factory=TenantRule)
    samples: int = 0
    activity: Literal["ratio", "percent"] = "ratio"


@dataclass
class NormalisedRows:
    """Rows of a unit; how many samples each metric lacked; what could not be believed; metrics without an answer."""

    rows: list[UsageRow] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def normalise(unit: ReadUnit, measurements: Iterable[Measurement], terms: RowTerms) -> NormalisedRows:
    """What a call for a unit's metrics answered, as rows."""
    found, by_type = NormalisedRows(), dict[str, list[Measurement]]()
    for measurement in measurements:
        by_type.setdefault(measurement.type, []).append(measurement)
    asked = unit.window.samples(terms.samples)
    for metric in unit.metrics:
        answered = by_type.get(metric, [])
        if not answered:
            found.absent.append(metric)
            found.missing[metric] = asked
            continue
        if len(answered) > MAX_DEVICES:
            found.refused.append(f"{metric} of {unit.named}: {len(answered)} measurements, {MAX_DEVICES} are read")
        labelled = {_labels(m): m for m in answered[:MAX_DEVICES]}
        if len(labelled) < min(len(answered), MAX_DEVICES):
            found.refused.append(f"{metric} of {unit.named}: several measurements have the same labels, one is read")
        for labels, measurement in sorted(labelled.items()):
            _rows(unit, metric, dict(labels), measurement.values or [], asked, terms, found)
    return found


def _rows(
    unit: ReadUnit,
    metric: str,
    labels: Mapping[str, str],
    values: Sequence[RunAiSample],
    asked: int,
    terms: RowTerms,
    found: NormalisedRows,
) -> None:
    """The rows of one measurement, into `found`."""
    meter = METERS[unit.resource][metric]
    percent = meter.activity and terms.activity == "percent"
    at_most = Decimal(100) if percent else meter.at_most
    samples, odd = _samples(values, unit.window, at_most)
    if odd:
        limit = "" if at_most is None else f" and at most {at_most}"
        found.refused.append(f"{metric} of {unit.named}: {odd} samples are no number of at least 0{limit}")
    samples = samples[-asked:]
    if len(samples) < asked:
        found.missing[metric] = found.missing.get(metric, 0) + asked - len(samples)
    if not samples:
        return
    with localcontext(_EXACT):
        made = [(meter, metric, sum(samples, Decimal()) * (_CENT if percent else 1))]
    if unit.resource == "workload" and metric == RUNNING:
        made.append((WORKLOAD_MINUTES, "WORKLOAD", Decimal(sum(value > 0 for value in samples))))
    for each, name, total in made:
        try:
            quantity = decimal_text(each.meter, over_time(total, each.to_unit, unit.window, asked))
        except BadInput as error:
            found.refused.append(f"{metric} of {unit.named}: {error}")
            continue
        found.rows.append(_row(unit, each, name, labels, quantity, terms))


def over_time(total: Decimal, to_unit: Decimal, window: RunAiWindow, samples: int) -> Decimal:
    """The sum of a window's samples, each over its share of it, in the meter's unit: exact to some 80 digits."""
    with localcontext(_EXACT):
        return total * to_unit * (window.t1_ms - window.t0_ms) / (_MINUTE_MS * samples)


def _samples(values: Sequence[RunAiSample], window: RunAiWindow, at_most: Decimal | None) -> tuple[list[Decimal], int]:
    """Values in `(t0, t1]` in order of time, one a time; and how many cannot be true. One without a time counts as in
    it, at its place."""
    kept: dict[object, tuple[int, Decimal]] = {}
    odd = 0
    for place, sample in enumerate(values):
        t_ms = epoch_ms(sample.timestamp)
        if t_ms is not None and not window.t0_ms < t_ms <= window.t1_ms:
            continue
        said = "" if sample.value is None else str(sample.value)
        if said.lower() in ("", "nan"):
            continue  # What Prometheus writes where it has none: missing, not wrong.
        value = _value(said)
        if value is None or value < 0 or (at_most is not None and value > at_most):
            odd += 1
            continue
        kept[("at", t_ms) if t_ms is not None else ("place", place)] = (window.t1_ms if t_ms is None else t_ms, value)
    return [value for _, value in sorted(kept.values(), key=lambda found: found[0])], odd


def _value(said: str) -> Decimal | None:
    try:
        value = Decimal(said)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _labels(measurement: Measurement) -> tuple[tuple[str, str], ...]:
    told = sorted((measurement.labels or {}).items())[:MAX_LABELS]
    return tuple((printable(name), printable(value or "")) for name, value in told if printable(name))


def _row(
    unit: ReadUnit, meter: RunAiMeter, metric: str, labels: Mapping[str, str], quantity: str, terms: RowTerms
) -> UsageRow:
    about = {k: v for k, v in unit.about.items() if v}
    return UsageRow(
        meter.meter, meter.unit, quantity, unit.t0_ms, unit.t1_ms,
        tenant=terms.rule.tenant(unit.about),
        origin=f"{terms.origin}/{quote(unit.cluster_id, safe='')}",
        event_id=identity(unit, metric, labels),
        dimensions={"runai_workload_id": unit.workload_id, **about, **labels},
    )  # fmt: skip


def identity(unit: ReadUnit, metric: str, labels: Mapping[str, str]) -> str:
    """Which row this is, of whichever run, in whichever order: (cluster, workload, pod, metric, labels, window), each
    percent-encoded, so that no two share a text. One that would be too long is its digest."""
    named = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(labels.items()))
    parts = (unit.cluster_id, unit.workload_id, unit.pod_id, metric)
    text = "/".join([*(quote(p, safe="") for p in parts), named, f"{unit.t0_ms}-{unit.t1_ms}"])
    return text if len(text) <= MAX_TEXT else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def printable(text: str) -> str:
    """A text as the log takes it."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT])
