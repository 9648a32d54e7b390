"""What gateways and instrumentation tell, on its way to batches: calls of a model, and what else was used.

A call that a rule (`deployments`) places ran on the GPUs of that workload. One that an external provider served ran on
none of ours: it goes to the workload `external/PROVIDER`, with what it cost as `external_spend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from contracts.errors import BadInput
from contracts.events import MAX_TEXT
from contracts.settings import Settings
from producers.gateways.deployments import Deployments
from producers.runtime.batching import RequestRow, UsageRow, text_bytes, token_batch, usage_batch
from producers.runtime.poll_loop import Made

EXTERNAL = "external/"
"""Before a provider's name: the workload of what others served."""
AGENTS = "agents/"
"""Before a service's name: the workload of what its agents used beside models."""
SPEND, USD = "external_spend", "USD"
"""Meter and unit of what a provider asks for a call."""
UNKNOWN = "unknown"
"""Pays for calls of which nothing says who does, unless told otherwise."""
MAX_ROWS, MAX_BYTES = 4_096, 600_000
"""Rows in one event, and about what they take: a message has at most a megabyte."""
Row = TypeVar("Row", RequestRow, UsageRow)


class InferenceCall(NamedTuple):
    """One inference. `names` are what it is known by, if it comes again. `external`: unless a rule says otherwise,
    `provider` served it, and asks `spend` for it (the log's decimal text of USD, "" for nothing). `step` is the one of
    its session that it belongs to."""

    row: RequestRow
    names: tuple[str, ...]
    external: bool = False
    provider: str = ""
    spend: str = ""
    step: str = ""


class AgentUsage(NamedTuple):
    """Something else that was used (a tool was called), by a service or agent of this name."""

    row: UsageRow
    by: str
    names: tuple[str, ...]


class WorkloadRows(NamedTuple):
    """Rows and the (cluster, workload) that they belong to."""

    cluster: str
    workload: str
    requests: list[RequestRow]
    usage: list[UsageRow]


def text_or_empty(text: str) -> str:
    """A text that a client may have chosen (a session, a step), if the log takes it; else "". What is said of a call
    beside who, what and when is no reason to lose it: a client could keep its calls off the bill."""
    return text if len(text) <= MAX_TEXT and text.isprintable() else ""


def max_ahead_ms(settings: Settings) -> int:
    """How far (ms) the end of a call may lie in the future: less than workers believe, for our clocks differ too."""
    return settings.skew_ms // 2


def check_end_ms(end_ms: int, latest_ms: int) -> None:
    """Raises BadInput for what ended later than it can have: a worker refuses an event from the future whole, so one
    clock that is wrong would take the calls beside it along."""
    if end_ms > latest_ms:
        raise BadInput("end", end_ms, "lies in the future: set the clock of whoever sent it")


def group_by_workload(
    calls: Iterable[InferenceCall | AgentUsage], deployments: Deployments, origin: str
) -> list[WorkloadRows]:
    """Calls by where they ran. `origin` names who told them, on rows of usage."""
    places: dict[tuple[str, str], WorkloadRows] = {}

    def at(place: tuple[str, str]) -> WorkloadRows:
        return places.setdefault(place, WorkloadRows(*place, [], []))

    ours = []
    for call in calls:
        if isinstance(call, AgentUsage):
            at((deployments.cluster, f"{AGENTS}{call.by or UNKNOWN}"[:MAX_TEXT])).usage.append(call.row)
        elif call.external and deployments.match(call.row) is None:
            here = at((deployments.cluster, (EXTERNAL + call.provider)[:MAX_TEXT]))
            here.requests.append(call.row)
            if call.spend:
                here.usage.append(_spent(call, origin))
        else:
            ours.append(call.row)
    for place, rows in deployments.group_by_workload(ours).items():
        at(place).requests.extend(rows)
    return list(places.values())


def batches(places: Sequence[WorkloadRows], node: str) -> Iterator[Made]:
    """As events, in the order of their places. `node` is what they were read from. Requests and usage have sources of
    their own: a source writes to one topic."""
    for cluster, workload, requests, usage in sorted(places, key=lambda p: p[:2]):
        for part in _parts(requests):
            yield Made(cluster, workload, token_batch(part, 0), node)
        for told in _parts(usage):
            yield Made(cluster, workload, usage_batch(told, 0), f"{node}#usage")


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """As many as one message holds."""
    part: list[Row] = []
    size = 0
    for row in rows:
        part.append(row)
        size += sum(_size(value) for value in row)
        if len(part) >= MAX_ROWS or size >= MAX_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _size(value: object) -> int:
    """Return an upper bound of the bytes that a value takes in a message."""
    if isinstance(value, str):
        return text_bytes(value)
    return sum(_size(k) + _size(v) for k, v in value.items()) if isinstance(value, Mapping) else 8


def _spent(call: InferenceCall, origin: str) -> UsageRow:
    row, event_id = call.row, call.names[0][:MAX_TEXT]
    return UsageRow(
        SPEND, USD, call.spend, row.t_start_ms, row.t_end_ms, row.tenant, origin, event_id, row.session_id,
        row.trace_id, call.step, {"provider": call.provider, "model": row.model},
    )  # fmt: skip
