"""Reads inferences from OpenTelemetry spans, by the old and new names of the GenAI conventions.

A span is an inference if its operation is one, or, if it names no operation, if it counts tokens (vLLM's own spans).
Several parties report one call: the application, its HTTP client, the gateway, the server. So that it counts once:

* Only spans of some kinds count (`kinds`): those of callers, unless configured otherwise.

* Of two nested spans with the same token counts, the inner one counts (`span_tree`).

* A span that arrives again does not count again (`producers.runtime.deduplication`).

The tenant is an attribute that a gateway or Collector has set (`tenant`), on the span, on its ancestors, or on the
resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from producers.gateways.calls import UNKNOWN, AgentUsage, InferenceCall, check_end_ms, text_or_empty
from producers.gateways.otel.otlp import decode_spans
from producers.gateways.otel.span_tree import SpanTree, call_identities
from producers.gateways.otel.spans import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SERVER,
    AttributeValue,
    Span,
    SpanSelection,
)
from producers.gateways.request_fields import FieldPaths, RequestFields, RequestReader
from producers.runtime.batching import UsageRow
from producers.runtime.deduplication import REPEATED, KnownCalls
from producers.runtime.refusals import read_each

Kind = Literal["client", "internal", "server", "producer", "consumer"]
_KINDS: Mapping[int, Kind] = {
    0: "internal", INTERNAL: "internal", SERVER: "server", CLIENT: "client", PRODUCER: "producer", CONSUMER: "consumer",
}  # fmt: skip
OPERATION = "gen_ai.operation.name"
PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
COMPLETION = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")
CACHED = (
    "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cached_input_tokens",
    "gen_ai.usage.cached_tokens",
)  # fmt: skip
CACHE_WRITES = (
    "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
)  # fmt: skip
MODEL = ("gen_ai.response.model", "gen_ai.request.model")
FIRST_S = (
    "gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token", "gen_ai.latency.time_to_first_token",
)  # fmt: skip
FIRST_EVENTS = ("gen_ai.first_token", "first_token", "First Token Stream Event", "llm.content.completion.chunk")
ERROR_TYPE, HTTP_STATUS, ADDRESS, PORT = "error.type", "http.response.status_code", "server.address", "server.port"
TOOL, AGENT, SERVICE = "gen_ai.tool.name", "gen_ai.agent.name", "service.name"
AGENTS: Mapping[str, str] = {"execute_tool": "tool_calls", "invoke_agent": "agent_calls"}
"""Meters of what agents do beside inferences, by operation."""
ORIGIN = "otel"
_ATTRIBUTES = {
    OPERATION, *PROMPT, *COMPLETION, *CACHED, *CACHE_WRITES, *MODEL, *FIRST_S, ERROR_TYPE, HTTP_STATUS, ADDRESS, PORT,
    TOOL,
    AGENT, SERVICE,
}  # fmt: skip
_NAMES = {name: (name,) for name in RequestFields.model_fields}


class SpanRules(BaseModel):
    """Rules for reading spans.

    The first attribute with a value wins: on the span, on its ancestors in the same message, then on the resource.
    A name with the prefix `span:` or `resource:` is looked for there only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: FieldPaths = Field(
        default=("wattlog.tenant", "tenant.id"),
        description="Who pays: an attribute that your gateway or Collector sets, never what a client sends.",
    )
    otherwise: str = Field(
        default=UNKNOWN, description="Who pays for a span that has none of them; empty: such spans are refused."
    )
    kinds: tuple[Kind, ...] = Field(default=("client", "internal"), description="Span kinds that count.")
    operations: tuple[str, ...] = Field(
        default=("chat", "text_completion", "generate_content", "embeddings", "completion", "response", "responses"),
        description=f"Values of `{OPERATION}` that are inferences.",
    )
    scopes: tuple[str, ...] = Field(default=(), description="Instrumentation scopes that count; empty: all.")
    session: FieldPaths = Field(
        default=("gen_ai.conversation.id", "session.id"), description="Session that a call belongs to."
    )
    step: FieldPaths = Field(
        default=("wattlog.step",), description="Step of its session; for tools, else the tool's name."
    )
    route: FieldPaths = Field(
        default=("wattlog.route", SERVICE), description="Attribute that rules for workloads match as `route`."
    )


