"""A pair of series and where it differs: gross hours, what leaks, and which source left its own past. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from warehouse.reconciliation.differences import CARRY_H, LONGEST_H, Indexes, Leak, gross_hours, is_bursty, leak
from warehouse.reconciliation.witnesses import F64, REQUESTS, Discrepancy, DiscrepancyKind, Pair, Relation, Witnesses

SETTLE_H = 6
"""Newest hours that are not judged: events may still come."""
RECENT_H = 18
"""Settled hours that are judged."""
LEAST_PART = 0.02
"""Share of a node that its GPUs draw at least."""
PAST_H = 54
"""Hours before, which tell what is usual at the hours' edges."""
GROSS = {
    Relation.COUNTED: 0.10,
    Relation.METERED: 0.15,
    Relation.CONTAINED: 0.06,
    Relation.ALONG: 0.95,
    Relation.PART: 0.2,
}
"""Difference of an hour, as a share of its amount, above which it is gross."""


class JudgedPair:
    """A pair with its gross hours among the recent ones."""

    def __init__(self, pair: Pair, witnesses: Witnesses) -> None:
        self.begins, pair = _since_both_speak(pair)
        """Hour from which both sources speak, where one of them was added later; else 0."""
        unsettled, pair = pair, _settled(pair)
        self.pair = pair
        n = len(pair.a)
        self.recent = np.arange(max(n - RECENT_H, 0), n)
        energy = witnesses.references.get(pair.subject._replace(tenant=""))
        self.reference = _above_floor(energy if pair.relation is Relation.COUNTED else None, n)
        self.a, self.b = pair.a, pair.b
        self.requests = float("inf")
        """Requests in the recent hours, where tokens are judged by them."""
        self.fits = True
        if pair.relation is Relation.CONTAINED:
            self.a, self.fits = _contained(pair)
        if pair.relation is Relation.PART:
            possible = (pair.a <= pair.b) & (LEAST_PART * pair.b <= pair.a)
            self.a = np.where(possible, pair.b, pair.a)
        if pair.relation is Relation.ALONG:
            self.a, self.fits = _along(pair)
        counted = pair.relation is Relation.COUNTED
        start = max(n - PAST_H - RECENT_H, 0)
        # Hours that are not settled take part in the carry: what runs across the last edge is seen there.
        a, b = (unsettled.a, unsettled.b) if counted else (self.a, self.b)
        carry_h = 0 if not counted else CARRY_H if pair.quantity == REQUESTS else LONGEST_H
        until = n - carry_h if carry_h == LONGEST_H else n
        gross = start + gross_hours(a[start:], b[start:], GROSS.get(pair.relation, 0.0), carry_h)
        self.gross: Indexes = gross[(gross >= n - RECENT_H) & (gross < until)] if self.fits else gross[:0]
        volume = np.maximum(a, b)[start:until]
        self.bursty = counted and is_bursty(volume)
        if self.bursty and pair.quantity != REQUESTS and abs((a - b)[start:until].sum()) <= 2 * volume.max():
            self.gross = self.gross[:0]  # A burst of long requests may lie hours apart by two sources, whole.
        self.known = bool((pair.b > 0).any())
        # A single hour tells of requests only: one long prompt is a large part of a small hour's tokens.
        least = 1 if (counted and pair.quantity == REQUESTS) or pair.relation is Relation.PART else 3
        if len(self.gross) < least or not self.known:
            self.gross = self.gross[:0]

    @cached_property
    def leak(self) -> Leak | None:
        """Share that is lost, and the lag, in the recent hours."""
        start = max(len(self.a) - PAST_H - RECENT_H, self.begins)
        return leak(self.a[start:], self.b[start:], RECENT_H)

    @property
    def sums(self) -> tuple[float, float]:
        """Sums over the gross hours; without any, over the recent ones."""
        at = self.gross if len(self.gross) else self.recent
        return float(self.a[at].sum()), float(self.b[at].sum())

    def culprit(self) -> str | None:
        """Return the source that left its own past, None where nothing tells."""
        changes = [_change(column, self.reference, self.gross) for column in (self.a, self.b)]
        if None in changes or self.bursty:
            return None
        first, second = (abs(change or 0.0) for change in changes)
        if abs(first - second) < (0.1 if self.pair.relation is Relation.COUNTED else 1.0):
            return None  # Of energy there is no third witness: a weekend changes both.
        return self.pair.first if first > second else self.pair.second

    def less(self) -> str:
        """Return the source that counts less."""
        a, b = self.sums
        return self.pair.first if a < b else self.pair.second

    def more(self) -> str:
        """Return the source that counts more."""
        return self.pair.second if self.less() == self.pair.first else self.pair.first

    def finding(self, kind: DiscrepancyKind, source: str, **more: object) -> Discrepancy:
        a, b = self.sums
        at = self.gross if len(self.gross) else self.recent
        return Discrepancy(
            kind=kind,
            source=source,
            subject=self.pair.subject,
            quantities=(self.pair.quantity,),
            since=int(at[0]),
            first=self.pair.first,
            second=self.pair.second,
            amounts=(a, b),
            ratio=a / b if b else float("inf"),
            **more,  # type: ignore[arg-type]
        )


