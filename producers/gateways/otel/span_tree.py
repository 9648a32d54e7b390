"""The nesting of spans, and which of several spans that report the same tokens is counted. Pure.

The innermost report counts: of a call that a framework and its client report, the client's; of an agent or a wrapper
that sums its calls, the calls. A span is inside another if its parents lead there or, where parents are missing, if it
ran within its time in the same trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from producers.gateways.otel.spans import Span
from producers.gateways.otel.trace_memory import CallCounts, TraceMemory
from producers.runtime.deduplication import MARK, KnownCalls

MAX_ANCESTORS = 64
"""Ancestors of a span that are looked at."""
MAX_UNLINKED = 1_024
"""Counted calls of a message without a known root that a wrapper is compared with."""
BELOW, ABOVE = "below", "above"
Key = tuple[str, str]
"""Trace and span id."""


class SpanTree:
    """The spans of a message and their nesting.

    Across messages, `recent` keeps marks: which spans have counted calls below them, and which agents have counted
    themselves. They are passed on from span to span, as spans arrive from the inside out. `memory` is of calls whose
    parents are missing.
    """

    def __init__(self, spans: Sequence[Span], recent: KnownCalls, memory: TraceMemory | None = None) -> None:
        self._spans, self._recent, self._memory = spans, recent, memory or TraceMemory()
        self._memory.add_spans(spans)
        self._by_id = {(span.trace_id, span.span_id): span for span in spans}
        self._ancestors: dict[int, list[Span]] = {}
        self._below: dict[Key, list[CallCounts]] = {}
        self._calls: dict[str, list[tuple[Span, Span, CallCounts]]] = {}
        """By trace, the counted calls: the span, its outermost known ancestor, its counts."""
        self._counted: set[Key] = set()
        above = [span for key, span in self._by_id.items() if recent.has(_below(*key))]
        self._below_before = {
            (outer.trace_id, outer.span_id) for span in above for outer in (span, *self.ancestors(span))
        }
        """Spans with counted calls below them in earlier messages."""

    def inner_first(self) -> Iterator[Span]:
        """Yield the spans, inner ones before their ancestors, and shorter ones before longer ones."""
        depths = {id(span): len(self.ancestors(span)) for span in self._spans}
        lasted_ns = {id(span): span.end_ns - span.start_ns for span in self._spans}
        for span in sorted(self._spans, key=lambda span: -depths[id(span)]):
            if (parent := self._parent(span)) is not None:
                lasted_ns[id(parent)] = max(lasted_ns[id(parent)], lasted_ns[id(span)])
        return iter(sorted(self._spans, key=lambda span: (lasted_ns[id(span)], -depths[id(span)])))

    def ancestors(self, span: Span) -> list[Span]:
        """Return the ancestors of a span within the message, the nearest first."""
        if (known := self._ancestors.get(id(span))) is not None:
            return known
        ancestors, ids = list[Span](), {span.span_id}
        parent = self._parent(span)
        while parent is not None and parent.span_id not in ids and len(ancestors) < MAX_ANCESTORS:
            ids.add(parent.span_id)
            ancestors.append(parent)
            parent = self._parent(parent)
        self._ancestors[id(span)] = ancestors
        return ancestors

    def identities(self, span: Span, identity: str, counts: CallCounts) -> tuple[str, ...]:
        """Return the identities of a call: its own, and those that reveal its nested reports."""
        tokens = (counts.prompt, counts.completion)
        of_parent = (_identity_of_parent(span.trace_id, span.parent_id, tokens),) if span.parent_id else ()
        return (identity, _identity_of_span(span.trace_id, span.span_id, tokens), *of_parent)

    def counted_at(self, span: Span, counts: CallCounts, *, sums: bool, empty: bool) -> str:
        """Return where these tokens are counted already: in spans `below` or `above` this one, or "" for nowhere.

        `sums`: the span is an agent's or a wrapper's, so it is counted only where no call below it is. `empty`: it
        reports no tokens.
        """
        key = (span.trace_id, span.span_id)
        tokens = (counts.prompt, counts.completion)
        below = self._below.get(key, [])
        if key in self._below_before or (below and (sums or empty or _is_same(counts, below))):
            return BELOW
        if self._recent.has(_identity_of_parent(*key, tokens)):
            return BELOW
        if self._recent.has(_identity_of_span(span.trace_id, span.parent_id, tokens)):
            return ABOVE
        if self._recent.has(_agent(span.trace_id, self._outermost(span).parent_id)):
            return ABOVE
        if span.parent_id and self._memory.is_within_agent(span):
            return ABOVE
        if sums and self._recent.has(events_mark(span.trace_id)):
            return BELOW
        if sums and not span.parent_id and (self._calls.get(span.trace_id) or self._recent.has(_trace(span.trace_id))):
            return BELOW  # The root of a trace: every call of the trace is below it.
        if below or empty:
            return ""
        earlier = self._memory.unlinked_within(span)
        if (earlier and sums) or _is_sum(counts, earlier) or self._holds_unlinked(span, counts, sums=sums):
            return BELOW
        return ""

    def add_counted(self, span: Span, counts: CallCounts, *, sums: bool) -> None:
        """Note that a span is counted."""
        self._counted.add((span.trace_id, span.span_id))
        for outer in self.ancestors(span):
            self._below.setdefault((outer.trace_id, outer.span_id), []).append(counts)
        if sums:
            self._recent.add([_agent(span.trace_id, span.span_id), agents_mark(span.trace_id)])
            self._memory.add_agent(span)
            return
        self._memory.add_call(span, counts)
        calls = self._calls.setdefault(span.trace_id, [])
        if len(calls) < MAX_UNLINKED:
            calls.append((span, self._outermost(span), counts))
        self._recent.add([_trace(span.trace_id)])

    def note_known(self, span: Span, counts: CallCounts) -> None:
        """Note that a span's call was counted before, so that no agent or wrapper around it counts it again.

        An event of it, or an earlier copy of the span, arrived without the spans around it.
        """
        self._counted.add((span.trace_id, span.span_id))
        for outer in self.ancestors(span):
            self._below.setdefault((outer.trace_id, outer.span_id), []).append(counts)

    def has_calls(self, span: Span) -> bool:
        """Return whether calls of the span's trace are counted."""
        return span.trace_id in self._calls or self._recent.has(_trace(span.trace_id))

    def pass_on(self, span: Span) -> None:
        """Pass the marks of a span on to its parent and children in other messages."""
        key = (span.trace_id, span.span_id)
        if span.parent_id and self._parent(span) is None:
            if key in self._below or key in self._below_before or key in self._counted:
                self._recent.add([_below(span.trace_id, span.parent_id)])
            if self._recent.has(_agent(span.trace_id, span.parent_id)):
                self._recent.add([_agent(*key)])

    def _holds_unlinked(self, span: Span, counts: CallCounts, *, sums: bool) -> bool:
        """Return whether calls whose parents are missing ran within the span's time and are what it counts."""
        within = [
            (call, top, inner) for call, top, inner in self._calls.get(span.trace_id, ())
            if span.start_ns <= call.start_ns and call.end_ns <= span.end_ns and not self._are_linked(span, call, top)
        ]  # fmt: skip
        if not within:
            return False
        if sums:
            return True
        if _is_sum(counts, [inner for _, _, inner in within]):
            return True
        return not span.parent_id and any(
            counts.forms() & inner.forms() for call, top, inner in within
            if not top.parent_id and span.start_ns < call.start_ns and call.end_ns < span.end_ns
        )  # fmt: skip

    def _are_linked(self, span: Span, call: Span, top: Span) -> bool:
        """Return whether the parents that are known say that the call is not inside the span."""
        outermost = self._outermost(span)
        return top is outermost or bool(top.parent_id and top.parent_id == outermost.parent_id) or call is span

    def _outermost(self, span: Span) -> Span:
        ancestors = self.ancestors(span)
        return ancestors[-1] if ancestors else span

    def _parent(self, span: Span) -> Span | None:
        return self._by_id.get((span.trace_id, span.parent_id)) if span.parent_id else None


