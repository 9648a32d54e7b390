"""Converts an object's use of counters and levels to metered rows. Pure.

Every reader names counters `cpu_ns`, `received_bytes`, `sent_bytes`, `read_bytes` and `written_bytes`, and levels
`memory_bytes` and `storage_bytes`. A gigabyte is 10^9 bytes.
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
    """Amount of the counter (in its unit) or level (in its unit x ms) that is one of the meter's unit."""


MS_PER_MIN = 60_000
COUNTER_METERS: Mapping[str, _Meter] = {
    "cpu_ns": _Meter("cpu_usage_core_minutes", "core.min", 60 * 10**9),
    "received_bytes": _Meter("network_received_bytes", "By", 1),
    "sent_bytes": _Meter("network_sent_bytes", "By", 1),
    "read_bytes": _Meter("storage_read_bytes", "By", 1),
    "written_bytes": _Meter("storage_written_bytes", "By", 1),
}
LEVEL_METERS: Mapping[str, _Meter] = {
    "memory_bytes": _Meter("cpu_memory_usage_gigabyte_minutes", "GB.min", 10**9 * MS_PER_MIN),
    "storage_bytes": _Meter("storage_usage_gigabyte_minutes", "GB.min", 10**9 * MS_PER_MIN),
}


def rows(delta: CounterDelta, tenant: str, dimensions: Mapping[str, str]) -> list[UsageRow]:
    """Return one row for each meter with an amount. Minutes are rounded to 12 digits after the point."""
    return list(_rows(delta, tenant, dimensions))


def _rows(delta: CounterDelta, tenant: str, dimensions: Mapping[str, str]) -> Iterator[UsageRow]:
    amounts = [(COUNTER_METERS[name], Decimal(value)) for name, value in delta.counters.items()]
    amounts += [(LEVEL_METERS[name], value) for name, value in delta.levels.items()]
    for meter, amount in amounts:
        if amount:
            quantity = decimal_text(meter.name, amount / meter.per)
            yield UsageRow(
                meter=meter.name,
                unit=meter.unit,
                quantity=quantity,
                t0_ms=delta.t0_ms,
                t1_ms=delta.t1_ms,
                tenant=tenant,
                dimensions=dimensions,
            )
