"""Names that do not meet: workloads with tokens and no GPU, beside workloads with GPUs and no tokens.

A gateway calls a workload `chat` and the agents of its GPUs call it `llama`: every tenant's cost is open, and the
energy is idle. The ledger cannot know that both are one, so a person is asked, with the line of configuration that
would join them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from glob import escape
from typing import NamedTuple
from urllib.parse import quote

from contracts import topics
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs
from contracts.workload_names import EXTERNAL_PREFIX, UNMATCHED_PREFIX
from warehouse.audit.findings import WorkloadWithoutGpu
from warehouse.chargeback.rollups import hours_or_windows
from warehouse.periods import Period
from warehouse.reader import LedgerReader

MAX_WORKLOADS = 1_000
"""Workloads that are looked at, those with most tokens first."""
MAX_CANDIDATES = 3
"""Workloads with GPUs that are named where several may be meant."""
MAX_MODELS = 16
"""Models of a workload that the lines of configuration name."""
_OPTIONS = {
    "accesslog": "accesslog", "litellm": "litellm", "otel": "otel", "otlp": "otel", "otlp-metrics": "otlp",
    "otlp-logs": "otlp", "requests": "requests", "cloudevents": "requests",
}  # fmt: skip
"""Kinds of sources whose options have rules named `deployments`, with the name of the options."""
_RECENT_MS = MS_PER_DAY


class _Workload(NamedTuple):
    """A workload, its tokens and requests, and the models of its requests."""

    cluster: str
    workload: str
    tokens: int
    requests: int
    models: Sequence[str]


def names_apart(reader: LedgerReader, period: Period) -> list[WorkloadWithoutGpu]:
    """Return the workloads that have requests and no measured energy in a period, most tokens first. For operators.

    Workloads with GPUs alone are no finding by themselves: a training job has no requests.
    """
    rows = reader.ask(
        "audit/names_apart",
        fragments=hours_or_windows(period),
        start_ms=period.start,
        end_ms=period.end,
        external=EXTERNAL_PREFIX,
        limit=MAX_WORKLOADS,
    )
    workloads = [
        _Workload(row["of_cluster"], row["of_workload"], row["tokens"], row["requests"], row["models"]) for row in rows
    ]
    with_tokens = [workload for workload in workloads if workload.requests]
    if not with_tokens:
        return []
    with_gpus = [workload for workload in workloads if not workload.requests]
    kinds = _source_kinds(reader, with_tokens)
    return [_finding(workload, with_tokens, with_gpus, kinds) for workload in with_tokens]


def recent_names_apart(reader: LedgerReader, final_end_ms: int, span_ms: int = _RECENT_MS) -> list[WorkloadWithoutGpu]:
    """Return `names_apart` of the ledger's last hours: those that begin in `span_ms` before the newest final window.

    A workload whose names met before its last hour, and do not meet in it, is among them.
    """
    findings = _recent(reader, final_end_ms, span_ms)
    if span_ms <= MS_PER_HOUR:
        return findings
    seen = {(one.cluster, one.workload) for one in findings}
    newer = _recent(reader, final_end_ms, MS_PER_HOUR)
    return findings + [one for one in newer if (one.cluster, one.workload) not in seen]


def _recent(reader: LedgerReader, final_end_ms: int, span_ms: int) -> list[WorkloadWithoutGpu]:
    start_ms = (final_end_ms - span_ms) // MS_PER_HOUR * MS_PER_HOUR
    end_ms = -(-final_end_ms // MS_PER_HOUR) * MS_PER_HOUR
    return names_apart(reader, Period(EpochMs(max(start_ms, 0)), EpochMs(end_ms)))


def sentence(finding: WorkloadWithoutGpu) -> str:
    """Return a finding in words."""
    tokens = f"workload {finding.cluster}/{finding.workload} has tokens and no GPU"
    if finding.partner:
        gpus = f"{finding.partner_cluster}/{finding.partner}"
        return f"{tokens}, workload {gpus} has GPUs and no tokens: the same?"
    if finding.candidates:
        return f"{tokens}; with GPUs and no tokens: {', '.join(finding.candidates)}"
    return f"{tokens}: no agent reports GPUs of this name"


def _finding(
    workload: _Workload, with_tokens: Sequence[_Workload], with_gpus: Sequence[_Workload], kinds: dict[str, str]
) -> WorkloadWithoutGpu:
    candidates, certain = _candidates(workload, with_tokens, with_gpus)
    partner = candidates[0] if certain else None
    return WorkloadWithoutGpu(
        tokens=workload.tokens,
        requests=workload.requests,
        cluster=workload.cluster,
        workload=workload.workload,
        partner_cluster=partner.cluster if partner else "",
        partner=partner.workload if partner else "",
        candidates=[] if partner else [f"{other.cluster}/{other.workload}" for other in candidates[:MAX_CANDIDATES]],
        join=_join(workload, partner, kinds.get(_ending(workload), "")),
    )


def _candidates(
    workload: _Workload, with_tokens: Sequence[_Workload], with_gpus: Sequence[_Workload]
) -> tuple[Sequence[_Workload], bool]:
    """Return the workloads with GPUs that are most likely the same, and whether a single one stands out."""
    likely = [(_likeness(workload, other), other) for other in with_gpus]
    if best := max((likeness for likeness, _ in likely), default=0):
        alike = [other for likeness, other in likely if likeness == best]
        return alike, len(alike) == 1
    alone = sum(other.cluster == workload.cluster for other in with_tokens) == 1
    in_cluster = [other for other in with_gpus if other.cluster == workload.cluster]
    return in_cluster, alone and len(in_cluster) == 1


def _likeness(workload: _Workload, other: _Workload) -> int:
    """Return how alike two names are: 0 (not at all) to 3 (the same name in another cluster)."""
    if workload.workload == other.workload:
        return 3
    name, gpus = _letters(workload.workload.removeprefix(UNMATCHED_PREFIX)), _letters(other.workload)
    if name == gpus or _letters(_last_part(workload.workload)) == _letters(_last_part(other.workload)):
        return 2
    if workload.cluster != other.cluster or min(len(name), len(gpus)) < _SHORT:
        return 0
    models = [_letters(model) for model in workload.models]
    return int(name in gpus or gpus in name or any(gpus in model or model in gpus for model in models if model))


_SHORT = 3
"""Length of a name below which its being a part of another says nothing."""


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


def _join(workload: _Workload, partner: _Workload | None, kind: str) -> str:
    """Return lines of configuration that would join a workload's tokens with its GPUs, to be pasted as they are."""
    name, cluster = (partner.workload, partner.cluster) if partner else ("WORKLOAD", workload.cluster)
    place = [f"workload = {_quoted(name)}"]
    place += [f"cluster = {_quoted(cluster)}"] if cluster != workload.cluster else []
    options = _OPTIONS.get(kind.removesuffix("-tokens"))
    unmatched = workload.workload.startswith(UNMATCHED_PREFIX)
    if options is None:
        lines = [
            "# in the entry of [[produce.servers.at]] or [[produce.servers.pods]] that reads it",
            *place,
        ]
    else:
        models = [workload.workload.removeprefix(UNMATCHED_PREFIX)] if unmatched else workload.models[:MAX_MODELS]
        patterns = [escape(model) for model in models] or ["*"]
        lines = ["# above the other rules of this kind: the first that matches counts"]
        for pattern in patterns:
            lines += [f"[[produce.{options}.deployments]]", f"model = {_quoted(pattern)}", *place]
        if options == "requests" and not unmatched:
            lines += [f"# or let its sender post {place[0]}, if it names {workload.workload}"]
    if partner and not unmatched:
        if partner.workload == workload.workload:
            lines += [f"# or WATTLOG_CLUSTER={workload.cluster} on the nodes of its GPUs"]
        else:
            lines += [
                f"# or the name {workload.workload} for its GPUs (WATTLOG_WORKLOAD, a label, or a rule of bindings)"
            ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return a text as TOML has it. Names have no control characters."""
    return json.dumps(text, ensure_ascii=False)
