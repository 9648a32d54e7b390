"""Shares of topics in the bound of a producer's queue: one that is refused leaves room for the others. Pure.

An eighth is reserved for each topic. What one holds beyond its eighth comes from the room that none is reserved for, so
a topic alone takes three quarters.
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts import topics

TOPICS = (*topics.JOINED, topics.USAGE)
"""Topics that producers write."""
RESERVED = 8
"""One in so many parts of the bound is reserved for each topic."""


def room_for(topic: str, held: Mapping[str, int], limit: int) -> int:
    """Return the room for more of a topic, where `held` is what the topics hold of `limit`; below 0 for too much."""
    reserved = sum(max(0, limit // RESERVED - held.get(other, 0)) for other in TOPICS if other != topic)
    return limit - sum(held.values()) - reserved
