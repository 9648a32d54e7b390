"""Proof of a bill: a hash over its lines, which anybody can compute again from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from billing.line_items import LineItem
from contracts.units import plain_decimal, rfc3339, shortest_decimal

COLUMNS = (
    "line_id", "period", "tenant", "team", "cost_centre", "category", "name", "meter", "quantity", "unit", "price",
    "per", "amount", "exact_amount", "currency", "side", "line_start", "line_end", "workload", "workload_type", "model",
    "hardware", "sla", "region", "provider", "cluster", "energy_uj", "gco2", "steps", "corrects",
)  # fmt: skip
"""Names of a line's values (`line_record`), in the order of columns."""


def line_record(line: LineItem) -> dict[str, Any]:
    """Return a line as a flat record of texts, integers and nulls: what is hashed, and what exports write."""
    return {
        "line_id": line.line_id,
        "period": line.period,
        "tenant": line.tenant,
        "team": line.place.team,
        "cost_centre": line.place.cost_centre,
        "category": str(line.category),
        "name": line.name,
        "meter": line.meter,
        "quantity": _text(line.quantity),
        "unit": line.unit,
        "price": _text(line.price),
        "per": _text(line.per),
        "amount": None if line.amount is None else plain_decimal(line.amount),
        "exact_amount": _text(line.exact),
        "currency": line.currency,
        "side": line.side,
        "line_start": rfc3339(line.from_ms),
        "line_end": rfc3339(line.to_ms),
        **{
            name: value for name, value in line.place._asdict().items() if name not in ("tenant", "team", "cost_centre")
        },
        "energy_uj": line.energy_uj,
        "gco2": _text(line.gco2),
        "steps": list(line.steps),
        "corrects": line.corrects,
    }


def line_bytes(line: LineItem) -> bytes:
    """Return what is hashed of a line: a line of JSON with sorted keys, no spaces, UTF-8."""
    text = json.dumps(line_record(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def lines_sha256(lines: Iterable[LineItem]) -> str:
    """Return the SHA-256 of lines in their order (`line_bytes`)."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line_bytes(line))
    return digest.hexdigest()


def _text(value: Decimal | None) -> str | None:
    return None if value is None else shortest_decimal(value)
