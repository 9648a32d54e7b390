"""Shares of senders in the bounds of a listener: on requests under way, and on the bytes of their bodies.

A sender has half of each at most, so that one that sends too much, or too slowly, leaves room for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from producers.runtime.receiver.problems import Rejected


class SenderShares:
    """Requests and bytes under way, by sender. Its event loop alone uses it.

    Of `requests` and `buffered_bytes`, a sender has half; all of it where `alone`, because all senders are one.
    `on_change` is called with the number of requests under way.
    """

    def __init__(self, requests: int, buffered_bytes: int, on_change: Callable[[int], object], *, alone: bool) -> None:
        self._max_requests, self._max_bytes, self._alone = requests, buffered_bytes, alone
        self._on_change = on_change
        self._requests, self._bytes = Counter[str](), Counter[str]()

    def check_room(self, sender: str) -> None:
        """Raise Rejected (429) where there is no room for another request of a sender."""
        total, own = self._requests.total(), self._requests[sender]
        if total >= self._max_requests or own >= self._share(self._max_requests):
            raise Rejected(
                429, "too-many-requests", f"{total} requests are under way, {own} of this sender; send this again.",
                retry_s=1,
            )  # fmt: skip

    @contextmanager
    def request(self, sender: str) -> Iterator[None]:
        """Count a request whose body is here as one under way. Raises Rejected (429) where there is no room for it."""
        self.check_room(sender)
        self._requests[sender] += 1
        self._on_change(self._requests.total())
        try:
            yield
        finally:
            self._requests[sender] -= 1
            self._requests = +self._requests  # Without the senders that have none.
            self._on_change(self._requests.total())

    @contextmanager
    def body(self, sender: str) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts bytes of a body as held. It raises Rejected (429) where they are too many."""
        size = 0

        def hold(more: int) -> None:
            nonlocal size
            size += more
            self._bytes[sender] += more
            if self._bytes[sender] > self._share(self._max_bytes) or self._bytes.total() > self._max_bytes:
                raise Rejected(429, "too-many-bytes", "Too many bytes are under way; send this again.", retry_s=1)

        try:
            yield hold
        finally:
            self._bytes[sender] -= size
            self._bytes = +self._bytes

    def _share(self, limit: int) -> int:
        return limit if self._alone else (limit + 1) // 2
