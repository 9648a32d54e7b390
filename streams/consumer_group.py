"""Settings that both consumers of a worker share: Faust's, of the joined topics, and the usage job's own."""

from __future__ import annotations

from contracts.settings import Settings

STOP_WAIT_S = 20.0
"""How long each step of stopping may take: storing what is final, and leaving the group."""
EMBEDDED_STOP_WAIT_S = 3.0
"""The same on an in-process broker, which ends with the worker: no other member waits for its partitions."""
MAX_POLL_S = 86_400.0
"""Longest pause in reading before the group takes a worker's partitions away. A worker that waits for the warehouse
does not read, and its successor would wait as well. One that is stalled for another reason ends itself (`app`)."""
HEARTBEATS_PER_SESSION = 6
"""Heartbeats within `session_timeout_ms`; Kafka's documentation recommends at least 3."""
HEARTBEAT_MAX_MS = 15_000
"""Longest pause between heartbeats, however long the session: a member learns of a rebalance from them."""


def heartbeat_ms(settings: Settings) -> int:
    """Return the pause between heartbeats of a member of a group."""
    return min(settings.session_timeout_ms // HEARTBEATS_PER_SESSION, HEARTBEAT_MAX_MS)


def usage_group(settings: Settings) -> str:
    """Return the consumer group of the usage job: it reads another topic, at its own pace."""
    return f"{settings.kafka_group}-usage"
