"""Checkpoints of earlier releases can be read: names on disk do not follow names in the code."""

from __future__ import annotations

import msgspec
import pytest

from producers.bindings.apportion import Binding, BindingShare
from producers.common.counter_delta import CounterSnapshot
from producers.gpu.meter_state import MeterState
from producers.host.energy import HostCounterSnapshot
from producers.runtime.agent_checkpoint import CHECKPOINT_PREFIX, AgentCheckpoint
from producers.servers.counter_snapshots import ServerCounterSnapshot

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


def test_the_agents_checkpoint_is_stored_under_the_names_of_before() -> None:
    _, meter = STORED[0]
    holder, other = {"workload": "w", "owner": "o"}, {"workload": "v", "owner": ""}
    shares = [{"binding": holder, "weight": 2, "about": [["pod", "p"]]}, {"binding": other, "weight": 1, "about": []}]
    stored = {"boot": "b", "holder": holder, "state": meter, "shares": shares, "told": [7, 8], "watts": None}
    checkpoint = AgentCheckpoint(
        "b", Binding("w", "o"), msgspec.convert(meter, MeterState),
        (BindingShare(Binding("w", "o"), 2, (("pod", "p"),)), BindingShare(Binding("v"))), (7, 8),
    )  # fmt: skip
    assert CHECKPOINT_PREFIX == "gpu/"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(checkpoint)) == stored
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=AgentCheckpoint) == checkpoint


def test_an_agents_checkpoint_without_shares_belongs_to_its_holder_alone() -> None:
    _, meter = STORED[0]
    stored = {"boot": "b", "holder": {"workload": "w", "owner": "o"}, "state": meter}
    checkpoint = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=AgentCheckpoint)
    assert checkpoint.current_shares == (BindingShare(Binding("w", "o")),)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(checkpoint)) == stored | {
        "shares": [], "told": [0, 0], "watts": None,
    }  # fmt: skip
