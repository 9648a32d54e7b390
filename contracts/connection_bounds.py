"""Bounds on the connections of a server on uvicorn: how many, how many of an address, and how long without a request.

The API and the receivers share them. A client that opens connections and sends heads of requests slowly, or none, would
else hold every connection that a server has. Where there are too many, the oldest without a request is closed, or else
the oldest whose request is still arriving, so that clients who send their requests at once are always served.
"""

from __future__ import annotations

import resource
from collections.abc import Collection, Iterable
from typing import Any

HEAD_S = 10.0
"""Seconds that a connection may wait for the whole head of a request."""
ANSWER_S = 600.0
"""Seconds from a request to the last byte of its answer, which a client may take slowly."""
KEEP_ALIVE_S = 5
"""Seconds that a connection stays open after an answer."""
HEAD_BYTES = 64 * 2**10
"""Bytes of a request's head."""
TURN_S = 0.0005
"""Seconds that a thread runs before the event loop has its turn, a tenth of Python's own: health checks wait for it."""
MAX_CONNECTIONS = 2_000
_FILES_PER_CONNECTION = 2


class ConnectionBounds:
    """The connections of one server, and the bounds on them. Its event loop alone uses it.

    Of `limit` connections, half may be of one address. `head_s`: seconds to wait for a request's head.
    """

    def __init__(self, head_s: float = HEAD_S, limit: int | None = None) -> None:
        self._head_s = head_s
        self._limit = connection_limit() if limit is None else limit
        self._since_s: dict[tuple[Any, Any, bool], float] = {}
        """By connection, its last request, and whether that is answered: when it was first seen so."""
        self._open: dict[str, dict[Any, None]] = {}
        """The connections of each address, the oldest first."""

    def close_slow(self, connections: Collection[Any], now_s: float) -> None:
        """Close the slow ones among uvicorn's connections, at a monotonic time."""
        states = ((one, getattr(one, "cycle", None), _is_idle(one)) for one in connections)
        self._since_s = {state: self._since_s.get(state, now_s) for state in states}
        for (connection, _, idle), since_s in self._since_s.items():
            if now_s - since_s > (self._head_s if idle else ANSWER_S):
                connection.transport.abort()

    def add(self, connection: Any) -> None:
        """Note a connection that has opened, and close one where there are too many."""
        own = self._open.setdefault(_address(connection), {})
        own[connection] = None
        if len(own) > (self._limit + 1) // 2:
            self._close_one(own, connection)
        elif sum(map(len, self._open.values())) > self._limit:
            self._close_one((one for many in self._open.values() for one in many), connection)

    def remove(self, connection: Any) -> None:
        """Note a connection that has closed, or is about to."""
        own = self._open.get(_address(connection), {})
        own.pop(connection, None)
        if not own:
            self._open.pop(_address(connection), None)

    def _close_one(self, connections: Iterable[Any], newest: Any) -> None:
        others = [one for one in connections if one is not newest]
        idle = next((one for one in others if _is_idle(one)), None)
        arriving = next((one for one in others if one.cycle is not None and one.cycle.more_body), None)
        least = idle or arriving or newest
        self.remove(least)
        least.transport.abort()


def bounded_protocol(protocol: type[Any], bounds: ConnectionBounds) -> type[Any]:
    """Return uvicorn's protocol as one whose connections have these bounds."""

    class BoundedProtocol(protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            bounds.add(self)

        def connection_lost(self, exc: Exception | None) -> None:
            bounds.remove(self)
            super().connection_lost(exc)

    return BoundedProtocol


def connection_limit() -> int:
    """Return how many connections a server takes: 2,000, or fewer where this process may open few files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // _FILES_PER_CONNECTION)


def _is_idle(connection: Any) -> bool:
    """Return whether a connection has no request under way."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or bool(cycle.response_complete)


def _address(connection: Any) -> str:
    client = getattr(connection, "client", None)
    return str(client[0]) if client else ""
