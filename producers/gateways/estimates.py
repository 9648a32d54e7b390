"""A later report of a call replaces the tokens that were estimated for it. Pure.

On the log it is two rows of one event: the estimate again, taken back (`requests` is -1), and the report (1). So the
sums of every window are those of the report. Who pays, where the call ran and when stay as they were first sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import numpy as np

from contracts.errors import BadInput
from contracts.events import TOKENS
from contracts.workload_names import EXTERNAL_PREFIX
from producers.api import WorkloadBatch
from producers.common.chunks import chunks
from producers.gateways.calls import (
    MAX_BYTES,
    MAX_ROWS,
    TOO_OLD,
    InferenceCall,
    WorkloadRows,
    batches,
    group_by_workload,
    row_bytes,
    spend_row,
)
from producers.gateways.deployments import Deployments
from producers.runtime.batching import RequestRow, UsageRow, decimal_text, token_batch, usage_batch
from producers.runtime.deduplication import REPEATED, DeduplicationTrial, KnownCalls
from producers.runtime.estimated_calls import is_estimate
from producers.runtime.refusals import read_each

REPLACED = "replaces_estimate"
"""Reason of a correction: a word that `/metrics` counts it by."""


class Replacement(NamedTuple):
    """The row that was sent for an estimated call, and the one that takes its place.

    `price` is what an outside provider's price grew by, None where it did not change.
    """

    cluster: str
    workload: str
    before: RequestRow
    after: RequestRow
    price: UsageRow | None = None


def is_report_of_estimate(row: RequestRow, identities: Iterable[str], known: KnownCalls) -> bool:
    """Return whether a call is known, but by an estimate, which this row can replace."""
    return not is_estimate(row) and any(map(known.is_estimate, identities))


def remember(trial: DeduplicationTrial, groups: Iterable[WorkloadRows], call: InferenceCall) -> None:
    """Remember what is sent for an estimated call: the only row of requests in these groups, and its price."""
    for group in groups:
        spend = call.spend if group.usage else ""
        for row in group.requests:
            trial.remember_estimate(group.cluster, group.workload, row, spend, call.identities)


def replacement(
    trial: DeduplicationTrial, report: InferenceCall, origin: str = "", *, oldest_ms: int = 0
) -> Replacement | None:
    """Return what replaces the estimate of a call, or None where none is known any more.

    `origin` is the origin of rows of usage. Raises BadInput where the estimate ended before `oldest_ms`: it stays.
    """
    estimate = trial.estimate_of(report.identities)
    if estimate is None:
        return None
    before = estimate.row
    if before.t_end_ms < oldest_ms:
        raise BadInput("end", before.t_end_ms, f"ended the estimate that this report would replace; it {TOO_OLD}")
    trial.take_estimate(estimate)
    after = before._replace(status=report.row.status, **{name: getattr(report.row, name) for name in TOKENS})
    grown = Decimal(report.spend or estimate.spend or "0") - Decimal(estimate.spend or "0")
    price = None
    if grown and estimate.workload.startswith(EXTERNAL_PREFIX):
        charged = report._replace(
            row=before, spend=decimal_text("spend", grown), identities=(f"report of {report.identities[0]}",)
        )
        price = spend_row(charged, origin)
    return Replacement(estimate.cluster, estimate.workload, before, after, price)


def replacement_batches(replacements: Sequence[Replacement], node: str) -> Iterator[WorkloadBatch]:
    """Yield the rows as batches, in order of cluster and workload. The two rows of a call stay in one event."""
    groups: dict[tuple[str, str], list[Replacement]] = {}
    for one in replacements:
        groups.setdefault((one.cluster, one.workload), []).append(one)
    for (cluster, workload), group in sorted(groups.items()):
        for part in chunks(group, lambda one: 2 * row_bytes(one.after), max_rows=MAX_ROWS // 2, max_bytes=MAX_BYTES):
            batch = token_batch([row for one in part for row in (one.before, one.after)], 0)
            yield WorkloadBatch(cluster, workload, replace(batch, requests=np.array([-1, 1] * len(part))), node)
            if prices := [one.price for one in part if one.price]:
                yield WorkloadBatch(cluster, workload, usage_batch(prices, 0), f"{node}#usage")


class CallBatches(NamedTuple):
    """Batches of calls, and by reason the reports that do not count, and those that replaced an estimate. `refused`
    says why others cannot replace one."""

    batches: list[WorkloadBatch]
    skipped: Counter[str]
    corrected: Counter[str]
    refused: list[str]


def call_batches(
    calls: Sequence[InferenceCall], reports: Sequence[InferenceCall], trial: DeduplicationTrial,
    deployments: Deployments, origin: str, node: str, *, oldest_ms: int = 0,
) -> CallBatches:  # fmt: skip
    """Return the batches of new calls, and of reports that replace estimates.

    Estimates among the new calls are remembered first: a body may hold the report of one. Those that ended before
    `oldest_ms` stay.
    """
    for call in calls:
        if is_estimate(call.row):
            remember(trial, group_by_workload([call], deployments, origin), call)
    refused = list[str]()
    placed = ((f"the report of {report.row.request_id}", report) for report in reports)
    matches = list(read_each(placed, partial(replacement, trial, origin=origin, oldest_ms=oldest_ms), refused))
    replaced = [one for one in matches if one is not None]
    new = batches(group_by_workload(calls, deployments, origin), node)
    repeated = Counter({REPEATED: len(matches) - len(replaced)})
    replaced_count = Counter({REPLACED: len(replaced)})
    return CallBatches([*new, *replacement_batches(replaced, node)], +repeated, +replaced_count, refused)
