"""Signatures of faults in a subject's pairs of tokens and requests, and of what leaks slowly. Pure."""

from __future__ import annotations

import numpy as np

from warehouse.reconciliation.differences import constant_ratio, typical
from warehouse.reconciliation.judged_pair import JudgedPair
from warehouse.reconciliation.witnesses import (
    CACHED,
    COMPLETION,
    PROMPT,
    REQUESTS,
    Discrepancy,
    DiscrepancyKind,
    Relation,
)

TOLERATED, LEAST_EXCESS, LEAST_TOKENS = 0.0002, 0.004, 0.02
"""Shares that honest sources differ by: of requests (clients that give up; what a restart forgets), and of tokens."""
CERTAIN = 5.0
"""Standard errors that such a share must have."""
MANY = 1_000
"""Requests in the recent hours."""


def leaking(one: JudgedPair) -> Discrepancy | None:
    """Return a small share that is lost or counted twice, where no hour differs grossly.

    Tokens are judged only where many requests are: one long prompt is a large share of few.
    """
    fit, tokens = one.leak, one.pair.quantity != REQUESTS
    if (
        one.pair.relation is not Relation.COUNTED
        or not one.known
        or fit is None
        or abs(fit.share) < CERTAIN * fit.share_error
    ):
        return None
    if tokens and (one.bursty or one.requests < MANY):
        return None
    amount = float(one.b[one.recent].sum())
    least, least_a_day = (
        LEAST_TOKENS * of if tokens else TOLERATED * of + 5 * (TOLERATED * of) ** 0.5 + 3
        for of in (amount, float(one.b[-24:].sum()))
    )
    if np.sign(fit.share) * fit.in_a_day < least_a_day:
        return None
    if -fit.share * amount > least:
        return one.finding(DiscrepancyKind.LOST, one.pair.first)
    excess = max(LEAST_EXCESS, least / max(amount, 1.0))
    return one.finding(DiscrepancyKind.DOUBLED, one.pair.first) if fit.share > excess else None


def several_answers(of: dict[str, JudgedPair]) -> Discrepancy | None:
    """Return the finding where the second source has more requests than the first, and the same answers.

    A server counts a call that asks for n answers n times, with its prompt. A lost call would lack its answer, too.
    """
    one, answers = of.get(REQUESTS), of.get(COMPLETION)
    if one is None or answers is None or one.pair.relation is not Relation.COUNTED:
        return None
    if not answers.known or len(answers.gross):
        return None
    if len(one.gross):
        lacks, lacking_answers = (
            1 - float(pair.a[one.recent].sum()) / max(float(pair.b[one.recent].sum()), 1.0) for pair in (one, answers)
        )
        is_same = abs(lacking_answers) < lacks / 4 < 0.225
        return one.finding(DiscrepancyKind.EXCESS, one.pair.second) if is_same else None
    lost, fit, of_answers = leaking(one), one.leak, answers.leak
    if lost is None or lost.kind is not DiscrepancyKind.LOST or fit is None or of_answers is None:
        return None
    is_same = abs(of_answers.share) + 2 * of_answers.share_error < -fit.share / 3
    return one.finding(DiscrepancyKind.EXCESS, one.pair.second) if is_same else None


def swapped(of: dict[str, JudgedPair]) -> Discrepancy | None:
    prompt, completion = of.get(PROMPT), of.get(COMPLETION)
    if prompt is None or completion is None or not len(prompt.gross) or not len(completion.gross):
        return None
    at = np.intersect1d(prompt.gross, completion.gross)
    if len(at) < 2:
        return None
    crossed = (constant_ratio(prompt.a[at], completion.b[at], 0.1), constant_ratio(completion.a[at], prompt.b[at], 0.1))
    if all(ratio is not None and abs(ratio - 1) < 0.1 for ratio in crossed):
        return prompt.finding(DiscrepancyKind.SWAPPED, prompt.culprit() or prompt.pair.first)
    return None


def cached(of: dict[str, JudgedPair]) -> Discrepancy | None:
    """Return the finding where the prompts differ by the cached tokens, and nothing else differs."""
    prompt, cached = of.get(PROMPT), of.get(CACHED)
    others = [one for quantity, one in of.items() if quantity in (COMPLETION, REQUESTS)]
    if prompt is None or cached is None or any(len(one.gross) for one in others):
        return None
    at = prompt.gross if len(prompt.gross) else prompt.recent[-12:]
    difference, of_cached = prompt.a[at] - prompt.b[at], np.maximum(cached.a[at], cached.b[at])
    if of_cached.sum() < 0.01 * prompt.b[at].sum() or not of_cached.sum():
        return None
    share = difference.sum() / of_cached.sum()
    known = of_cached > 0.2 * typical(of_cached)
    if abs(abs(share) - 1) > 0.1 or not known.sum():
        return None
    off = np.median(np.abs(difference[known] / of_cached[known] - np.sign(share)))
    if off > 0.15:
        return None
    return prompt.finding(DiscrepancyKind.CACHED, prompt.culprit() or prompt.pair.first)
