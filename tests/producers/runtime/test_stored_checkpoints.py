"""Checkpoints that an earlier release stored are read by this one: names on disk do not follow names in the code."""

from __future__ import annotations

import msgspec
import pytest

from producers.common.counter_delta import CounterSnapshot
from producers.gpu.intervals import MeterState
from producers.host.energy import HostCounterSnapshot
from producers.servers.counters import ServerCounterSnapshot

POINT = {"monotonic_ms": 1, "event_ms": 2}
STORED = [
    (
        MeterState,
        {
            "last": POINT, "mark": POINT, "counter_mj": 3, "run_from": POINT, "run_to": None, "run_mw": 4,
            "run_half_uj": 5, "busy": 0.5,
        },
    ),
    (HostCounterSnapshot, {"boot": "b", "monotonic_ms": 1, "event_ms": 2, "counters_uj": {"psys": 3}}),
    (
        CounterSnapshot,
        {
            "t_ms": 1, "boot": "b", "scope": "s",
            "things": {"a": {"t_ms": 1, "counters": {"cpu_ns": 2}, "levels": {"memory_bytes": 3}, "life": "4"}},
        },
    ),
    (ServerCounterSnapshot, {"t_ms": 1, "started_ms": None, "told": {"m": [1, 2, 3, 4, 5, 6]}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "stored"), STORED, ids=[kind.__name__ for kind, _ in STORED])
def test_a_stored_checkpoint_is_read_and_stored_under_the_same_names(kind: type, stored: dict[str, object]) -> None:
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=kind)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state))
    assert {name: again[name] for name in stored} == stored