def _above_floor(energy: F64 | None, n: int) -> F64 | None:
    """Return what energy is above the least of all hours, which an idle GPU draws: the rest goes with the work."""
    if energy is None or not n or not (energy[:n] > 0).any():
        return None
    return np.asarray(energy[:n] - 0.98 * energy[:n][energy[:n] > 0].min())


def per_request(judged: Sequence[JudgedPair]) -> None:
    """Let tokens be judged by the requests of their subject, where both sources agree on those."""
    of = {(one.pair.subject, one.pair.second): one for one in judged if one.pair.quantity == REQUESTS}
    for one in judged:
        requests = of.get((one.pair.subject, one.pair.second))
        if requests is not None and one is not requests and requests.known and not len(requests.gross):
            one.reference = (requests.a + requests.b) / 2
            one.requests = float(one.reference[one.recent].sum())


def _since_both_speak(pair: Pair) -> tuple[int, Pair]:
    """Return the first hour in which both sources spoke, and the pair without the hours before it.

    One of them was added later. The hour in which it began is left out. A source that never spoke is silent.
    """
    if pair.relation not in (Relation.COUNTED, Relation.METERED) or not (pair.a.any() and pair.b.any()):
        return 0, pair
    first, second = int(np.argmax(pair.a != 0)), int(np.argmax(pair.b != 0))
    if first == second:
        return 0, pair
    begins = max(first, second) + 1
    speak = np.arange(len(pair.a)) >= begins
    return begins, replace(pair, a=np.where(speak, pair.a, 0.0), b=np.where(speak, pair.b, 0.0))


def _settled(pair: Pair) -> Pair:
    def cut(column: F64 | None) -> F64 | None:
        return None if column is None else column[:-SETTLE_H]

    return replace(
        pair, a=pair.a[:-SETTLE_H], b=pair.b[:-SETTLE_H], a_parts=cut(pair.a_parts), b_parts=cut(pair.b_parts)
    )


def _contained(pair: Pair) -> tuple[F64, bool]:
    """Return the second series as the first predicts it, by the line through the past; False without such a past.

    Hours outside of what the first was in the past are predicted to be as they are: a line holds where it was drawn.
    But a part that is more than the whole is wrong anywhere.
    """
    before = slice(0, max(len(pair.a) - RECENT_H - SETTLE_H, 0))
    a, b = pair.a[before], pair.b[before]
    known = (a > 0) & (b > 0)
    if known.sum() < 24:
        return pair.a, False
    middle, width = float(np.mean(a[known])), float(np.std(a[known]))
    slope = float(np.mean((a[known] - middle) * (b[known] - np.mean(b[known])))) / width**2 if width else 0.0
    offset = float(np.mean(b[known])) - slope * middle
    if width < 0.05 * middle or slope <= 0:
        slope, offset = float(np.median(b[known] / a[known])), 0.0
    predicted = np.where(pair.a > 0, offset + slope * pair.a, 0.0)
    drawn = (pair.a >= 0.8 * a[known].min()) & (pair.a <= 1.1 * a[known].max())
    apart = np.maximum(predicted, pair.b) > 3 * np.minimum(predicted, pair.b)
    return np.where(
        pair.a > 1.02 * pair.b, np.maximum(predicted, pair.a), np.where(drawn | apart, predicted, pair.b)
    ), True


def _along(pair: Pair) -> tuple[F64, bool]:
    """Return the second series as its usual ratio to the first predicts it; False without such a past."""
    before = slice(0, max(len(pair.a) - RECENT_H - SETTLE_H, 0))
    a, b = pair.a[before], pair.b[before]
    known = (a > 0) & (b > 0)
    if known.sum() < 24:
        return pair.a, False
    return pair.a * float(np.median(b[known] / a[known])), True


def _change(column: F64, reference: F64 | None, gross: Indexes) -> float | None:
    """Return the logarithm of how much a series changed against the reference, from the hours before to the gross ones.

    Hours are compared with those of the same time of the day before. None without a past.
    """
    past = np.arange(gross[0]) if len(gross) else np.array([], int)
    if len(past) < 12:
        return None
    scale = reference if reference is not None and (reference[gross] > 0).any() else np.ones(len(column))
    changes = []
    for hour in gross[scale[gross] > 0]:
        same = past[(past - hour) % 24 == 0]
        before = [column[i] / scale[i] for i in same if column[i] > 0 and scale[i] > 0]
        if before:
            changes.append(np.log(max(column[hour] / scale[hour], 1e-12) / float(np.median(before))))
    return float(np.median(changes)) if changes else None


def missing_part(one: JudgedPair) -> str | None:
    """Return the source of which fewer parts report than before, if it is the one that counts less."""
    for source, parts in ((one.pair.first, one.pair.a_parts), (one.pair.second, one.pair.b_parts)):
        if parts is None or source != one.less() or one.gross[0] < 12:
            continue
        before = parts[max(one.gross[0] - 96, 0) : one.gross[0]]
        hours = np.arange(len(parts))[max(one.gross[0] - 96, 0) : one.gross[0]]
        same = [before[(hours - hour) % 24 == 0].max(initial=0) for hour in one.gross]
        left = float(np.median(parts[one.gross] / np.maximum(same, 1)))
        a, b = one.sums
        if left < 1 and (abs(min(a, b) / max(a, b) - left) < 0.12 or one.culprit() == source):
            return source
    return None
