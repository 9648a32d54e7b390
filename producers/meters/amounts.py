"""What a thing used, as metered rows. Pure.

Counters are known by these names, whoever read them: `cpu_ns`, `received_bytes`, `sent_bytes`, `read_bytes`,
`written_bytes`; levels by these: `memory_bytes`, `storage_bytes`. A gigabyte is 10^9 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from producers.common.counter_delta import CounterDelta
from producers.runtime.batching import UsageRow, decimal_text


class _Meter(NamedTuple):
    name: str
    unit: str
    per: int
    """So many of the counter's unit (or of the level's unit x ms) are one of the meter's."""


MS_PER_MIN = 60_000
COUNTED: Mapping[str, _Meter] = {
    "cpu_ns": _Meter("cpu_usage_core_minutes", "core.min", 60 * 10**9),
    "received_bytes": _Meter("network_received_bytes", "By", 1),
    "sent_bytes": _Meter("network_sent_bytes", "By", 1),
    "read_bytes": _Meter("storage_read_bytes", "By", 1),
    "written_bytes": _Meter("storage_written_bytes", "By", 1),
}
HELD: Mapping[str, _Meter] = {
    "memory_bytes": _Meter("cpu_memory_usage_gigabyte_minutes", "GB.min", 10**9 * MS_PER_MIN),
    "storage_bytes": _Meter("storage_usage_gigabyte_minutes", "GB.min", 10**9 * MS_PER_MIN),
}


def rows(used: CounterDelta, tenant: str, dimensions: Mapping[str, str]) -> Iterator[UsageRow]:
    """A row a meter of which something was used. Minutes are rounded to 12 digits after the point."""
    amounts = [(COUNTED[name], Decimal(value)) for name, value in used.counters.items()]
    amounts += [(HELD[name], value) for name, value in used.levels.items()]
    for meter, amount in amounts:
        if amount:
            quantity = decimal_text(meter.name, amount / meter.per)
            yield UsageRow(meter.name, meter.unit, quantity, used.t0_ms, used.t1_ms, tenant, dimensions=dimensions)
