"""Names that gateways make themselves. No workload with GPUs has one of these prefixes."""

from __future__ import annotations

UNMATCHED_PREFIX = "unmatched/"
"""Precedes a model's name, where no rule says which workload serves it."""
EXTERNAL_PREFIX = "external/"
"""Precedes an outside provider's name: its GPUs are none of ours."""
UNNAMED_TENANT = "unknown"
"""Tenant of calls whose sender names none, unless the settings name another (`otherwise`)."""


def without_gpus(workload: str) -> bool:
    """Return True for a workload that no GPUs serve, so that its requests share no energy."""
    return workload.startswith((UNMATCHED_PREFIX, EXTERNAL_PREFIX))
