"""Topic names, message keys and the names that no tenant may bear."""

from __future__ import annotations

from urllib.parse import unquote

from contracts.errors import BadInput

POWER = "wattlog.power.v1"
TOKENS = "wattlog.tokens.v1"
USAGE = "wattlog.usage.v1"
ALERTS = "wattlog.alerts.v1"
DEADLETTER = "wattlog.deadletter.v1"

JOINED = (POWER, TOKENS)
"""The two topics that a worker joins: same partition count, same key."""
ALL = (POWER, TOKENS, USAGE, ALERTS, DEADLETTER)

PARTITIONER = "murmur2_random"
"""Every producer must place keys alike, or power and tokens of a workload part ways. The Java clients' default."""

TENANT_IDLE = "__idle__"
"""Pays for a workload's energy when nothing ran and nobody owns it (OpenCost's word)."""
TENANT_UNALLOCATED = "__unallocated__"
"""Pays for GPUs that nobody holds (OpenCost's word)."""


def key(cluster: str, workload: str) -> str:
    """The Kafka key and CloudEvents subject of a workload: `cluster/workload`."""
    return f"{cluster}/{workload}"


def node_workload(node: str) -> str:
    """The stand-in workload under which a node reports GPUs that nobody holds: `~node`."""
    return f"~{node}"


def is_unallocated(workload: str) -> bool:
    return workload.startswith("~")


def simulated_cluster(source: str) -> str | None:
    """The cluster of a source whose readings or requests are simulated: `simulated://CLUSTER/...` and the like."""
    kind, _, rest = source.partition("://")
    return unquote(rest.partition("/")[0]) if kind.startswith("simulated") else None


def check_name(field: str, value: str) -> str:
    """A cluster, workload, node or tenant name: 1-253 printable characters, no slash in a cluster's.

    Raises BadInput that names the field.
    """
    if not value or len(value) > 253 or not value.isprintable():
        raise BadInput(field, value, "give 1 to 253 printable characters")
    if field == "cluster" and "/" in value:
        raise BadInput(field, value, "a cluster's name has no '/': it ends at the first one in the key")
    return value
