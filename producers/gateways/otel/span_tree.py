"""The nesting of spans, and which of several spans that report the same call is counted. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from producers.gateways.calls import AgentUsage, InferenceCall
from producers.gateways.otel.spans import Span
from producers.runtime.deduplication import KnownCalls

MAX_ANCESTORS = 64
"""Ancestors of a span that are looked at."""
TokenCounts = tuple[int, int]


def call_identities(span: Span, identity: str, tokens: TokenCounts) -> tuple[str, ...]:
    """Return the identities of a call: its own, and those that reveal its nested reports (`SpanTree`)."""
    of_parent = (_identity_of_parent(span.trace_id, span.parent_id, tokens),) if span.parent_id else ()
    return (identity, _identity_of_span(span.trace_id, span.span_id, tokens), *of_parent)


class SpanTree:
    """The spans of a message and their nesting.

    If a span and an ancestor of it (a client's and a framework's) report the same inference, the inner one counts.
    Within a message any ancestor is recognised. Across messages only the direct parent is: each call leaves behind the
    identities of its span and of its parent, with its token counts.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._by_id = {(span.trace_id, span.span_id): span for span in spans}
        self._counted: dict[tuple[str, str], set[TokenCounts]] = {}

    def inner_first(self) -> Iterator[Span]:
        """Yield the spans, those with more ancestors first. An inner span ends no later than its ancestors."""
        return iter(sorted(self._spans, key=lambda span: -len(self.ancestors(span))))

    def ancestors(self, span: Span) -> list[Span]:
        """Return the ancestors of a span within the message, the nearest first."""
        ancestors, ids = list[Span](), {span.span_id}
        parent = self._parent(span)
        while parent is not None and parent.span_id not in ids and len(ancestors) < MAX_ANCESTORS:
            ids.add(parent.span_id)
            ancestors.append(parent)
            parent = self._parent(parent)
        return ancestors

    def is_counted_elsewhere(self, span: Span, call: InferenceCall, recent: KnownCalls) -> bool:
        """Return whether a descendant or the direct parent of the span has counted the same tokens."""
        tokens = _token_counts(call)
        return (
            tokens in self._counted.get((span.trace_id, span.span_id), ())
            or recent.has(_identity_of_parent(span.trace_id, span.span_id, tokens))
            or recent.has(_identity_of_span(span.trace_id, span.parent_id, tokens))
        )

    def add_counted(self, span: Span, call: InferenceCall | AgentUsage) -> None:
        """Note that a span is counted, so that an ancestor with the same counts is not."""
        if isinstance(call, InferenceCall):
            for outer in self.ancestors(span):
                self._counted.setdefault((outer.trace_id, outer.span_id), set()).add(_token_counts(call))

    def _parent(self, span: Span) -> Span | None:
        return self._by_id.get((span.trace_id, span.parent_id)) if span.parent_id else None


def _token_counts(call: InferenceCall) -> TokenCounts:
    return call.row.prompt_tokens, call.row.completion_tokens


# These texts are stored as hashes with the checkpoint: a change would forget the recent calls.


def _identity_of_span(trace_id: str, span_id: str, tokens: TokenCounts) -> str:
    return f"self {trace_id}/{span_id} {tokens}"


def _identity_of_parent(trace_id: str, span_id: str, tokens: TokenCounts) -> str:
    return f"in {trace_id}/{span_id} {tokens}"
