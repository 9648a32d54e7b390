"""Rows of latencies for CSV and tables: the groups, and a column for each percentile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from contracts.histogram import LATENCIES
from warehouse.latency.latency_queries import Percentiles

_MEASURES = tuple(field.name for field in fields(Percentiles))


def latency_columns(names: Sequence[str]) -> list[str]:
    """Return the columns of latencies grouped by `names`: groups, percentiles, `simulated`."""
    return [*names, *(f"{name}_{measure}" for name in LATENCIES for measure in _MEASURES), "simulated"]


def flat_latency_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its groups and its percentiles as columns of their own."""
    percentiles = {f"{name}_{measure}": row[name][measure] for name in LATENCIES for measure in _MEASURES}
    return {**row["group"], **percentiles, "simulated": row["simulated"]}
