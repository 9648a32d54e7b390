"""Reads calls of models, agents and tools from OpenTelemetry spans, by every convention of `token_names`.

A span that carries token counts is a call, whatever its operation is called, unless it is an agent's or a tool's
(`span_roles`). Several parties report one call: the application, its HTTP client, the gateway, the server. So that it
counts once:

* Only spans of some kinds count (`kinds`): those of callers, unless configured otherwise.

* Of nested spans with the same token counts, the innermost one counts; what sums its calls counts where none of them
  does (`span_tree`).

* A span that arrives again does not count again (`producers.runtime.deduplication`).

The tenant is an attribute that a gateway or Collector has set (`tenant`), on the span, on its ancestors, or on the
resource.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from producers.gateways.calls import NO_TENANT, AgentUsage, InferenceCall, check_end_ms
from producers.gateways.otel import span_calls, span_meters, span_roles, span_rules, token_names
from producers.gateways.otel.otlp import decode_spans
from producers.gateways.otel.span_calls import METERS, ORIGIN, SpanReader
from producers.gateways.otel.span_meters import MCP_METHOD, EndpointNames, endpoint_call
from producers.gateways.otel.span_roles import OPERATION, Role, SpanRole, role_of
from producers.gateways.otel.span_rules import KINDS, SpanRules
from producers.gateways.otel.span_tree import BELOW, SpanTree
from producers.gateways.otel.spans import Span, SpanSelection
from producers.gateways.otel.token_names import MAX_NAMES, has_counts, unread_counts
from producers.gateways.otel.trace_memory import CallCounts, TraceMemory
from producers.runtime.call_bounds import NO_BOUNDS, CallBounds
from producers.runtime.deduplication import REPEATED, KnownCalls
from producers.runtime.refusals import read_each, shorten

__all__ = ["ORIGIN", "GenAIReader", "SpanCalls", "SpanRules"]

NESTED, KIND, SCOPE, OPERATIONS, UNKNOWN_OPERATION, UNREAD, OTHER = (
    "nested", "kind", "scope", "operation", "unknown_operation", "unread_counts", "other",
)  # fmt: skip
"""Reasons why a span does not count: words that `/metrics` counts them by."""
_IDS = re.compile(r"[0-9a-f]{0,32}/[0-9a-f]{0,16}")
REPORTED = (KIND, SCOPE, OPERATIONS, UNKNOWN_OPERATION, UNREAD)
"""Reasons that a sender is told with each batch, for they may be mistakes."""


class SpanCalls(NamedTuple):
    """New calls, errors of spans that could not be read, and by reason the spans that do not count or were corrected.

    `remarks` are sentences for the log, each of which is worth being logged once.
    """

    calls: list[InferenceCall | AgentUsage]
    refused: list[str]
    skipped: Mapping[str, int]
    corrected: Mapping[str, int]
    remarks: list[str]


class _Reading(NamedTuple):
    """The rows of one span: its usage, its call with the counts, and whether it reports any."""

    span: Span
    role: Role
    usage: Sequence[AgentUsage] = ()
    call: InferenceCall | None = None
    counts: CallCounts = CallCounts(0, 0, 0)
    has_counts: bool = False


class _Roles(NamedTuple):
    """Roles of the spans of a message, by `id`, and the traces that have calls of models, agents or tools."""

    by_span: Mapping[int, SpanRole]
    traces: frozenset[str]

    @classmethod
    def of(cls, spans: Sequence[Span]) -> _Roles:
        roles = {id(span): role_of(span) for span in spans}
        return cls(roles, frozenset(span.trace_id for span in spans if roles[id(span)].role is not Role.NONE))


class GenAIReader:
    """Reads calls from spans.

    `payer` maps the tenant that a span names ("" for none) to the one that pays. It may raise. `endpoints` and `memory`
    are those so far, where several readers share them. `sender` is who reports the spans: a tenant whose token was
    verified, or this producer. A span beyond `bounds` is refused.
    """

    def __init__(
        self, rules: SpanRules, payer: Callable[[str], str] = str, endpoints: EndpointNames | None = None,
        sender: str = ORIGIN, bounds: CallBounds = NO_BOUNDS, memory: TraceMemory | None = None,
    ) -> None:  # fmt: skip
        self._bounds, self._sender = bounds, sender
        self._rules, self._reader = rules, SpanReader(rules, payer, sender)
        self._endpoints = EndpointNames() if endpoints is None else endpoints
        self._memory = TraceMemory() if memory is None else memory
        self.selection = SpanSelection(
            {*token_names.OBJECTS}
            | span_roles.ATTRIBUTES
            | span_calls.ATTRIBUTES
            | rules.names()
            | {"litellm.call_id"}
            | span_meters.ATTRIBUTES,
            frozenset(span_calls.FIRST_EVENTS),
            token_names.may_be_a_count,
            token_names.MAPS,
            frozenset(token_names.OBJECTS),
        )

    def read_message(self, body: bytes, recent: KnownCalls, latest_ms: int, *, json: bool) -> SpanCalls:
        """Read the spans of an ExportTraceServiceRequest, like `read`. Raises BadInput if the body is none."""
        spans, refused = decode_spans(body, self.selection, json=json)
        result = self.read(spans, recent, latest_ms)
        return result._replace(refused=[*refused, *result.refused])

    def read(self, spans: Sequence[Span], recent: KnownCalls, latest_ms: int) -> SpanCalls:
        """Read the spans of one message, and add the new calls to `recent`.

        A span that ended after `latest_ms` (epoch ms) is refused.
        """
        message, spans = spans, [span for span in spans if span.span_id or span.attributes]
        refused, skipped = list[str](), +Counter({OTHER: len(message) - len(spans)})
        tree = SpanTree(spans, recent, self._memory)
        roles = _Roles.of(spans)
        corrected, remarks, calls = Counter[str](), dict[str, None](), list[InferenceCall | AgentUsage]()

        def read(span: Span) -> _Reading:
            role = roles.by_span[id(span)]
            if usage := self._endpoint(span, roles, tree):
                check_end_ms(span.end_ns // 1_000_000, latest_ms, self._bounds.oldest_ms)
                return _Reading(span, role.role, usage)
            reason, remark = self._skip_reason(span, role)
            if remark:
                remarks[remark] = None
            if reason:
                skipped[reason] += 1
                return _Reading(span, role.role)
            changes = Counter[str]()
            reading = self._read_span(span, role, tree, changes)
            corrected.update(changes)
            remarks.update(dict.fromkeys(self._remark_on(span, why) for why in changes))
            check_end_ms(span.end_ns // 1_000_000, latest_ms, self._bounds.oldest_ms)
            if reading.call is not None:
                self._bounds.check(reading.call.row)
            return reading

        placed = ((_place(span), span) for span in tree.inner_first())
        for reading in read_each(placed, read, refused):
            span, usage, call = reading.span, reading.usage, reading.call
            if usage:
                if recent.has(usage[0].identities[0]):
                    skipped[REPEATED] += 1
                else:
                    calls += usage
                recent.add(usage[0].identities)
            if call is not None:
                sums = reading.role is not Role.CALL
                where = tree.counted_at(span, reading.counts, sums=sums, empty=not reading.has_counts)
                if recent.has(call.identities[0]):
                    skipped[REPEATED] += 1
                    if not sums:
                        tree.note_known(span, reading.counts)
                elif sums and not (reading.counts.prompt or reading.counts.completion):
                    skipped[OTHER] += 1  # An agent that called no model.
                elif where:
                    skipped[NESTED] += 1
                    remarks[_remark(span, f"report tokens that spans {where} them report, and are not counted")] = None
                else:
                    calls.append(call)
                    tree.add_counted(span, reading.counts, sums=sums)
                # The counts of a span that is counted below name no call of its own.
                recent.add(call.identities[:1] if where == BELOW else call.identities)
            tree.pass_on(span)
        return SpanCalls(calls, refused, skipped, corrected, list(remarks))

    def _read_span(self, span: Span, role: SpanRole, tree: SpanTree, corrected: Counter[str]) -> _Reading:
        usage = [self._reader.usage(span, role.role, tree)] if role.role in METERS else []
        if role.role is Role.TOOL or (usage and not (has_counts(span.attributes) and self._counts(span))):
            return _Reading(span, role.role, usage)
        call, counts, reports = self._reader.call(span, role, tree, corrected)
        return _Reading(span, role.role, usage, call, counts, reports)

    def _endpoint(self, span: Span, roles: _Roles, tree: SpanTree) -> list[AgentUsage]:
        """Return the meters of the call of an API, a database or an MCP server that a span describes.

        They are none if it is no such call, or is not to be metered.
        """
        rules, role, kind = self._rules, roles.by_span[id(span)].role, KINDS.get(span.kind)
        if rules.other_calls == "none" or kind not in ("client", "internal"):
            return []
        if role is not Role.NONE and not (role is Role.TOOL and MCP_METHOD in span.attributes):
            return []
        call = endpoint_call(span, self._endpoints)
        if call is None or (kind != "client" and call.kind in ("api", "db")):
            return []
        if rules.scopes and span.scope not in rules.scopes:
            return []
        outer = [roles.by_span[id(ancestor)].role for ancestor in tree.ancestors(span)]
        if Role.CALL in outer:
            return []  # The transport of a model's call.
        of_agents = span.trace_id in roles.traces or tree.has_calls(span) or self._reader.has_session(span, tree)
        if rules.other_calls == "agents" and not of_agents:
            return []
        usage = self._reader.endpoint_usage(span, call, tree)
        if role is Role.TOOL and Role.TOOL not in outer:
            usage.append(self._reader.usage(span, role, tree))
        return usage

    def _counts(self, span: Span) -> bool:
        """Return whether the kind and the operation of a span count."""
        operation = str(span.attributes.get(OPERATION, ""))
        named = not self._rules.operations or not operation or operation in self._rules.operations
        return KINDS.get(span.kind) in self._rules.kinds and named

    def _remark_on(self, span: Span, correction: str) -> str:
        """Return a remark on a call that counts with a correction. One remark for each sender that names no tenant."""
        if correction != NO_TENANT:
            return _remark(span, f"have counts that were corrected: {correction}")
        service = shorten(str(span.resource.get(span_rules.SERVICE, "")) or "no service.name")
        names = ", ".join(self._rules.tenant)
        return f"spans of {service} from {self._sender} name no tenant ({names}): charged to {self._rules.otherwise}"

    def _skip_reason(self, span: Span, role: SpanRole) -> tuple[str, str]:
        """Return why a span does not count, in one word ("" if it counts), and a remark for the log ("" for none)."""
        rules = self._rules
        counts = has_counts(span.attributes)
        unread = unread_counts(span.attributes)
        if unread and role.role in (Role.NONE, Role.WRAPPER) and not counts:
            return UNREAD, _remark(span, f"have no count that can be read, but {', '.join(sorted(unread)[:MAX_NAMES])}")
        if role.role is Role.NONE:
            if not role.unknown:
                return OTHER, ""
            remark = "are calls of no model, and are not counted" if counts else "carry no token counts"
            return OPERATIONS if counts else UNKNOWN_OPERATION, _remark(span, remark)
        if rules.scopes and span.scope not in rules.scopes:
            return SCOPE, _remark(span, "are not counted: their scope is not in `scopes`")
        if role.role in METERS:
            return "", ""
        if role.role is Role.WRAPPER and not counts:
            return OTHER, ""
        if KINDS.get(span.kind) not in rules.kinds:
            kind = KINDS.get(span.kind, str(span.kind))
            return KIND, _remark(span, f"are not counted: their kind {kind} is not in `kinds`")
        if not self._counts(span):
            return OPERATIONS, _remark(span, "are not counted: their operation is not in `operations`")
        if role.unknown:
            return "", _remark(span, "carry token counts and count as calls of models; no convention has the operation")
        if unread:
            return "", _remark(span, f"have counts that are not read: {', '.join(sorted(unread)[:MAX_NAMES])}")
        return "", ""


def _place(span: Span) -> str:
    """Return the ids of a span for the log, unless they are no ids: then they may be any text."""
    ids = f"{span.trace_id}/{span.span_id}"
    return f"span {ids}" if _IDS.fullmatch(ids) else "a span"


def _remark(span: Span, text: str) -> str:
    """Return a remark on the spans of an operation and a scope."""
    operation = span.attributes.get(OPERATION) or span.attributes.get(span_roles.OPENINFERENCE) or ""
    of = f" of operation {shorten(str(operation))}" if operation else ""
    return f"spans{of} from {shorten(span.scope or 'no scope')} {text}"
