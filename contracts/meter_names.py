"""Names of meters on wattlog.usage.v1 that queries treat specially. Any other meter is summed as well.

A meter is money if its unit is a currency: three capitals, such as USD (ISO 4217).
"""

from __future__ import annotations

import re

TOOL_CALLS = "tool_calls"
"""Tool calls of an agent; unit `call`."""
EXTERNAL_SPEND = "external_spend"
"""Money paid to others, such as model APIs and search; its unit is the currency."""

SERVER_METERS = {
    "server_prompt_tokens": "prompt_tokens",
    "server_cached_tokens": "cached_tokens",
    "server_completion_tokens": "completion_tokens",
    "server_requests": "requests",
}
"""What servers' own counters say, for comparison only, with the quantity of the ledger that each is compared with."""
HOST_METER = "host_energy_uj"
"""Energy of a zone of a node (its CPUs, its memory, all of it), beside the ledger; unit `uJ`."""
JOB_METER, NODE_LIST = "job_energy_uj", "node_list"
"""Energy of a job's nodes by Slurm's accounting, beside the ledger; unit `uJ`. The dimension is its list of nodes."""
WATTS_METER = "gpu_watts_energy_uj"
"""Energy of a workload's GPUs as integrated from watts, beside their counters, for comparison only; unit `uJ`."""
UNWATCHED_METER = "gpu_unwatched_energy_uj"
"""Energy of its GPUs in the ledger that has no second witness: time in which counter and watts were not both read."""

COMPARISON_METERS = frozenset({*SERVER_METERS, HOST_METER, JOB_METER, WATTS_METER, UNWATCHED_METER})
"""Meters beside the ledger, which no bill contains: what they count is in the ledger, or is compared with it."""

_CURRENCY = re.compile(r"[A-Z]{3}")


def is_currency(unit: str) -> bool:
    """True if quantities of this unit are money."""
    return _CURRENCY.fullmatch(unit) is not None
