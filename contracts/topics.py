"""Topic names, message keys and reserved tenant names."""

from __future__ import annotations

from urllib.parse import unquote

from contracts.errors import BadInput

POWER = "wattlog.power.v1"
TOKENS = "wattlog.tokens.v1"
USAGE = "wattlog.usage.v1"
ALERTS = "wattlog.alerts.v1"
DEADLETTER = "wattlog.deadletter.v1"

JOINED = (POWER, TOKENS)
"""The two topics that a stream worker joins. They have the same number of partitions and the same keys."""
ALL = (POWER, TOKENS, USAGE, ALERTS, DEADLETTER)

PARTITIONER = "murmur2_random"
"""Partitioner of every producer, the Java clients' default: power and tokens of a workload must share a partition."""

TENANT_IDLE = "__idle__"
"""Tenant of a workload's energy while nothing ran and the workload has no owner (OpenCost's term)."""
TENANT_UNALLOCATED = "__unallocated__"
"""Tenant of the energy of GPUs that no workload holds (OpenCost's term)."""
TENANT_UNKNOWN = "unknown"
"""Tenant of what nobody named a tenant for."""
HOUSE_TENANTS = frozenset({TENANT_IDLE, TENANT_UNALLOCATED})
"""Tenants that are nobody: what the house bears itself."""


def key(cluster: str, workload: str) -> str:
    """Return the Kafka key and CloudEvents subject of a workload: `cluster/workload`."""
    return f"{cluster}/{workload}"


def node_workload(node: str) -> str:
    """Return `~node`, the workload name under which a node reports unallocated GPUs."""
    return f"~{node}"


def is_unallocated(workload: str) -> bool:
    """True for the name of a node's unallocated GPUs (`node_workload`)."""
    return workload.startswith("~")


def simulated_cluster(source: str) -> str | None:
    """Return the cluster of a simulated source (`simulated://CLUSTER/...` and the like), None for any other source."""
    kind, _, path = source.partition("://")
    return unquote(path.partition("/")[0]) if kind.startswith("simulated") else None


def check_name(field: str, value: str) -> str:
    """Return a checked cluster, workload, node or tenant name.

    A name has 1 to 253 printable characters; a cluster's has no slash. Raises BadInput, which names the field.
    """
    if not value or len(value) > 253 or not value.isprintable():
        raise BadInput(field, value, "give 1 to 253 printable characters")
    if field == "cluster" and "/" in value:
        raise BadInput(field, value, "a cluster's name has no '/': it ends at the first one in the key")
    return value
