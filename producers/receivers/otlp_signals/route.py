"""The routes `/v1/metrics` and `/v1/logs`: OTLP over HTTP, read by the options of `[produce.otlp]`.

They count nothing unless metrics or events are named: a process that sends spans too would count twice. An exporter
gets 200 in any case; its `partial_success` says what was refused, and what does not count and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from contracts.events import TokenBatch
from contracts.workload_names import EXTERNAL_PREFIX
from producers.api import ParsedRequest, ReceivedRequest, Reply, Route, WorkloadBatch
from producers.gateways.calls import MAX_ROWS, NO_TENANT, batches, group_by_workload
from producers.gateways.deployments import Deployments
from producers.gateways.remarks import FirstRemarks
from producers.gateways.token_names import looks_like_a_count
from producers.receivers.otlp_signals.call_events import CALL_EVENTS, EVENT, ORIGIN, UNNAMED_SERVICE, EventReader
from producers.receivers.otlp_signals.decoding import LOGS, METRICS, Signal, SignalItem, decode_items, scalars
from producers.receivers.otlp_signals.operation_details import DETAILS, counts_for, is_details, read_details
from producers.receivers.otlp_signals.rules import SignalRules
from producers.receivers.otlp_signals.token_metrics import ORIGIN as METRICS_ORIGIN
from producers.receivers.otlp_signals.token_metrics import TOKEN_METRICS, MetricReader, MetricRow
from producers.runtime.batching import token_batch
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.refusals import shorten

METRICS_PATH, LOGS_PATH = "/v1/metrics", "/v1/logs"
METRICS_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
MAX_UNREAD = 4
"""Metrics or events with counts that are not read, of one answer."""
MAX_ERROR_CHARS = 400
"""Characters of the error message in an answer."""


def metrics_route(rules: SignalRules, names: Sequence[str], deployments: Deployments, ahead_ms: int) -> Route:
    """Return the route of metrics. `ahead_ms` is how far in the future a point may lie."""
    parse = partial(_parse_metrics, rules, names, deployments, ahead_ms, FirstRemarks())
    reply = partial(_reply, "metrics", "rejected_data_points")
    return Route(METRICS_PATH, "otlp-metrics", _bodies(METRICS), parse, reply, 200, grpc_method=METRICS_METHOD)


def logs_route(rules: SignalRules, names: Sequence[str], deployments: Deployments, ahead_ms: int) -> Route:
    """Return the route of logs. `ahead_ms` is how far in the future a record may lie."""
    parse = partial(_parse_logs, rules, names, deployments, ahead_ms, FirstRemarks())
    reply = partial(_reply, "logs", "rejected_log_records")
    return Route(LOGS_PATH, "otlp-logs", _bodies(LOGS), parse, reply, 200, grpc_method=LOGS_METHOD)


def _bodies(signal: Signal) -> Mapping[str, Mapping[str, Any]]:
    array = {"type": "array", "items": {"type": "object"}}
    return {PROTOBUF: {}, JSON: {"type": "object", "properties": {signal.resources: array}}}


def _parse_metrics(
    rules: SignalRules, names: Sequence[str], deployments: Deployments, ahead_ms: int, remarks: FirstRemarks,
    sent: ReceivedRequest, trial: DeduplicationTrial,
) -> ParsedRequest:  # fmt: skip
    items, malformed = decode_items(sent.body, METRICS, json=sent.content_type == JSON)
    unread = sorted({item.message.name for item in items if _is_unread_metric(item.message.name)})[:MAX_UNREAD]
    reader = MetricReader(rules, names, sent.caller.payer, sent.caller.name or METRICS_ORIGIN, sent.bounds)
    result = reader.read(items, trial, sent.now_ms + ahead_ms)
    known = {item.message.name for item in items if item.message.name in TOKEN_METRICS} - set(names)
    workload_batches = list(_metric_batches(result.rows, deployments.within(sent.may_use)))
    notes = deployments.new_notes()
    return ParsedRequest(
        workload_batches,
        [*malformed, *result.refused],
        result.skipped,
        [*notes, *remarks.new(map(_unread, unread))],
        {"off": [*_off(known, "metrics"), *map(_unread, unread)]},
    )


def _parse_logs(
    rules: SignalRules, names: Sequence[str], deployments: Deployments, ahead_ms: int, remarks: FirstRemarks,
    sent: ReceivedRequest, trial: DeduplicationTrial,
) -> ParsedRequest:  # fmt: skip
    items, malformed = decode_items(sent.body, LOGS, json=sent.content_type == JSON)
    named = DETAILS in names
    details = [item for item in items if is_details(item)]
    counted = [item for item in details if named and counts_for(item, rules)]
    others = [item for item in items if not (named and is_details(item))]
    reading = sent.caller.payer, sent.caller.name or ORIGIN, sent.bounds
    reader = EventReader(rules, [name for name in names if name != DETAILS], *reading)
    result = reader.read(others, trial, sent.now_ms + ahead_ms)
    of_details = read_details(counted, rules, trial, sent.now_ms + ahead_ms, *reading)
    skipped = Counter(result.skipped) + Counter(of_details.skipped)
    skipped[UNNAMED_SERVICE] += len(details) - len(counted) if named else 0
    any_event = EventReader(rules, tuple(CALL_EVENTS))
    events = [DETAILS if is_details(item) else any_event.event_of(item) for item in items]
    known = {event for event in events if event and event not in names}
    others_with_counts = {_name_of(item) for item, event in zip(items, events, strict=True)
                          if not event and _has_unread_counts(item)}  # fmt: skip
    unread = sorted(others_with_counts - CALL_EVENTS.keys())[:MAX_UNREAD]
    calls = [*result.calls, *of_details.calls]
    workload_batches = list(batches(group_by_workload(calls, deployments.within(sent.may_use), ORIGIN), ""))
    notes = deployments.new_notes()
    return ParsedRequest(
        workload_batches,
        [*malformed, *result.refused, *of_details.refused],
        +skipped,
        [*notes, *remarks.new([*of_details.remarks, *map(_unread, unread)])],
        {"off": [*_off(known, "logs"), *map(_unread, unread)]},
        corrected=Counter(result.corrected) + Counter(of_details.corrected),
    )


def _off(names: set[str], option: str) -> list[str]:
    """Return a sentence on metrics or events that could count and are not configured, if there are any."""
    return [f"{', '.join(sorted(names))} can count, if produce.otlp.{option} names them"] if names else []


def _unread(name: str) -> str:
    """Return a sentence on a metric or an event that looks like a count of tokens."""
    return f"{shorten(name)} has counts of tokens that are not read"


def _is_unread_metric(name: str) -> bool:
    return name not in TOKEN_METRICS and looks_like_a_count(name)


def _has_unread_counts(item: SignalItem) -> bool:
    """Return whether a record has a number that looks like a count of tokens."""
    return any(
        looks_like_a_count(pair.key) and (pair.value.int_value > 0 or pair.value.double_value > 0)
        for pair in item.message.attributes
    )


def _name_of(item: SignalItem) -> str:
    """Return the name of an event, "a record" without one."""
    names = scalars(item.message.attributes, (EVENT,))
    return str(names.get(EVENT) or getattr(item.message, "event_name", "") or "a record")


def _metric_batches(rows: Sequence[MetricRow], deployments: Deployments) -> list[WorkloadBatch]:
    """Return the rows as batches by workload, with the number of requests that each stands for."""
    groups: dict[tuple[str, str], list[MetricRow]] = {}
    for one in rows:
        key = deployments.match(one.row)
        if key is None and one.provider:
            key = (deployments.cluster, f"{EXTERNAL_PREFIX}{one.provider}")
        if key is None:
            [key] = deployments.group_by_workload([one.row])
        groups.setdefault(key, []).append(one._replace(row=deployments.bound(one.row)))
    return [
        WorkloadBatch(cluster, workload, _counted(group[start : start + MAX_ROWS]))
        for (cluster, workload), group in sorted(groups.items())
        for start in range(0, len(group), MAX_ROWS)
    ]


def _counted(rows: Sequence[MetricRow]) -> TokenBatch:
    batch = token_batch([one.row for one in rows], 0)
    return replace(batch, requests=np.array([one.requests for one in rows], np.int64))


def _reply(signal: str, field: str, sent: ReceivedRequest, parsed: ParsedRequest) -> Reply:
    """Return OTLP's response with status 200, in the encoding of the request.

    What was refused is rejected. What does not count is not: then the count is 0 and the message a warning.
    """
    rejected, sentences = len(parsed.refused), list(parsed.refused)
    off = parsed.answer.get("off")
    sentences += off if isinstance(off, list) else []
    sentences += [f"not counted: {n} ({reason})" for reason, n in parsed.skipped.items() if reason != REPEATED]
    sentences += [f"corrected: {n} ({reason})" for reason, n in parsed.corrected.items() if reason != NO_TENANT]
    message = "; ".join(sentences)[:MAX_ERROR_CHARS]
    if sent.content_type == JSON:
        words = field.split("_")
        camel = words[0] + "".join(map(str.capitalize, words[1:]))
        partial_success = {"partialSuccess": {camel: str(rejected), "errorMessage": message}}
        return Reply(200, msgspec.json.encode(partial_success if message else {}), JSON)
    return Reply(200, _response(signal, field, rejected, message), PROTOBUF)


def _response(signal: str, field: str, rejected: int, message: str) -> bytes:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    response: Any = ExportMetricsServiceResponse() if signal == "metrics" else ExportLogsServiceResponse()
    if message:
        setattr(response.partial_success, field, rejected)
        response.partial_success.error_message = message
    return bytes(response.SerializeToString())
