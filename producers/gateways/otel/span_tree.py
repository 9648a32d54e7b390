"""Which span lies in which, and which of those that tell the same call counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from producers.gateways.calls import AgentUsage, InferenceCall
from producers.gateways.otel.otlp import Span
from producers.runtime.deduplication import Seen

DEEP = 64
"""Spans around one that are looked at."""
Tokens = tuple[int, int]


def names_of(span: Span, name: str, tokens: Tokens) -> tuple[str, ...]:
    """What a call is known by: its own name, and what those directly in it and around it are told by (`Tree`)."""
    around = (_in(span.trace_id, span.parent_id, tokens),) if span.parent_id else ()
    return (name, _self(span.trace_id, span.span_id, tokens), *around)


class SpanTree:
    """The spans of a message, and which lies in which.

    Of an inference that is told by a span and by one that it lies in (a framework's and its client's), the inner one
    counts. Within a message any of those around it are recognised; across messages, those directly around it: each call
    leaves behind that a span of this id, or around that id, has counted so many tokens.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._by_id = {(s.trace_id, s.span_id): s for s in spans}
        self._counted: dict[tuple[str, str], set[Tokens]] = {}

    def inner_first(self) -> Iterator[Span]:
        """An inner one ends no later than the one that it lies in, and has more around it."""
        return iter(sorted(self._spans, key=lambda s: -len(self.around(s))))

    def around(self, span: Span) -> list[Span]:
        """Those that a span lies in, the nearest first."""
        found, seen = list[Span](), {span.span_id}
        at = self._by_id.get((span.trace_id, span.parent_id)) if span.parent_id else None
        while at is not None and at.span_id not in seen and len(found) < DEEP:
            seen.add(at.span_id)
            found.append(at)
            at = self._by_id.get((at.trace_id, at.parent_id)) if at.parent_id else None
        return found

    def told_by_another(self, span: Span, call: InferenceCall, recent: Seen) -> bool:
        """Whether one in it, or the one directly around it, has counted the same tokens."""
        tokens = _tokens(call)
        return (
            tokens in self._counted.get((span.trace_id, span.span_id), ())
            or recent.has(_in(span.trace_id, span.span_id, tokens))
            or recent.has(_self(span.trace_id, span.parent_id, tokens))
        )

    def counted(self, span: Span, call: InferenceCall | AgentUsage) -> None:
        """This one counts: those around it will not, if they count the same."""
        if isinstance(call, InferenceCall):
            for outer in self.around(span):
                self._counted.setdefault((outer.trace_id, outer.span_id), set()).add(_tokens(call))


def _tokens(call: InferenceCall) -> Tokens:
    return call.row.prompt_tokens, call.row.completion_tokens


def _self(trace_id: str, span_id: str, tokens: Tokens) -> str:
    return f"self {trace_id}/{span_id} {tokens}"


def _in(trace_id: str, span_id: str, tokens: Tokens) -> str:
    return f"in {trace_id}/{span_id} {tokens}"
