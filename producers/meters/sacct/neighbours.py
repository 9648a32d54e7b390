"""Runs that shared a node with others, by the accounting itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.node_lists import expand_nodes
from producers.meters.sacct.job_records import JobRun

MAX_PLACES = 2_000_000
"""Pairs of a run and a node that are compared. Where there are more, nothing is known."""
_Span = tuple[int, float, str]
"""Start and end of a run on a node, and the run."""


class Neighbours:
    """Overlaps of runs on nodes.

    Accounting is complete from `since_s` on: it has every run that ended later. Of a run that began before, neighbours
    may be missing.
    """

    def __init__(self, runs: Iterable[JobRun], since_s: int) -> None:
        self._since_s = since_s
        self._is_whole = True
        self._shared: set[str] = set()
        spans: dict[str, list[_Span]] = {}
        known: dict[str, frozenset[str] | None] = {}
        places = 0
        for run in runs:
            if run.start_s is None or not run.has_nodes:
                continue
            if run.nodes not in known:
                known[run.nodes] = expand_nodes(run.nodes)
            nodes = known[run.nodes]
            places += len(nodes or ())
            if nodes is None or places > MAX_PLACES:
                self._is_whole = False  # A run whose nodes are unknown may be anybody's neighbour.
                continue
            for node in nodes:
                spans.setdefault(node, []).append((run.start_s, run.end_s or float("inf"), run.event_id))
        for on_node in spans.values():
            self._add_overlaps(sorted(on_node))

    def _add_overlaps(self, spans: Iterable[_Span]) -> None:
        """Note the runs on one node that overlap; they come in the order of their starts."""
        longest: _Span | None = None  # Of the earlier ones. If a run overlaps another of them, so does this one.
        for span in spans:
            if longest and span[0] < longest[1] and span[2] != longest[2]:
                self._shared |= {span[2], longest[2]}
            if longest is None or span[1] > longest[1]:
                longest = span

    def shared(self, run: JobRun) -> bool | None:
        """Return True if another run was on a node of this one at the same time; None if that is unknown."""
        if run.event_id in self._shared:
            return True
        return False if self._is_whole and run.start_s is not None and run.start_s >= self._since_s else None