def _is_sum(counts: CallCounts, parts: Sequence[CallCounts]) -> bool:
    """Return whether the counts are the sum of two parts or more."""
    return len(parts) > 1 and bool(counts.forms() & CallCounts(*map(sum, zip(*parts, strict=True))).forms())


def _is_same(counts: CallCounts, parts: Sequence[CallCounts]) -> bool:
    """Return whether the counts are those of one of the calls below, or their sum.

    A gateway may add to a prompt (a system prompt, tools): the only call below with the same completion is the same.
    """
    if len(parts) == 1 and counts.completion == parts[0].completion > 0:
        return True
    return _is_sum(counts, parts) or any(counts.forms() & part.forms() for part in parts)


# These texts are stored as hashes with the checkpoint: a change would forget the recent calls.


def _identity_of_span(trace_id: str, span_id: str, tokens: tuple[int, int]) -> str:
    return f"self {trace_id}/{span_id} {tokens}"


def _identity_of_parent(trace_id: str, span_id: str, tokens: tuple[int, int]) -> str:
    return f"in {trace_id}/{span_id} {tokens}"


def _below(trace_id: str, span_id: str) -> str:
    return f"{MARK}below {trace_id}/{span_id}"


def _agent(trace_id: str, span_id: str) -> str:
    return f"{MARK}agent {trace_id}/{span_id}"


def agents_mark(trace_id: str) -> str:
    """Return the mark of a trace in which an agent counts for its calls."""
    return f"{MARK}agents {trace_id}"


def events_mark(trace_id: str) -> str:
    """Return the mark of a trace of which events were counted: they do not say which spans are around them."""
    return f"{MARK}events {trace_id}"


def _trace(trace_id: str) -> str:
    return f"{MARK}trace {trace_id}"
