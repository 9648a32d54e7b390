"""Calls of models and other usage that gateways and instrumentation report, grouped by workload and cut into batches.

A call that a rule of `deployments` matches ran on the GPUs of that workload. A call that an external provider
served ran on no GPU of ours: it goes to the workload `external/PROVIDER`, with its price as `external_spend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.events import MAX_TEXT
from contracts.meter_names import EXTERNAL_SPEND
from contracts.settings import Settings
from contracts.workload_names import EXTERNAL_PREFIX
from producers.api import WorkloadBatch
from producers.common.chunks import chunks
from producers.gateways.deployments import Deployments
from producers.runtime.batching import RequestRow, UsageRow, text_bytes, token_batch, usage_batch

AGENTS_PREFIX = "agents/"
"""Precedes a service's name: the workload of what its agents used beside models."""
SPEND_UNIT = "USD"
UNKNOWN = "unknown"
"""Model or service that a call does not name, unless the configuration gives another."""
NO_TENANT = "no_tenant"
"""Correction of a call that names no tenant: `/metrics` counts by this word."""
TOO_OLD = "is older than the setting max_age_ms allows; correct its sender's clock, or replay it from a file"
MAX_ROWS, MAX_BYTES = 4_096, 600_000
"""Rows of one event, and the bytes that they take at most, estimated: a message may have a megabyte."""


class InferenceCall(NamedTuple):
    """One inference.

    By its `identities` a second report of the same call is recognised. If `external` is true and no rule matches,
    `provider` served it and charges `spend` for it (decimal text in USD, "" for nothing). `step` is the step of its
    session.
    """

    row: RequestRow
    identities: tuple[str, ...]
    external: bool = False
    provider: str = ""
    spend: str = ""
    step: str = ""


class AgentUsage(NamedTuple):
    """Usage other than an inference, such as a tool call, by the service or agent named `service`."""

    row: UsageRow
    service: str
    identities: tuple[str, ...]


class WorkloadRows(NamedTuple):
    """Rows of one workload."""

    cluster: str
    workload: str
    requests: list[RequestRow]
    usage: list[UsageRow]


def text_or_empty(text: str) -> str:
    """Return a text that a client may have chosen (a session, a step), or "" if the log cannot store it.

    A call is not refused for such a text, or clients could keep their calls off the bill.
    """
    return text if len(text) <= MAX_TEXT and text.isprintable() else ""


def max_ahead_ms(settings: Settings) -> int:
    """Return how far in the future (ms) the end of a call may be.

    It is less than the skew that stream workers accept, because the clock of this machine may be wrong too.
    """
    return settings.skew_ms // 2


def check_end_ms(end_ms: int, latest_ms: int, oldest_ms: int = 0) -> None:
    """Raise BadInput if a call ended after `latest_ms`, or before `oldest_ms`.

    A stream worker refuses a whole event from the future, so one wrong clock would take other calls of the event along.
    An old one would change a bill that was final long ago.
    """
    if end_ms < oldest_ms:
        raise BadInput("end", end_ms, TOO_OLD)
    if end_ms > latest_ms:
        raise BadInput("end", end_ms, "is in the future: correct the clock of its sender")


def group_by_workload(
    calls: Iterable[InferenceCall | AgentUsage], deployments: Deployments, origin: str
) -> list[WorkloadRows]:
    """Group the rows of calls by the workload that served them. `origin` is the origin of their rows of usage."""
    groups: dict[tuple[str, str], WorkloadRows] = {}

    def group(key: tuple[str, str]) -> WorkloadRows:
        return groups.setdefault(key, WorkloadRows(*key, [], []))

    own = []
    for call in calls:
        if isinstance(call, AgentUsage):
            group((deployments.cluster, f"{AGENTS_PREFIX}{call.service or UNKNOWN}"[:MAX_TEXT])).usage.append(call.row)
        elif call.external and deployments.match(call.row) is None:
            external = group((deployments.cluster, (EXTERNAL_PREFIX + call.provider)[:MAX_TEXT]))
            external.requests.append(deployments.bound(call.row))
            if call.spend:
                external.usage.append(spend_row(call, origin))
        else:
            own.append(call.row)
    for key, rows in deployments.group_by_workload(own).items():
        group(key).requests.extend(rows)
    return list(groups.values())


def batches(groups: Sequence[WorkloadRows], node: str) -> Iterator[WorkloadBatch]:
    """Yield the rows as batches, in order of cluster and workload. `node` is what they were read from.

    Requests and usage get different nodes, because the source of an event writes to one topic only.
    """
    for cluster, workload, requests, usage in sorted(groups, key=lambda group: group[:2]):
        for request_rows in chunks(requests, row_bytes, max_rows=MAX_ROWS, max_bytes=MAX_BYTES):
            yield WorkloadBatch(cluster, workload, token_batch(request_rows, 0), node)
        for usage_rows in chunks(usage, row_bytes, max_rows=MAX_ROWS, max_bytes=MAX_BYTES):
            yield WorkloadBatch(cluster, workload, usage_batch(usage_rows, 0), f"{node}#usage")


def row_bytes(row: RequestRow | UsageRow) -> int:
    """Return an upper bound of the bytes that a row takes in a message."""
    return sum(_size(value) for value in row)


def _size(value: object) -> int:
    """Return an upper bound of the bytes that a value takes in a message."""
    if isinstance(value, str):
        return text_bytes(value)
    return sum(_size(k) + _size(v) for k, v in value.items()) if isinstance(value, Mapping) else 8


def spend_row(call: InferenceCall, origin: str) -> UsageRow:
    """Return the price of a call that an outside provider served, as usage."""
    row, event_id = call.row, call.identities[0][:MAX_TEXT]
    return UsageRow(
        meter=EXTERNAL_SPEND,
        unit=SPEND_UNIT,
        quantity=call.spend,
        t0_ms=row.t_start_ms,
        t1_ms=row.t_end_ms,
        tenant=row.tenant,
        origin=origin,
        event_id=event_id,
        session_id=row.session_id,
        trace_id=row.trace_id,
        step=call.step,
        dimensions={"provider": call.provider, "model": row.model},
    )
