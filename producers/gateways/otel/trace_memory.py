"""Memory of recent traces across messages: which span is inside which, and when counted calls ran.

A Collector's filter may drop the spans between a call and the agent around it, and send both in messages of their own.
Then no parents lead from the call to the agent, and only time says that it ran inside. The memory is in the process
alone: after a restart such an agent may count besides its calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from producers.gateways.otel.spans import Span

MAX_TRACES = 2_048
MAX_SPANS, MAX_CALLS = 2_048, 512
"""Spans and calls of one trace that are remembered."""
MAX_ENTRIES = 262_144
"""Spans and calls of all senders that are remembered, some 100 MB."""
MAX_SENDERS = 256
"""Senders whose traces are remembered. Beyond, the one that sent nothing for the longest time makes room."""
MAX_DEPTH = 64


class CallCounts(NamedTuple):
    """Tokens of one report, by which two reports of the same call are recognised."""

    prompt: int
    cached: int
    completion: int

    def forms(self) -> set[tuple[int, int]]:
        """Return prompt and completion as they may be reported: with the cache's tokens, and without them."""
        return {(self.prompt, self.completion), (self.prompt - self.cached, self.completion)}


class _Call(NamedTuple):
    span_id: str
    start_ns: int
    end_ns: int
    counts: CallCounts


class _Trace(NamedTuple):
    parents: dict[str, str]
    calls: list[_Call]
    agents: list[Span]
    """Agents that count for their calls."""


class TraceMemory:
    """The traces so far, the newest `MAX_TRACES`. Several threads may use it."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._lock = Lock()
        self.size = 0
        """Spans, calls, agents and traces in it."""

    def add_spans(self, spans: Sequence[Span]) -> None:
        """Note the parents of spans."""
        with self._lock:
            for span in spans:
                trace = self._trace(span.trace_id)
                if len(trace.parents) < MAX_SPANS:
                    self.size += span.span_id not in trace.parents
                    trace.parents[span.span_id] = span.parent_id

    def add_call(self, span: Span, counts: CallCounts) -> None:
        """Note a call that is counted."""
        with self._lock:
            trace = self._trace(span.trace_id)
            if len(trace.calls) < MAX_CALLS:
                trace.calls.append(_Call(span.span_id, span.start_ns, span.end_ns, counts))
                self.size += 1

    def add_agent(self, span: Span) -> None:
        """Note an agent that is counted for its calls."""
        with self._lock:
            trace = self._trace(span.trace_id)
            if len(trace.agents) < MAX_CALLS:
                trace.agents.append(span)
                self.size += 1

    def is_within_agent(self, span: Span) -> bool:
        """Return whether an agent counted for a span that ran within its time, and whose parents do not lead past
        it."""
        with self._lock:
            trace = self._traces.get(span.trace_id)
            return trace is not None and any(
                agent.start_ns <= span.start_ns and span.end_ns <= agent.end_ns and agent.span_id != span.span_id
                and _outermost(trace.parents, span.span_id, agent.span_id)
                not in ("", _outermost(trace.parents, agent.span_id, ""))
                for agent in trace.agents
            )  # fmt: skip

    def unlinked_within(self, span: Span) -> list[CallCounts]:
        """Return the counts of the calls that ran within a span's time, and whose parents do not lead past it."""
        with self._lock:
            trace = self._traces.get(span.trace_id)
            if trace is None:
                return []
            top = _outermost(trace.parents, span.span_id, "")
            return [
                call.counts for call in trace.calls
                if span.start_ns <= call.start_ns and call.end_ns <= span.end_ns and call.span_id != span.span_id
                and _outermost(trace.parents, call.span_id, span.span_id) not in ("", top)
            ]  # fmt: skip

    def shrink(self) -> None:
        """Forget the oldest traces, until at most seven eighths of its size remain."""
        with self._lock:
            limit = self.size * 7 // 8
            while self.size > limit:
                self._forget_oldest()

    def _trace(self, trace_id: str) -> _Trace:
        trace = self._traces.get(trace_id)
        if trace is None:
            trace = self._traces[trace_id] = _Trace({}, [], [])
            self.size += 1
            if len(self._traces) > MAX_TRACES:
                self._forget_oldest()
        return trace

    def _forget_oldest(self) -> None:
        _, trace = self._traces.popitem(last=False)
        self.size -= 1 + len(trace.parents) + len(trace.calls) + len(trace.agents)


class TraceMemories:
    """The memories of traces by sender. Several threads may use it.

    Who knows the id of another sender's trace changes nothing of what is counted in it. Beyond `max_entries`, the
    sender that has most of them makes room.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_senders: int = MAX_SENDERS) -> None:
        self._max_entries, self._max_senders = max_entries, max_senders
        self._by_sender: OrderedDict[str, TraceMemory] = OrderedDict()
        self._lock = Lock()

    def of(self, sender: str) -> TraceMemory:
        """Return the memory of a sender's traces. What the messages before this one brought is bounded now."""
        with self._lock:
            memory = self._by_sender.setdefault(sender, TraceMemory())
            self._by_sender.move_to_end(sender)
            if len(self._by_sender) > self._max_senders:
                self._by_sender.popitem(last=False)
            while sum(one.size for one in self._by_sender.values()) > self._max_entries:
                max(self._by_sender.values(), key=lambda one: one.size).shrink()
            return memory


def _outermost(parents: dict[str, str], span_id: str, stop: str) -> str:
    """Return the first ancestor that is not known, "" if the root is; `stop` if that is among them."""
    for _ in range(MAX_DEPTH):
        if span_id not in parents:
            return span_id
        span_id = parents[span_id]
        if stop and span_id == stop:
            return stop
    return ""
