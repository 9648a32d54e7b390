"""The partition that a workload's events belong on: power and tokens of a workload meet only there.

A producer with another partitioner writes elsewhere. Then two partitions would each make a ledger row of the same
workload and window, and one would replace the other.
"""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2

from contracts import topics


@lru_cache(maxsize=65_536)
def partition_of(count: int, cluster: str, workload: str) -> int:
    """Return the partition of a workload among `count`, as Kafka's default partitioner (`murmur2_random`) chooses it.

    Source: org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey.
    """
    number: int = (murmur2(topics.key(cluster, workload).encode()) & 0x7FFFFFFF) % count
    return number
