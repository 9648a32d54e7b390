"""Rows for the tests, with defaults for every column that a test does not set."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from contracts.rows import SCHEMAS, Table, concat, conform

HOUR = 1_704_067_200_000
"""2024-01-01T00:00:00Z."""
WINDOW_MS = 10_000
FIRST_FINAL = 1 << 62

_DEFAULTS: dict[str, Any] = {
    "window_start": HOUR, "window_ms": WINDOW_MS, "cluster": "eu", "workload": "chat", "node": "n1", "gpu_uuid": "G1",
    "hardware": "H200", "tenant": "acme", "model": "llama", "log_id": "log", "log_partition": 0, "version": FIRST_FINAL,
    "final": 1, "weights_version": 1, "covered_ms": WINDOW_MS, "busy_ms": -1, "status": "ok",
    "topic": "wattlog.power.v1", "source": "n1", "t_start": HOUR, "t_end": HOUR + 500, "final_end": HOUR,
    "last_event": HOUR, "state": "{}", "at": HOUR, "t0": HOUR, "t1": HOUR, "log_ms": HOUR,
}  # fmt: skip
_EMPTY: dict[str, Any] = {"text": "", "decimal": [Decimal("-1.25")], "map": [{"pod": "p-1", "node": ""}]}


def row(name: str, **values: Any) -> Table:
    """One row of `SCHEMAS[name]`; a column without a value has a default, or is empty."""
    columns = {c: _EMPTY.get(kind, 0) for c, kind in SCHEMAS[name].items()}
    columns |= {c: v for c, v in _DEFAULTS.items() if c in columns}
    return conform(name, {**columns, **values})


def rows(name: str, *many: dict[str, Any]) -> Table:
    """Several rows, as `row`."""
    return concat(name, [row(name, **values) for values in many])
