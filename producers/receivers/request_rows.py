"""Rows of requests that clients post: their workloads, and the identities by which a copy is recognised. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.codec import MAX_SOURCE
from contracts.errors import BadInput
from contracts.workload_names import UNMATCHED_PREFIX
from producers.gateways.calls import WorkloadRows
from producers.gateways.deployments import Deployments
from producers.receivers.request_items import RequestItem
from producers.runtime.batching import RequestRow
from producers.runtime.event_sequence import source_of

_LONGEST_NODE = "n" * 64


def check_source(item: RequestItem, deployments: Deployments) -> None:
    """Raise BadInput where the workload makes too long a source of events: it would take all others along."""
    cluster, workload = item.cluster, item.workload
    if not workload:
        cluster, workload = deployments.match(item.row) or (deployments.cluster, UNMATCHED_PREFIX + item.row.model)
    if len(source_of("requests-tokens", cluster, _LONGEST_NODE, workload)) > MAX_SOURCE:
        name = "workload" if item.workload else "model"
        raise BadInput(name, f"(a text of {len(workload)} characters)", "is too long once it is percent-encoded")


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
