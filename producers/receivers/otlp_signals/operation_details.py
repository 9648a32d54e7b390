"""Reads calls from the event `gen_ai.client.inference.operation.details` of OpenTelemetry's conventions. Pure.

It has the attributes of the span of the same call, and that span's ids. So it is read as that span, by the rules of
spans, and is known by the same identity: of the two, the first that arrives counts. It is the only report of a call
whose span is not sampled or not sent. An event has one time, the end of the call. It does not say which agent is around
it: where an agent has counted for its calls, no event of the trace counts, and the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.errors import BadInput
from producers.gateways.calls import InferenceCall, text_or_empty
from producers.gateways.otel.genai import NESTED, GenAIReader, SpanCalls
from producers.gateways.otel.span_rules import SpanRules
from producers.gateways.otel.span_tree import agents_mark, events_mark
from producers.gateways.otel.spans import CLIENT, AttributeValue, Span, SpanSelection
from producers.receivers.otlp_signals.decoding import SignalItem, flat_scalars, scalars
from producers.receivers.otlp_signals.rules import SERVICE, SignalRules
from producers.runtime.call_bounds import CallBounds
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.refusals import read_each
from producers.runtime.series_totals import series_of

DETAILS = "gen_ai.client.inference.operation.details"
EVENT = "event.name"
_IDS = ("gen_ai.response.id",)


def is_details(item: SignalItem) -> bool:
    """Return whether a record is this event."""
    names = scalars(item.message.attributes, (EVENT,))
    return DETAILS in (getattr(item.message, "event_name", ""), names.get(EVENT))


def read_details(
    items: Sequence[SignalItem], rules: SignalRules, trial: DeduplicationTrial, latest_ms: int,
    payer: Callable[[str], str], sender: str, bounds: CallBounds,
) -> SpanCalls:  # fmt: skip
    """Read the calls of events, and add the new ones to `trial`."""
    own = SpanRules(tenant=rules.tenant, otherwise=rules.otherwise, session=rules.session, other_calls="none")
    reader, refused = GenAIReader(own, payer, sender=sender, bounds=bounds), list[str]()
    placed = ((f"event {number} of {DETAILS}", item) for number, item in enumerate(items, 1))
    spans = list(read_each(placed, lambda item: _span(item, reader.selection), refused))
    alone = [span for span in spans if not trial.has(agents_mark(span.trace_id))]
    result = reader.read(alone, trial, latest_ms)
    trial.add([events_mark(call.row.trace_id) for call in result.calls if isinstance(call, InferenceCall)])
    skipped = Counter(result.skipped) + Counter({NESTED: len(spans) - len(alone)})
    return result._replace(refused=[*refused, *result.refused], skipped=skipped)


def _span(item: SignalItem, selection: SpanSelection) -> Span:
    """Return the span of the call that an event is of."""
    record = item.message
    end_ns = record.time_unix_nano or record.observed_time_unix_nano
    if end_ns <= 0:
        raise BadInput("timeUnixNano", end_ns, "give Unix nanoseconds")
    attributes = flat_scalars(record.attributes, selection)
    resource = item.resource.scalars(selection.attributes)
    trace_id, span_id = record.trace_id.hex(), record.span_id.hex()
    if not (trace_id and span_id):
        trace_id, span_id = trace_id or "event", _identity(item, attributes, end_ns)
    return Span(
        trace_id, span_id, "", CLIENT, end_ns, end_ns, failed=False, scope=item.scope, attributes=attributes,
        resource=resource, event_ns=0,
    )  # fmt: skip


def _identity(item: SignalItem, attributes: Mapping[str, AttributeValue], end_ns: int) -> str:
    """Return by what an event outside of a span is recognised: its answer's id, or else all that is read of it."""
    ids: Mapping[str, Any] = scalars(item.message.attributes, _IDS)
    if text := text_or_empty(str(ids.get(_IDS[0], ""))):
        return f"event {text}"[:128]
    digest = series_of(str(end_ns).encode(), repr(sorted(attributes.items())).encode(), item.resource.encoded)
    return f"event {digest:x}"


def counts_for(item: SignalItem, rules: SignalRules) -> bool:
    """Return whether the service of an event counts."""
    return rules.counts(item.resource.scalars({*rules.names(), SERVICE}))
