"""Comparison of senders that report the same calls: a gateway and the application behind it, whose reports both count.

A receiver recognises copies of one sender only: else a sender could take another's call off the bill. So two senders
are compared here: calls of one workload with the same tokens that end at the same time are likely one call. Two busy
senders have such pairs by chance, too; how many is known from the same comparison with times that are moved apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from contracts.units import counted
from warehouse.audit.findings import SameCalls
from warehouse.periods import Period
from warehouse.reader import LedgerReader

SLOT_MS = 10_000
"""Ends of one call by two senders are in the same slot of time, but for those at its edge."""
LEAST_PAIRS = 10
"""Pairs beyond chance that a finding has at least."""
LEAST_COUNTS = 10
"""Different counts of tokens that the pairs of a finding have at least: probes with one prompt are alike by nature."""
APART_MS = 20_000
"""How far the times of two senders are moved apart to see how many pairs are chance."""
LEAST_SHARE = 0.5
"""Share of the smaller sender's calls that a finding has at least."""
CHANCE = 2.0
"""How many times the pairs by chance are taken off: they are few, and vary."""
MAX_WORKLOADS, MAX_REPORTERS, MAX_PAIRS, MAX_SENDERS = 1_000, 64, 10_000, 1_000
SAMPLE_CALLS = 1_000_000
"""Calls that are compared at most, about: of more, those of every n-th slot of time."""
_SPILL_BYTES = 500_000_000
_STOPS = {
    "litellm": "take Wattlog's callback out of LiteLLM's config.yaml (`callbacks`), or remove [produce.litellm]",
    "otel": "let the Collector export no traces of it, or name the spans that count in [produce.otel.spans] `scopes`",
    "otlp-logs": "take its event out of `logs` of [produce.otlp]",
    "otlp-metrics": "take its counter out of `metrics` of [produce.otlp]",
    "accesslog": "remove [produce.accesslog]",
    "requests": "post its calls to /v1/requests no more",
}
"""How to stop each sender without a credential."""


class Reporter(NamedTuple):
    """Sender of a call, and the application that it names."""

    sender: str
    application: str

    def __str__(self) -> str:
        return f"{self.sender} ({self.application})" if self.application else self.sender


def same_calls(reader: LedgerReader, period: Period) -> list[SameCalls]:
    """Return the pairs of senders that report the same calls of a workload, most calls first. For operators.

    Single requests that are no longer stored tell nothing.
    """
    span: dict[str, Any] = {"start_ms": period.start, "end_ms": period.end}
    bounded = {"max_bytes_before_external_group_by": _SPILL_BYTES, "max_bytes_before_external_sort": _SPILL_BYTES}
    rows = reader.ask("audit/reporters", settings=bounded, reporters=MAX_REPORTERS, limit=MAX_WORKLOADS, **span)
    if not rows:
        return []
    calls = {
        (row["of_cluster"], row["of_workload"], Reporter(sender, application)): count
        for row in rows
        for sender, application, count in row["reporters"]
    }
    sample = max(sum(calls.values()) // SAMPLE_CALLS, 1)
    places = [f"{row['of_cluster']}/{row['of_workload']}" for row in rows]

    senders = sorted({reporter for _, _, reporter in calls})[:MAX_SENDERS]

    def pairs(apart_ms: int) -> dict[tuple[str, str, Reporter, Reporter], tuple[int, int]]:
        answer = reader.ask(
            "audit/same_calls", settings=bounded, apart_ms=apart_ms, senders=senders, slot_ms=SLOT_MS,
            sample=sample, places=places, limit=MAX_PAIRS, **span,
        )  # fmt: skip
        return {
            (row["of_cluster"], row["of_workload"], Reporter(*row["first"]), Reporter(*row["second"])): (
                row["pairs"],
                row["counts"],
            )
            for row in answer
        }

    by_chance = pairs(APART_MS)
    findings = []
    for (cluster, workload, first, second), (count, counts) in pairs(0).items():
        chance, _ = by_chance.get((cluster, workload, first, second), (0, 0))
        beyond = count - CHANCE * chance
        of_first, of_second = (calls.get((cluster, workload, one), 0) for one in (first, second))
        if (
            counts >= LEAST_COUNTS
            and beyond >= LEAST_PAIRS
            and beyond * sample >= LEAST_SHARE * min(of_first, of_second)
        ):
            same = min(count * sample, of_first, of_second)
            findings.append(
                SameCalls(
                    calls=same, cluster=cluster, workload=workload, first=str(first), second=str(second),
                    of_first=of_first, of_second=of_second, stop=_stop(first, second),
                )
            )  # fmt: skip
    return sorted(findings, reverse=True)


def same_calls_sentence(finding: SameCalls) -> str:
    """Return a finding in words."""
    return (
        f"the same calls of workload {finding.cluster}/{finding.workload} from two senders, {finding.first} and "
        f"{finding.second}: about {counted(finding.calls, 'call')} ({finding.of_first:,} and {finding.of_second:,} in "
        "all) with the same tokens at the same time count twice"
    )


def _stop(first: Reporter, second: Reporter) -> str:
    """Return what stops each of the two: which one is to be kept is the reader's choice."""
    lines = ["# keep one of them: the one that knows who pays"]
    for one in dict.fromkeys((first.sender, second.sender)):
        way = _STOPS.get(one, f"let the holder of the credential {one} send these calls no more")
        lines.append(f"# without {one}: {way}")
    return "\n".join(lines)