class SpanCalls(NamedTuple):
    """New calls, errors of spans that could not be read, and the number of spans that do not count, by reason."""

    calls: list[InferenceCall | AgentUsage]
    refused: list[str]
    skipped: Mapping[str, int]


class GenAIReader:
    """Reads calls from spans.

    `payer` maps the tenant that a span names ("" for none) to the one that pays. It may raise.
    """

    def __init__(self, rules: SpanRules, payer: Callable[[str], str] = str) -> None:
        self._rules, self._payer = rules, payer
        self._reader = RequestReader(RequestFields(**_NAMES))
        configured = (*rules.tenant, *rules.session, *rules.step, *rules.route)
        names = {name.removeprefix("span:").removeprefix("resource:") for name in configured}
        self.selection = SpanSelection(_ATTRIBUTES | names, frozenset(FIRST_EVENTS))

    def read_message(self, body: bytes, recent: KnownCalls, latest_ms: int, *, json: bool) -> SpanCalls:
        """Read the spans of an ExportTraceServiceRequest, like `read`. Raises BadInput if the body is none."""
        spans, refused = decode_spans(body, self.selection, json=json)
        result = self.read(spans, recent, latest_ms)
        return result._replace(refused=[*refused, *result.refused])

    def read(self, spans: Sequence[Span], recent: KnownCalls, latest_ms: int) -> SpanCalls:
        """Read the spans of one message, and add the new calls to `recent`.

        A span that ended after `latest_ms` (epoch ms) is refused.
        """
        tree, refused, skipped = SpanTree(spans), list[str](), Counter[str]()
        calls: list[InferenceCall | AgentUsage] = []

        def read(span: Span) -> tuple[Span, InferenceCall | AgentUsage | None]:
            if reason := self._skip_reason(span):
                skipped[reason] += 1
                return span, None
            call = self._usage(span, tree) if _text(span, OPERATION) in AGENTS else self._call(span, tree)
            check_end_ms(span.end_ns // 1_000_000, latest_ms)
            return span, call

        placed = ((f"span {span.trace_id[:32]}/{span.span_id[:16]}", span) for span in tree.inner_first())
        for span, call in read_each(placed, read, refused):
            if call is None:
                continue
            if recent.has(call.identities[0]):
                skipped[REPEATED] += 1
            elif isinstance(call, InferenceCall) and tree.is_counted_elsewhere(span, call, recent):
                skipped["nested"] += 1
            else:
                calls.append(call)
            recent.add(call.identities)
            tree.add_counted(span, call)
        return SpanCalls(calls, refused, skipped)

    def _skip_reason(self, span: Span) -> str:
        """Return why a span does not count, in one word, or "" if it counts."""
        operation = _text(span, OPERATION)
        if operation in AGENTS:
            return "" if not self._rules.scopes or span.scope in self._rules.scopes else "scope"
        counts = any(name in span.attributes for name in (*PROMPT, *COMPLETION))
        if operation not in self._rules.operations if operation else not counts:
            return "other"
        if _KINDS.get(span.kind) not in self._rules.kinds:
            return "kind"
        return "" if not self._rules.scopes or span.scope in self._rules.scopes else "scope"

    def _call(self, span: Span, tree: SpanTree) -> InferenceCall:
        failed = span.failed or ERROR_TYPE in span.attributes or (_number(span, HTTP_STATUS) or 0) >= 400
        prompt, completion, cached = _count(span, PROMPT), _count(span, COMPLETION), _count(span, CACHED) or 0
        if prompt is None and completion is None and not failed:
            raise BadInput(PROMPT[0], None, "is needed, or an error")
        prompt = 0 if prompt is None else prompt
        if isinstance(prompt, int) and isinstance(cached, int) and cached > prompt >= 0:
            # By the convention, cached tokens are among the input. Anthropic's own count leaves them out.
            cache_writes = _count(span, CACHE_WRITES)
            prompt += cached + (cache_writes if isinstance(cache_writes, int) else 0)
        start_ms, end_ms = span.start_ns // 1_000_000, span.end_ns // 1_000_000
        status = text_or_empty(_text(span, ERROR_TYPE)) or str(_number(span, HTTP_STATUS) or "") or "error"
        first_ms = _first_ms(span)
        payload = {
            "tenant": self._payer_of(span, tree), "model": _model(span),
            "request_id": _id(span), "start": start_ms, "first": first_ms, "end": end_ms, "prompt_tokens": prompt,
            "cached_tokens": cached, "completion_tokens": 0 if completion is None else completion,
            "status": status if failed else "ok",
            "session_id": text_or_empty(self._attribute(self._rules.session, span, tree)),
            "trace_id": text_or_empty(span.trace_id), "api_base": text_or_empty(_address(span)),
            "route": text_or_empty(self._attribute(self._rules.route, span, tree)),
        }  # fmt: skip
        row = self._reader.row(payload, "")
        identities = call_identities(span, row.request_id, (row.prompt_tokens, row.completion_tokens))
        return InferenceCall(row, identities, step=text_or_empty(self._attribute(self._rules.step, span, tree)))

    def _usage(self, span: Span, tree: SpanTree) -> AgentUsage:
        """Return one unit of the meter of tool calls or agent calls."""
        tool, agent = text_or_empty(_text(span, TOOL)), text_or_empty(_text(span, AGENT))
        # Read as a call, so that times and tenant are checked alike.
        payload = {
            "tenant": self._payer_of(span, tree), "model": "none",
            "request_id": _id(span), "start": span.start_ns // 1_000_000, "end": span.end_ns // 1_000_000,
            "prompt_tokens": 0, "completion_tokens": 0,
        }  # fmt: skip
        row = self._reader.row(payload, "")
        dimensions = {"tool": tool, "agent": agent, "status": "error" if span.failed else "ok"}
        usage = UsageRow(
            meter=AGENTS[_text(span, OPERATION)],
            unit="1",
            quantity="1",
            t0_ms=row.t_start_ms,
            t1_ms=row.t_end_ms,
            tenant=row.tenant,
            origin=ORIGIN,
            event_id=row.request_id,
            session_id=text_or_empty(self._attribute(self._rules.session, span, tree)),
            trace_id=text_or_empty(span.trace_id),
            step=text_or_empty(self._attribute(self._rules.step, span, tree)) or tool or agent,
            dimensions={name: value for name, value in dimensions.items() if value},
        )
        return AgentUsage(usage, text_or_empty(str(span.resource.get(SERVICE, ""))), (row.request_id,))

    def _payer_of(self, span: Span, tree: SpanTree) -> str:
        return self._payer(self._attribute(self._rules.tenant, span, tree)) or self._rules.otherwise

    def _attribute(self, names: Sequence[str], span: Span, tree: SpanTree) -> str:
        """Return the first of these attributes that has a value, or ""."""
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


def _id(span: Span) -> str:
    """Return the id of a span. Raises BadInput if it has no ids or no time: its double could not be recognised."""
    if not span.trace_id or not span.span_id:
        raise BadInput("spanId", span.span_id, "a span has a trace and an id")
    if not text_or_empty(f"{span.trace_id}/{span.span_id}"):
        raise BadInput("traceId", span.trace_id, "give hexadecimal digits")
    if span.start_ns <= 0:
        raise BadInput("startTimeUnixNano", span.start_ns, "give Unix nanoseconds")
    return f"{span.trace_id}/{span.span_id}"


def _get(span: Span, names: Sequence[str]) -> AttributeValue | None:
    return next((span.attributes[name] for name in names if span.attributes.get(name) not in (None, "")), None)


def _count(span: Span, names: Sequence[str]) -> AttributeValue | None:
    """Return a count of tokens. JavaScript has no integers, so some send a double."""
    value = _get(span, names)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _model(span: Span) -> str:
    """Return the model, or `UNKNOWN` for a name that the log cannot store: a client made it up, and its call counts."""
    return text_or_empty(str(_get(span, MODEL[:1]) or "")) or text_or_empty(str(_get(span, MODEL[1:]) or "")) or UNKNOWN


def _text(span: Span, name: str) -> str:
    value = span.attributes.get(name, "")
    return value if isinstance(value, str) else str(value)


def _number(span: Span, name: str) -> int | None:
    value = span.attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _address(span: Span) -> str:
    address, port = _text(span, ADDRESS), _number(span, PORT)
    return f"{address}:{port}" if address and port is not None else address


def _first_ms(span: Span) -> int | None:
    """Return the time of the first token: from an attribute in seconds, or an event."""
    seconds = _get(span, FIRST_S)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < 86_400:
        return (span.start_ns + int(seconds * 1e9)) // 1_000_000
    return span.event_ns // 1_000_000 if span.event_ns > 0 else None
