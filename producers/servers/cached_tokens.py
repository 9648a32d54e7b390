"""Cached tokens as a subset of prompt tokens, though the two counters do not advance together. Pure.

A server counts hits when it schedules a request, and the prompt at the first token. So hits run ahead of prompts, and
wait for them here. What has waited for AHEAD_MS belongs to no prompt (a request was preempted and scheduled again, or
aborted), and is dropped: it would make later prompts free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

AHEAD_MS = 300_000
"""Time that cached tokens wait for their prompts."""
_STEP_MS = 10_000
"""Tokens of readings that are closer than this wait together, so that few numbers are stored."""

Waiting = Sequence[tuple[int, int]]
"""Cached tokens that wait, oldest first: (since epoch ms, tokens)."""


class CachedShare(NamedTuple):
    """Cached tokens of a growth of prompts, those that go on to wait, and the number of those that are dropped."""

    cached_tokens: int
    waiting: Waiting
    dropped_tokens: int


def cached_share(waiting: Waiting, cached_tokens: int, prompt_tokens: int, t_ms: int) -> CachedShare:
    """Return how many of `prompt_tokens` were cached: of those that wait, oldest first, and of the new ones."""
    queue = list(waiting)
    if cached_tokens and queue and t_ms - queue[-1][0] < _STEP_MS:
        queue[-1] = (queue[-1][0], queue[-1][1] + cached_tokens)
    elif cached_tokens:
        queue.append((t_ms, cached_tokens))
    left = prompt_tokens
    remaining: list[tuple[int, int]] = []
    dropped = 0
    for since_ms, tokens in queue:
        used = min(tokens, left)
        left -= used
        if tokens == used:
            continue
        if t_ms - since_ms >= AHEAD_MS:
            dropped += tokens - used
        else:
            remaining.append((since_ms, tokens - used))
    return CachedShare(prompt_tokens - left, remaining, dropped)
