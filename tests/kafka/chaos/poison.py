"""Messages that cannot be read, of every kind that foreign producers might send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from contracts import codec, topics
from contracts.events import MAX_ROWS
from tests.kafka.chaos.world import START_MS
from warehouse.reference_data.validity import END_MS

LARGEST_BYTES = 9 * 2**20
"""Larger than the dead-letter topic allows: such a dead letter names the place of its message, without the body."""


@dataclass(frozen=True)
class Poison:
    """A raw message, and the field that the worker's reason must name."""

    kind: str
    field: str
    topic: str
    key: bytes
    headers: codec.Headers
    value: bytes


def kinds(key: str) -> list[Poison]:
    """One message of each kind, under a workload's key (`cluster/workload`)."""
    named = {
        "garbage bytes": ("value", topics.POWER, {}, b"\xc1\x00garbage" * 7),
        "wrong version": ("ce_type", topics.TOKENS, {"ce_type": b"wattlog.tokens.v9"}, b"{}"),
        "missing header": ("ce_id", topics.POWER, {"ce_id": None}, _power()),
        "bad column": ("energy_uj", topics.POWER, {}, _power(energy_uj=[-1])),
        "future time": ("t_ms", topics.POWER, {}, _power(t0_ms=[END_MS], t1_ms=[END_MS + 1])),
        "too many rows": ("rows", topics.POWER, {}, _power(rows=MAX_ROWS + 1)),
        "larger than a letter": ("value", topics.TOKENS, {}, bytes(LARGEST_BYTES)),
    }
    poisons = []
    for kind, (field, topic, changed, value) in named.items():
        headers = dict(
            codec.envelope(
                type_=topic, source="poison://chaos", id_="1.0", subject=key, t_ms=START_MS, content_type=codec.JSON
            )
        )
        headers |= changed  # type: ignore[arg-type]
        present = [(name, text) for name, text in headers.items() if text is not None]
        poisons.append(Poison(kind, field, topic, key.encode(), present, value))
    return poisons


def cycle(key: str) -> Iterator[Poison]:
    """Repeat the messages for ever."""
    every = kinds(key)
    while True:
        yield from every


def _power(rows: int = 1, **columns: list[int]) -> bytes:
    body: dict[str, Any] = {
        "node": "n", "gpu_uuid": ["GPU-1"] * rows, "hardware": ["H100"] * rows, "t0_ms": [START_MS] * rows,
        "t1_ms": [START_MS + 1] * rows, "energy_uj": [1] * rows,
    }  # fmt: skip
    return json.dumps(body | columns).encode()
