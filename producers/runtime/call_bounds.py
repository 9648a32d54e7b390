"""Bounds of the calls that a sender posts. Pure."""

from __future__ import annotations

from typing import NamedTuple

from contracts.errors import BadInput
from producers.runtime.batching import RequestRow
from producers.servers.token_limits import above_limit


class CallBounds(NamedTuple):
    """Bounds of the calls that a sender posts: none ended before `oldest_ms` (epoch ms), and none has more tokens per
    second than `tokens_per_s`."""

    oldest_ms: int = 0
    tokens_per_s: int | None = None

    def check(self, row: RequestRow) -> None:
        """Raise BadInput for a call with more tokens than its time can hold; at least a second counts."""
        length_ms, limit = row.t_end_ms - row.t_start_ms, self.tokens_per_s
        if limit is not None and above_limit(row.prompt_tokens + row.completion_tokens, length_ms, limit):
            name = "prompt_tokens" if row.prompt_tokens > row.completion_tokens else "completion_tokens"
            fix = (
                f"is more than {limit:,} tokens per second, in {length_ms:,} ms: correct it, or raise max_tokens_per_s"
            )
            raise BadInput(name, getattr(row, name), fix)


NO_BOUNDS = CallBounds()
"""Of calls that are read, not posted."""
