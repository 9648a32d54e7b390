"""Names that do not meet: workloads with tokens and no GPU, beside workloads with GPUs and no tokens in the same hours.

A gateway calls a workload `chat` and the agents of its GPUs call it `llama`: every tenant's cost is open, and the
energy is idle. The ledger cannot know that both are one, so a person is asked, with the lines of configuration that
would join them (`warehouse.audit.joining_lines`). Each hour is judged alone: names that met in the morning may not meet
in the afternoon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from contracts import topics
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs, counted, rfc3339
from contracts.workload_names import EXTERNAL_PREFIX, UNMATCHED_PREFIX
from warehouse.audit.findings import HoursApart, WorkloadWithoutGpu
from warehouse.audit.joining_lines import PlacedName, TokensApart, joining_lines
from warehouse.chargeback.rollups import hours_or_windows
from warehouse.periods import Period
from warehouse.reader import LedgerReader

MAX_WORKLOADS = 1_000
"""Workloads that are looked at, those with most tokens first."""
MAX_SPANS = 1_000
"""Spans of hours of each kind of a workload that are looked at, the newest."""
MAX_CANDIDATES = 3
"""Workloads with GPUs that are named where several may be meant."""
MAX_NAMED_SPANS = 3
"""Spans of hours that a finding names, the newest."""
EDGE_HOURS = 2
"""Hours at the ends of a span in which both names may have GPUs: names change within an hour."""
_RECENT_MS = MS_PER_DAY
_SPILL_BYTES = 500_000_000

Hours = frozenset[int]
"""Numbers of hours since 1970."""


class _Workload(NamedTuple):
    """A workload: its tokens, requests and models in the hours apart; its hours apart, met and alone with GPUs."""

    cluster: str
    workload: str
    tokens: int
    requests: int
    models: Sequence[str]
    apart: Hours
    met: Hours
    alone: Hours


def names_apart(reader: LedgerReader, period: Period) -> list[WorkloadWithoutGpu]:
    """Return the workloads that have requests and no measured energy in an hour, most tokens first. For operators.

    Workloads with GPUs alone are no finding by themselves: a training job has no requests.
    """
    return [finding for _, finding in _judged(reader, period)]


def recent_names_apart(reader: LedgerReader, final_end_ms: int, span_ms: int = _RECENT_MS) -> list[WorkloadWithoutGpu]:
    """Return `names_apart` of the ledger's last hours: those that begin in `span_ms` before the newest final window.

    Workloads whose names have met since are left out.
    """
    start_ms = (final_end_ms - span_ms) // MS_PER_HOUR * MS_PER_HOUR
    end_ms = -(-final_end_ms // MS_PER_HOUR) * MS_PER_HOUR
    judged = _judged(reader, Period(EpochMs(max(start_ms, 0)), EpochMs(end_ms)))
    return [finding for workload, finding in judged if max(workload.apart) > max(workload.met, default=0)]


def _judged(reader: LedgerReader, period: Period) -> list[tuple[_Workload, WorkloadWithoutGpu]]:
    rows = reader.ask(
        "audit/names_apart",
        fragments=hours_or_windows(period),
        settings={"max_bytes_before_external_group_by": _SPILL_BYTES},
        start_ms=period.start,
        end_ms=period.end,
        external=EXTERNAL_PREFIX,
        limit=MAX_WORKLOADS,
        spans=MAX_SPANS,
    )
    workloads = [
        _Workload(
            row["of_cluster"], row["of_workload"], row["tokens"], row["requests"], row["models"],
            *(_hours(row[kind]) for kind in ("apart", "met", "alone")),
        )
        for row in rows
    ]  # fmt: skip
    with_tokens = [workload for workload in workloads if workload.apart]
    if not with_tokens:
        return []
    with_gpus = [workload for workload in workloads if workload.alone]
    kinds = _source_kinds(reader, with_tokens)
    return [(workload, _finding(workload, with_tokens, with_gpus, kinds)) for workload in with_tokens]


def _hours(spans: Iterable[tuple[int, int]]) -> Hours:
    return frozenset(hour for first, end in spans for hour in range(first, end))


def sentence(finding: WorkloadWithoutGpu) -> str:
    """Return a finding in words. The hours are named where the names meet in others."""
    when = _when(finding) if finding.met else ""
    tokens = f"workload {finding.cluster}/{finding.workload} has tokens and no GPU{when}"
    if finding.partner:
        gpus = f"{finding.partner_cluster}/{finding.partner}"
        return f"{tokens}, workload {gpus} has GPUs and no tokens{' then' if when else ''}: the same?"
    if finding.candidates:
        return f"{tokens}; with GPUs and no tokens{' then' if when else ''}: {', '.join(finding.candidates)}"
    return f"{tokens}: no agent {'reported' if when else 'reports'} GPUs of this name{' then' if when else ''}"


def _when(finding: WorkloadWithoutGpu) -> str:
    texts = [f"from {rfc3339(span.start)} to {rfc3339(span.end)}" for span in finding.apart]
    if len(texts) == 1:
        return f" {texts[0]}"
    return f" in {counted(finding.hours_apart, 'hour')}, the newest {' and '.join(texts)}"


def _finding(
    workload: _Workload, with_tokens: Sequence[_Workload], with_gpus: Sequence[_Workload], kinds: dict[str, str]
) -> WorkloadWithoutGpu:
    candidates, certain = _candidates(workload, with_tokens, with_gpus)
    partner = candidates[0] if certain else None
    apart = TokensApart(workload.cluster, workload.workload, workload.models, kinds.get(_ending(workload), ""))
    by_model = {model: [o for o in candidates if _is_of_model(o, model)] for model in workload.models}
    return WorkloadWithoutGpu(
        tokens=workload.tokens,
        requests=workload.requests,
        cluster=workload.cluster,
        workload=workload.workload,
        partner_cluster=partner.cluster if partner else "",
        partner=partner.workload if partner else "",
        candidates=[] if partner else [f"{other.cluster}/{other.workload}" for other in candidates[:MAX_CANDIDATES]],
        join=joining_lines(
            apart,
            [PlacedName(other.cluster, other.workload) for other in (candidates if not partner else [partner])],
            {model: PlacedName(*of[0][:2]) for model, of in by_model.items() if len(of) == 1},
            is_met=bool(workload.met),
        ),
        met=bool(workload.met or (partner and partner.met)),
        hours_apart=len(workload.apart),
        apart=_spans(workload.apart)[-MAX_NAMED_SPANS:],
    )


def _spans(hours: Hours) -> list[HoursApart]:
    """Return hours as spans without a gap, in the order of time."""
    starts = sorted(hour for hour in hours if hour - 1 not in hours)
    ends = sorted(hour + 1 for hour in hours if hour + 1 not in hours)
    return [
        HoursApart(EpochMs(start * MS_PER_HOUR), EpochMs(end * MS_PER_HOUR))
        for start, end in zip(starts, ends, strict=True)
    ]


def _candidates(
    workload: _Workload, with_tokens: Sequence[_Workload], with_gpus: Sequence[_Workload]
) -> tuple[Sequence[_Workload], bool]:
    """Return the workloads with GPUs that are most likely the same, and whether a single one stands out."""
    likely = [(_likeness(workload, other), other) for other in with_gpus if _fits(workload, other)]
    if best := max((likeness for likeness, _ in likely), default=0):
        alike = [other for likeness, other in likely if likeness == best]
        return alike, len(alike) == 1
    alone = sum(other.cluster == workload.cluster and _fits_hours(workload, other.apart) for other in with_tokens) == 1
    in_cluster = [other for _, other in likely if other.cluster == workload.cluster]
    return in_cluster, alone and len(in_cluster) == 1


def _fits(workload: _Workload, other: _Workload) -> bool:
    """Return whether GPUs were alone while tokens were apart, and not also beside the tokens' own GPUs.

    A training job, or a model that is idle, is there in the other hours, too.
    """
    both = len(other.alone & workload.met)
    return _fits_hours(workload, other.alone) and both <= EDGE_HOURS * len(_spans(workload.apart))


def _fits_hours(workload: _Workload, hours: Hours) -> bool:
    return 2 * len(hours & workload.apart) > len(workload.apart)


def _likeness(workload: _Workload, other: _Workload) -> int:
    """Return how alike two names are: 0 (not at all) to 3 (the same name in another cluster)."""
    if workload.workload == other.workload:
        return 3
    name, gpus = _letters(workload.workload.removeprefix(UNMATCHED_PREFIX)), _letters(other.workload)
    if name == gpus or _letters(_last_part(workload.workload)) == _letters(_last_part(other.workload)):
        return 2
    if workload.cluster != other.cluster or min(len(name), len(gpus)) < _SHORT:
        return 0
    return int(name in gpus or gpus in name or any(_is_of_model(other, model) for model in workload.models))


_SHORT = 3
"""Length of a name below which its being a part of another says nothing."""


def _is_of_model(other: _Workload, model: str) -> bool:
    """Return whether the name of GPUs is a part of a model's name, or has it as a part."""
    name, gpus = _letters(model), _letters(other.workload)
    return min(len(name), len(gpus)) >= _SHORT and (gpus in name or name in gpus)


def _last_part(name: str) -> str:
    """Return a model's name without the organization that published it."""
    return name.rpartition("/")[2]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _source_kinds(reader: LedgerReader, workloads: Iterable[_Workload]) -> dict[str, str]:
    """Return the kind of the source that sent each workload's tokens, by the ending of the source's text."""
    endings = [_ending(workload) for workload in workloads]
    rows = reader.ask("audit/token_sources", topic=topics.TOKENS, endings=endings, limit=10 * MAX_WORKLOADS)
    kinds: dict[str, str] = {}
    for row in rows:
        kind, _, path = row["source"].partition("://")
        kinds["/" + path.rpartition("/")[2]] = kind
    return kinds


def _ending(workload: _Workload) -> str:
    return "/" + quote(workload.workload, safe="")
