"""Examples of reference data."""

from __future__ import annotations

from typing import Any

_PRICE: dict[str, Any] = {
    "kind": "energy", "cluster": "us-east", "value": "0.083", "valid_from": "2026-11-01T00:00:00.000Z",
    "valid_to": None, "currency": "USD", "source": "contract 17",
}  # fmt: skip
ROWS: dict[str, Any] = {"rows": [_PRICE], "next": None}
CSV = "kind,cluster,value,valid_from\nenergy,us-east,0.083,2026-11-01T00:00:00Z\n"
REPORT: dict[str, Any] = {
    "stored": True, "added": 1, "changed": 0, "unchanged": 0, "removed": 0,
    "changes": [{
        "change": "added", "row": {name: text or "" for name, text in _PRICE.items()}, "before": None, "follows": False,
    }],
    "effects": ["prices for the first time 24 hours, 12.500 kWh (2026-11) of us-east: energy"],
    "notes": [],
}  # fmt: skip
"""Examples of the OpenAPI document."""
