"""Converts samples to rows: each sample stands for its share of the window, in exact decimals. Pure.

If `n` samples of a window are requested, each stands for the n-th part of it. Samples at the start of the window belong
to the one before, so that no sample counts twice. A part without a sample is unknown, and is in no row: a workload that
began in the middle of a window is metered for half of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from operator import itemgetter
from typing import Literal
from urllib.parse import quote

from contracts.checks import MAX_TEXT
from contracts.errors import BadInput
from producers.common.printable import printable
from producers.runai.meters import METERS, RUNNING, WORKLOAD_MINUTES, RunAiMeter
from producers.runai.responses import RunAiMeasurement, RunAiSample, epoch_ms
from producers.runai.windows import ReadUnit, RunAiWindow
from producers.runtime.batching import UsageRow, decimal_text
from producers.runtime.refusals import read_each

_EXACT = Context(prec=80)
_MINUTE_MS = 60_000
_CENT = Decimal("0.01")
MAX_LABELS = 8
MAX_DEVICES = 256
"""Measurements of one metric of one pod: one for each GPU."""
_MAX_EXPONENT = 40
"""A sample with more digits than this before the point is implausible."""


@dataclass(frozen=True)
class TenantRule:
    """The rule for who pays: the tenant that `tenants` has for the project (or department), else `other`, else its
    own name.
    """

    by: Literal["project", "department"] = "project"
    tenants: Mapping[str, str] = field(default_factory=dict)
    other: str = ""

    def tenant(self, about: Mapping[str, str]) -> str:
        """Return the tenant, or "" if Run:ai names none, or one that the ledger cannot have. None is guessed."""
        name = about.get(self.by, "")
        tenant = self.tenants.get(name) or self.other or name
        return "" if tenant.startswith("__") else tenant


@dataclass(frozen=True)
class RowTerms:
    """Terms by which rows are made. `origin` names the Run:ai. If `samples` is 0, there is one for each scrape."""

    origin: str
    rule: TenantRule = field(default_factory=TenantRule)
    samples: int = 0
    activity: Literal["ratio", "percent"] = "ratio"


@dataclass
class NormalisedRows:
    """Rows of a unit, missing samples by metric, errors of what is implausible, and metrics without an answer."""

    rows: list[UsageRow] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def normalise(unit: ReadUnit, measurements: Iterable[RunAiMeasurement], terms: RowTerms) -> NormalisedRows:
    """Return the rows of the measurements that one call for a unit returned."""
    result, by_type = NormalisedRows(), dict[str, list[RunAiMeasurement]]()
    for measurement in measurements:
        by_type.setdefault(measurement.type, []).append(measurement)
    samples = unit.window.samples(terms.samples)
    for metric in unit.metrics:
        answered = by_type.get(metric, [])
        if not answered:
            result.absent.append(metric)
            result.missing[metric] = samples
            continue
        if len(answered) > MAX_DEVICES:
            result.refused.append(f"{metric} of {unit.title}: {len(answered)} measurements, {MAX_DEVICES} are read")
        labelled = {_labels(m): m for m in answered[:MAX_DEVICES]}
        if len(labelled) < min(len(answered), MAX_DEVICES):
            result.refused.append(f"{metric} of {unit.title}: several measurements have the same labels, one is read")
        placed = ((f"{metric} of {unit.title}", item) for item in sorted(labelled.items(), key=itemgetter(0)))

        def add(item: tuple[tuple[tuple[str, str], ...], RunAiMeasurement], metric: str = metric) -> None:
            labels, measurement = item
            _add_rows(unit, metric, dict(labels), measurement.values or [], samples, terms, result)

        for _ in read_each(placed, add, result.refused):
            pass
    return result


def _add_rows(
    unit: ReadUnit, metric: str, labels: Mapping[str, str], values: Sequence[RunAiSample], requested: int,
    terms: RowTerms, result: NormalisedRows,
) -> None:  # fmt: skip
    """Add the rows of one measurement to `result`."""
    meter = METERS[unit.resource][metric]
    percent = meter.activity and terms.activity == "percent"
    at_most = Decimal(100) if percent else meter.at_most
    samples, implausible = _samples(values, unit.window, at_most)
    if implausible:
        limit = "" if at_most is None else f" and at most {at_most}"
        result.refused.append(f"{metric} of {unit.title}: {implausible} samples are no number of at least 0{limit}")
    samples = samples[-requested:]
    if len(samples) < requested:
        result.missing[metric] = result.missing.get(metric, 0) + requested - len(samples)
    if not samples:
        return
    totals = [(meter, metric, _total(samples, percent=percent))]
    if unit.resource == "workload" and metric == RUNNING:
        totals.append((WORKLOAD_MINUTES, "WORKLOAD", Decimal(sum(value > 0 for value in samples))))
    for total_meter, name, total in totals:
        try:
            amount = over_window(total, total_meter.to_unit, unit.window, requested)
            quantity = decimal_text(total_meter.meter, amount)
        except BadInput as error:
            result.refused.append(f"{metric} of {unit.title}: {error}")
            continue
        result.rows.append(_row(unit, total_meter, name, labels, quantity, terms))


def _total(samples: Sequence[Decimal], *, percent: bool) -> Decimal:
    with localcontext(_EXACT):
        return sum(samples, Decimal()) * (_CENT if percent else 1)


def over_window(total: Decimal, to_unit: Decimal, window: RunAiWindow, samples: int) -> Decimal:
    """Return the sum of a window's samples, each over its share of it, in the meter's unit, to some 80 digits."""
    with localcontext(_EXACT):
        return total * to_unit * (window.t1_ms - window.t0_ms) / (_MINUTE_MS * samples)


def _samples(values: Sequence[RunAiSample], window: RunAiWindow, at_most: Decimal | None) -> tuple[list[Decimal], int]:
    """Return the values in `(t0, t1]` in order of time, one for each time, and the number of implausible ones.

    A sample without a time counts as one of the window, at its place in the list.
    """
    kept: dict[object, tuple[int, Decimal]] = {}
    implausible = 0
    for place, sample in enumerate(values):
        t_ms = epoch_ms(sample.timestamp)
        if t_ms is not None and not window.t0_ms < t_ms <= window.t1_ms:
            continue
        text = "" if sample.value is None else str(sample.value)
        if text.lower() in ("", "nan"):
            continue  # Prometheus writes this where it has no value: the sample is missing, not wrong.
        value = _value(text)
        if value is None or value < 0 or (at_most is not None and value > at_most):
            implausible += 1
            continue
        kept[("at", t_ms) if t_ms is not None else ("place", place)] = (window.t1_ms if t_ms is None else t_ms, value)
    return [value for _, value in sorted(kept.values(), key=lambda item: item[0])], implausible


def _value(text: str) -> Decimal | None:
    """Return a finite number of at most 41 digits before the point, or None for another text."""
    try:
        value = Decimal(text)
    except Exception:
        return None
    return value if value.is_finite() and value.adjusted() <= _MAX_EXPONENT else None


def _labels(measurement: RunAiMeasurement) -> tuple[tuple[str, str], ...]:
    labels = sorted((measurement.labels or {}).items())[:MAX_LABELS]
    return tuple((printable(name), printable(value or "")) for name, value in labels if printable(name))


def _row(
    unit: ReadUnit, meter: RunAiMeter, metric: str, labels: Mapping[str, str], quantity: str, terms: RowTerms
) -> UsageRow:
    about = {k: v for k, v in unit.about.items() if v}
    return UsageRow(
        meter=meter.meter,
        unit=meter.unit,
        quantity=quantity,
        t0_ms=unit.t0_ms,
        t1_ms=unit.t1_ms,
        tenant=terms.rule.tenant(unit.about),
        origin=f"{terms.origin}/{quote(unit.cluster_id, safe='')}",
        event_id=row_id(unit, metric, labels),
        dimensions={"runai_workload_id": unit.workload_id, **about, **labels},
    )


def row_id(unit: ReadUnit, metric: str, labels: Mapping[str, str]) -> str:
    """Return the id of a row, the same in each run: cluster, workload, pod, metric, labels and window.

    The parts are percent-encoded, so that no two rows share an id. An id that would be too long is a digest.
    """
    named = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(labels.items()))
    parts = (unit.cluster_id, unit.workload_id, unit.pod_id, metric)
    text = "/".join([*(quote(p, safe="") for p in parts), named, f"{unit.t0_ms}-{unit.t1_ms}"])
    return text if len(text) <= MAX_TEXT else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
