"""Rows of requests that clients post: their workloads, and the identities by which a copy is recognised. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from contracts.codec import MAX_SOURCE
from contracts.errors import BadInput
from contracts.workload_names import UNMATCHED_PREFIX
from producers.gateways.calls import InferenceCall, WorkloadRows
from producers.gateways.deployments import Deployments
from producers.gateways.estimates import Replacement, is_report_of_estimate, remember, replacement
from producers.receivers.request_items import RequestItem
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.estimated_calls import is_estimate
from producers.runtime.event_sequence import source_of

_LONGEST_NODE = "n" * 64
Sent = TypeVar("Sent")
"""What a request was sent as, such as its index in the body."""


class SortedRequests(NamedTuple, Generic[Sent]):
    """Requests that are new, reports that replace the estimate of one that is known, what arrived before, and reports
    that come too late."""

    new: list[RequestItem]
    replacements: list[Replacement]
    repeated: list[tuple[Sent, RequestItem]]
    refused: list[tuple[Sent, BadInput]]


def sort_requests(
    items: Iterable[tuple[Sent, RequestItem]], trial: DeduplicationTrial, deployments: Deployments,
    identity: Callable[[Sent, RequestRow], str], oldest_ms: int,
) -> SortedRequests[Sent]:  # fmt: skip
    """Sort requests by whether they arrived before, and add the new ones to `trial`.

    A report of an estimate that ended before `oldest_ms` is refused.
    """
    result = SortedRequests[Sent]([], [], [], [])
    for sent, item in items:
        call = InferenceCall(item.row, (identity(sent, item.row),))
        if not trial.has(call.identities[0]):
            trial.add(call.identities, estimated=is_estimate(item.row))
            if is_estimate(item.row):
                remember(trial, grouped([item], deployments), call)
            result.new.append(item)
            continue
        try:
            is_report = is_report_of_estimate(item.row, call.identities, trial)
            new = replacement(trial, call, oldest_ms=oldest_ms) if is_report else None
        except BadInput as error:
            result.refused.append((sent, error))
            continue
        if new is None:
            result.repeated.append((sent, item))
        else:
            result.replacements.append(new)
    return result


def check_source(item: RequestItem, deployments: Deployments) -> tuple[str, str]:
    """Return the cluster and the workload of a request.

    Raises BadInput where they make too long a source of events: it would take all others along.
    """
    cluster, workload = item.cluster, item.workload
    if not workload:
        cluster, workload = deployments.match(item.row) or (deployments.cluster, UNMATCHED_PREFIX + item.row.model)
    if len(source_of("requests-tokens", cluster, _LONGEST_NODE, workload)) > MAX_SOURCE:
        name = "workload" if item.workload else "model"
        raise BadInput(name, f"(a text of {len(workload)} characters)", "is too long once it is percent-encoded")
    return cluster, workload


def identity_of(row: RequestRow) -> str:
    """Return the identity by which a request that arrives again is recognised. An id is a tenant's own."""
    return f"request {len(row.tenant)} {row.tenant} {row.request_id}"


def grouped(items: Sequence[RequestItem], deployments: Deployments) -> list[WorkloadRows]:
    """Group rows by the workload that they name, or that a rule names for them."""
    groups: dict[tuple[str, str], WorkloadRows] = {}
    for item in items:
        if item.workload:
            placed = {(item.cluster, item.workload): [deployments.bound(item.row)]}
        else:
            placed = dict(deployments.group_by_workload([item.row]))
        for key, rows in placed.items():
            groups.setdefault(key, WorkloadRows(*key, [], [])).requests.extend(rows)
    return list(groups.values())
