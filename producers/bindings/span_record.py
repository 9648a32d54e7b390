"""Record of spans of GPUs that wait to be stored: at most one open span for each GPU, and those that ended. Pure."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from producers.bindings.apportion import GpuShares

log = logging.getLogger(__name__)

MAX_CLOSED_SPANS = 4_096
"""Closed spans that wait to be stored. More accumulate only while the disk takes nothing for hours."""


class GpuSpan(Protocol):
    """GPU with the same shares over `[t0_ms, t1_ms)`."""

    @property
    def gpu_uuid(self) -> str: ...
    @property
    def t0_ms(self) -> int: ...
    @property
    def t1_ms(self) -> int: ...
    @property
    def shares(self) -> GpuShares: ...


S = TypeVar("S", bound=GpuSpan)


class SpanRecord(Generic[S]):
    """Spans that are not recorded yet. `every_ms` is the length at which a span is due; `content` names them."""

    def __init__(self, every_ms: int, content: str) -> None:
        self._every_ms, self._content = every_ms, content
        self._open: dict[str, S] = {}
        self._closed: deque[S] = deque()
        self.lost = 0
        """Spans that were dropped before they could be stored."""

    def resume(self, span: S) -> None:
        """Continue a span that an earlier agent did not record."""
        self._open[span.gpu_uuid] = span

    def due(self, now: Mapping[str, GpuShares], *, end: bool = False) -> list[S]:
        """Return the spans to record: the closed, the long, and those of GPUs with other shares `now`.

        At the `end` it returns all. They remain until `discard`.
        """
        ready = (s for s in self._open.values() if end or self._is_due(s) or now.get(s.gpu_uuid) != s.shares)
        return [*self._closed, *ready]

    def discard(self, spans: Iterable[S]) -> None:
        """Discard spans that are stored."""
        self._closed.clear()
        for span in spans:
            if self._open.get(span.gpu_uuid) is span:
                del self._open[span.gpu_uuid]

    def unrecorded(self, gpu_uuid: str, stored: Iterable[S] = ()) -> S | None:
        """Return the open span of a GPU that is not recorded once `stored` are; None for none."""
        span = self._open.get(gpu_uuid)
        return None if span is None or any(span is s for s in stored) else span

    def _is_due(self, span: S) -> bool:
        return span.t1_ms - span.t0_ms >= self._every_ms

    def _close(self, span: S | None) -> None:
        if span is None:
            return
        if len(self._closed) == MAX_CLOSED_SPANS:
            self._closed.popleft()
            self.lost += 1
            log.error("%d %s were not stored; their energy is", self.lost, self._content)
        self._closed.append(span)
