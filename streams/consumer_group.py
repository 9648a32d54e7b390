"""Settings that both consumers of a worker share: Faust's, of the joined topics, and the usage job's own."""

from __future__ import annotations

from contracts.settings import Settings

STOP_WAIT_S = 20.0
"""How long each step of stopping may take: storing what is final, and leaving the group."""
MAX_POLL_S = 86_400.0
"""Longest pause in reading before the group takes a worker's partitions away. A worker that waits for the warehouse
does not read, and its successor would wait as well. One that is stalled for another reason ends itself (`app`)."""
HEARTBEATS_PER_SESSION = 6
"""Heartbeats within `session_timeout_ms`; Kafka's documentation recommends at least 3."""


def usage_group(settings: Settings) -> str:
    """Return the consumer group of the usage job: it reads another topic, at its own pace."""
    return f"{settings.kafka_group}-usage"
