"""Quotas of senders: how many requests, and how many rows, each may send per second. Token buckets; pure.

A bucket may be overdrawn by its last request, and then takes none until it is filled again. So no request is too large
for it, and one that has to wait costs neither parsing nor memory: it is refused before its body is read.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from producers.runtime.receiver.problems import Rejected

BURST_S = 10
"""Seconds of its rate that a sender may send at once, after a pause."""
MAX_SENDERS = 10_000
"""Senders whose buckets are kept; the one that sent least recently makes room, and has a full bucket again."""


class Quota(NamedTuple):
    """Most requests and rows per second of one sender. None: no bound."""

    requests_per_s: int | None = None
    rows_per_s: int | None = None


NO_QUOTA = Quota()


class TokenBuckets:
    """A bucket for each sender, filled at `per_s` up to `BURST_S` of it. Times are monotonic, in ms."""

    def __init__(self, per_s: int, max_senders: int = MAX_SENDERS) -> None:
        self.per_s, self._max_senders = per_s, max_senders
        self._full_at_ns: OrderedDict[str, int] = OrderedDict()
        """When a sender's bucket is full again."""

    def wait_s(self, sender: str, now_ms: int) -> int:
        """Return the whole seconds until a sender may take again; 0: now."""
        empty_for_ns = self._full_at_ns.get(sender, 0) - now_ms * 10**6 - BURST_S * 10**9
        return max(0, empty_for_ns // 10**9 + 1)

    def take(self, sender: str, count: int, now_ms: int) -> None:
        """Take `count` out of a sender's bucket, which may overdraw it."""
        full_at_ns = max(self._full_at_ns.get(sender, 0), now_ms * 10**6) + count * 10**9 // self.per_s
        self._full_at_ns[sender] = full_at_ns
        self._full_at_ns.move_to_end(sender)
        if len(self._full_at_ns) > self._max_senders:
            self._full_at_ns.popitem(last=False)


class SenderQuotas:
    """Buckets of requests and of rows. The listener's event loop alone uses them."""

    def __init__(self, quota: Quota) -> None:
        self._requests = None if quota.requests_per_s is None else TokenBuckets(quota.requests_per_s)
        self._rows = None if quota.rows_per_s is None else TokenBuckets(quota.rows_per_s)

    def take_request(self, sender: str, now_ms: int) -> None:
        """Count a request that is about to be read. Raises Rejected (429) where its sender has to wait."""
        for name, buckets in (("requests", self._requests), ("rows", self._rows)):
            if buckets is not None and (wait_s := buckets.wait_s(sender, now_ms)):
                bound = f"{buckets.per_s:,} {name} per second"
                raise Rejected(
                    429, "too-fast", f"More than {bound} of this sender; send this again in {wait_s} s.",
                    retry_s=wait_s,
                    log_text=f"{sender!r} sends more than {bound}: raise produce.http.max_{name}_per_s if it should",
                )  # fmt: skip
        if self._requests is not None:
            self._requests.take(sender, 1, now_ms)

    def take_rows(self, sender: str, rows: int, now_ms: int) -> None:
        """Count the rows of a request that was read: its sender's next one may have to wait for them."""
        if self._rows is not None:
            self._rows.take(sender, rows, now_ms)
