"""Makes rows of requests and usage of single spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS
from producers.gateways.calls import NO_TENANT, UNKNOWN, AgentUsage, InferenceCall, text_or_empty
from producers.gateways.checked_rows import NEEDED, request_row
from producers.gateways.otel.span_meters import EndpointCall
from producers.gateways.otel.span_roles import AGENT_NAMES, MODELS, TOOL_NAMES, Role, SpanRole
from producers.gateways.otel.span_rules import SERVICE, SpanRules
from producers.gateways.otel.span_tree import SpanTree
from producers.gateways.otel.spans import AttributeValue, Span
from producers.gateways.otel.token_names import ATTRIBUTES as TOKEN_ATTRIBUTES
from producers.gateways.otel.token_names import MAX_NAMES, reported_usage, unread_counts
from producers.gateways.otel.trace_memory import CallCounts
from producers.gateways.token_usage import settle
from producers.runtime.batching import UsageRow, decimal_text

ORIGIN = "otel"
PROVIDERS = (
    "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider", "mlflow.llm.provider",
    "decision.provider",
)  # fmt: skip
FIRST_S = (
    "gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token", "gen_ai.latency.time_to_first_token",
)  # fmt: skip
FIRST_MS = ("ai.response.msToFirstChunk", "ttft_ms")
IN_MS = "strands."
"""Scopes that write the attributes of `FIRST_S` in milliseconds: those of Strands Agents."""
FIRST_TIME = ("langfuse.observation.completion_start_time",)
FIRST_EVENTS = (
    "gen_ai.first_token", "first_token", "First Token Stream Event", "llm.content.completion.chunk",
    "ai.stream.firstChunk",
)  # fmt: skip
QUEUE_S = ("gen_ai.latency.time_in_queue",)
ERROR_TYPE, HTTP_STATUS, ADDRESS, PORT = "error.type", "http.response.status_code", "server.address", "server.port"
ATTRIBUTES = frozenset({
    *PROVIDERS, *FIRST_S, *FIRST_MS, *FIRST_TIME, *QUEUE_S, ERROR_TYPE, HTTP_STATUS, ADDRESS, PORT, SERVICE,
})  # fmt: skip
BAD_COUNT, TOO_LONG = "count_left_out", "longer_than_6_h"
"""Corrections: words that `/metrics` counts them by."""
WITHOUT_TOKENS = frozenset({"image", "video", "audio", "moderation", "ocr", "rerank"})
"""Kinds of endpoints whose calls need no token counts."""
METERS: Mapping[Role, str] = {Role.TOOL: "tool_calls", Role.AGENT: "agent_calls"}
_REPORTS = frozenset({*NEEDED, "total_tokens"})
_BREAKDOWNS = ("route", "application", "user", "feature", "priority", "region")
_NO_TOKENS = dict.fromkeys(NEEDED, 0)


class SpanReader:
    """Makes rows of spans. `payer` maps the tenant that a span names ("" for none) to the one that pays.

    `sender` is who reports them.
    """

    def __init__(self, rules: SpanRules, payer: Callable[[str], str], sender: str) -> None:
        self._rules, self._payer, self._sender = rules, payer, sender

    def call(
        self, span: Span, role: SpanRole, tree: SpanTree, corrected: Counter[str]
    ) -> tuple[InferenceCall, CallCounts, bool]:
        """Return the call of a span, its counts, and whether it reports any. Raises BadInput for what is wrong.

        What was corrected is counted in `corrected` by reason.
        """
        failed = is_failed(span)
        provider, model = _text(span, PROVIDERS), model_of(span)
        usage, invalid = reported_usage(span.attributes, provider, model)
        reports = bool(_REPORTS & usage.counts.keys())
        if not reports and not invalid and not failed and role.endpoint not in WITHOUT_TOKENS:
            hint = "is needed, or an error: for streams, let the client send stream_options.include_usage"
            if unread := unread_counts(span.attributes):
                hint = f"is needed; {', '.join(sorted(unread)[:MAX_NAMES])} cannot be read"
            raise BadInput(TOKEN_ATTRIBUTES[0].name, None, hint)
        settled = settle(usage)
        corrected.update(settled.corrections)
        counts = settled.counts
        for column in invalid:
            if column not in NEEDED:
                corrected[BAD_COUNT] += 1
        status = text_or_empty(_text(span, (ERROR_TYPE,))) or str(_number(span, HTTP_STATUS) or "") or "error"
        start_ms, end_ms = span.start_ns // 1_000_000, span.end_ns // 1_000_000
        if start_ms > 0 and end_ms - start_ms > MAX_SPAN_MS:
            start_ms = end_ms - MAX_SPAN_MS
            corrected[TOO_LONG] += 1
        counts["cached_tokens"] = min(counts["cached_tokens"], counts["prompt_tokens"])
        columns = {
            **counts, **{name: invalid[name] for name in NEEDED if name in invalid},
            "status": status if failed else "ok", "trace_id": text_or_empty(span.trace_id),
            "api_base": text_or_empty(_address(span)), "session_id": self._attribute(self._rules.session, span, tree),
            "sender": self._sender, "provider": text_or_empty(provider),
            "endpoint": role.endpoint, "queue_ms": _queue_ms(span),
            **{name: self._attribute(getattr(self._rules, name), span, tree) for name in _BREAKDOWNS},
        }  # fmt: skip
        tenant = self._payer_of(span, tree)
        if not tenant:
            corrected[NO_TENANT] += 1
        row = request_row(
            tenant=tenant or self._rules.otherwise, model=model or UNKNOWN, request_id=span_name(span),
            start_ms=start_ms,
            first_ms=_first_ms(span), end_ms=end_ms, columns=columns,
        )  # fmt: skip
        compared = CallCounts(row.prompt_tokens, row.cached_tokens, row.completion_tokens)
        # An agent's span is a row of usage too, so its tokens have another name.
        name = row.request_id if role.role is Role.CALL else f"{row.request_id} tokens"
        identities = tree.identities(span, name, compared)
        step = self._attribute(self._rules.step, span, tree)
        return InferenceCall(row, identities, step=step), compared, reports

    def usage(self, span: Span, role: Role, tree: SpanTree) -> AgentUsage:
        """Return one unit of the meter of tool calls or agent calls."""
        tool, agent = text_or_empty(_text(span, TOOL_NAMES)), text_or_empty(_text(span, AGENT_NAMES))
        dimensions = {"tool": tool, "agent": agent, "status": "error" if span.failed else "ok"}
        row = self._usage_row(span, tree)
        row = row._replace(meter=METERS[role], step=row.step or tool or agent, dimensions=_with_values(dimensions))
        return AgentUsage(row, _service(span), (row.event_id,))

    def endpoint_usage(self, span: Span, call: EndpointCall, tree: SpanTree) -> list[AgentUsage]:
        """Return the meters of a call of an endpoint: calls, failures, seconds, and the amounts that the span has."""
        row = self._usage_row(span, tree)
        tools = (text_or_empty(_text(outer, TOOL_NAMES)) for outer in tree.ancestors(span))
        row = row._replace(step=row.step or next((tool for tool in tools if tool), ""), dimensions=call.dimensions)
        seconds = decimal_text("duration", Decimal(max(0, span.end_ns - span.start_ns)) / 10**9)
        amounts = [(call.meter, "1", "1"), (f"{call.kind}_seconds", "s", seconds)]
        amounts += [(f"{call.kind}_failures", "1", "1")] if call.failed else []
        amounts += [(f"{call.kind}_{end}", unit, quantity) for end, unit, quantity in call.amounts]
        rows = (row._replace(meter=meter, unit=unit, quantity=quantity) for meter, unit, quantity in amounts)
        return [AgentUsage(one, _service(span), (row.event_id,)) for one in rows]

    def _usage_row(self, span: Span, tree: SpanTree) -> UsageRow:
        """Return a row of usage of one unit, without a meter."""
        # Read as a call, so that times and tenant are checked alike.
        row = request_row(
            tenant=self._payer_of(span, tree) or self._rules.otherwise, model="none", request_id=span_name(span),
            start_ms=span.start_ns // 1_000_000, first_ms=None, end_ms=span.end_ns // 1_000_000, columns=_NO_TOKENS,
        )  # fmt: skip
        return UsageRow(
            meter="", unit="1", quantity="1", t0_ms=row.t_start_ms, t1_ms=row.t_end_ms, tenant=row.tenant,
            origin=ORIGIN, event_id=row.request_id,
            session_id=self._attribute(self._rules.session, span, tree),
            trace_id=text_or_empty(span.trace_id),
            step=self._attribute(self._rules.step, span, tree),
        )  # fmt: skip

    def has_session(self, span: Span, tree: SpanTree) -> bool:
        """Return whether a span belongs to a session."""
        return bool(self._attribute(self._rules.session, span, tree))

    def _payer_of(self, span: Span, tree: SpanTree) -> str:
        """Return who pays, "" where neither the span nor its sender says so."""
        return self._payer(self._value(self._rules.tenant, span, tree))

    def _attribute(self, names: Sequence[str], span: Span, tree: SpanTree) -> str:
        """Return the first of these attributes that has a value, "" without one or if the log cannot store it."""
        return text_or_empty(self._value(names, span, tree))

    def _value(self, names: Sequence[str], span: Span, tree: SpanTree) -> str:
        for name in names:
            place, _, bare = name.rpartition(":") if name.startswith(("span:", "resource:")) else ("", "", name)
            holders = () if place == "resource" else (span, *tree.ancestors(span))
            values = [s.attributes[bare] for s in holders if bare in s.attributes]
            if place != "span" and bare in span.resource:
                values.append(span.resource[bare])
            text = next((str(value) for value in values if value != ""), "")
            if text:
                return text
        return ""


def _service(span: Span) -> str:
    return text_or_empty(str(span.resource.get(SERVICE, "")))


def _with_values(dimensions: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in dimensions.items() if value}


def is_failed(span: Span) -> bool:
    """Return whether the call of a span failed."""
    return span.failed or ERROR_TYPE in span.attributes or (_number(span, HTTP_STATUS) or 0) >= 400


def span_name(span: Span) -> str:
    """Return the id of a span. Raises BadInput if it has no ids or no time: its double could not be recognised."""
    if not span.trace_id or not span.span_id:
        raise BadInput("spanId", span.span_id, "a span has a trace and an id")
    if not text_or_empty(f"{span.trace_id}/{span.span_id}"):
        raise BadInput("traceId", f"({len(span.trace_id)} characters)", "give hexadecimal digits")
    if span.start_ns <= 0:
        raise BadInput("startTimeUnixNano", span.start_ns, "give Unix nanoseconds")
    return f"{span.trace_id}/{span.span_id}"


def model_of(span: Span) -> str:
    """Return the first name of a model that the log can store, or "". A client made up the others; its call counts."""
    names = (text_or_empty(_unquoted(span, name)) for name in MODELS)
    return next((name for name in names if name), "")


def _text(span: Span, names: Sequence[str]) -> str:
    return next((value for name in names if (value := _unquoted(span, name))), "")


def _unquoted(span: Span, name: str) -> str:
    """Return the text of an attribute, "" without it. MLflow writes its texts as JSON, in quotes."""
    text = str(span.attributes.get(name, ""))
    return text.strip('"') if name.startswith("mlflow.") else text


def _number(span: Span, name: str) -> int | None:
    value = span.attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _address(span: Span) -> str:
    address, port = _text(span, (ADDRESS,)), _number(span, PORT)
    return f"{address}:{port}" if address and port is not None else address


def _positive(span: Span, names: Sequence[str], limit: float) -> float | None:
    """Return the first of these attributes that has a value, if it is a number of 0 (excluded) to `limit`."""
    value: AttributeValue | None = next((span.attributes[name] for name in names if name in span.attributes), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 < value < limit else None


def _first_ms(span: Span) -> int | None:
    """Return the time of the first token: from an attribute in seconds, ms or RFC 3339, or an event."""
    if (seconds := _positive(span, FIRST_S, 86_400_000)) is not None:
        unit_ns = 1e6 if span.scope.startswith(IN_MS) else 1e9
        return (span.start_ns + int(seconds * unit_ns)) // 1_000_000
    if (ms := _positive(span, FIRST_MS, 86_400_000)) is not None:
        return (span.start_ns + int(ms * 1e6)) // 1_000_000
    if text := _text(span, FIRST_TIME).strip('"'):
        try:
            return round(datetime.fromisoformat(text).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            return None
    return span.event_ns // 1_000_000 if span.event_ns > 0 else None


def _queue_ms(span: Span) -> int:
    """Return the time in the server's queue, 0 if it is unknown."""
    return round(1000 * (_positive(span, QUEUE_S, MAX_SPAN_MS / 1000) or 0))
