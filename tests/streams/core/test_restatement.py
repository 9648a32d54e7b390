"""Stored facts of the warehouse, attributed again."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.histogram import HistogramColumn
from contracts.rows import Table, conform
from streams.core.attribution.attribute import attribute
from streams.core.restatement import facts_of, restate
from tests.streams.core.case_table import T0, play
from tests.support.partition_log import policy

FACTS = """
    power  w g0 H100  0..10  100J  owner=lab
    power  w g1 A100  0..10  50J
    power  v g2 H100  0..20  33J
    power ~n g3 H100  0..20  7J
    tokens w acme   m1 r1  0/1..9   100-50+10
    tokens w globex m2 r2  2/5..19  30+7
    tokens x acme   m1 r3  3/4..15  30+7
"""
POLICY = policy({"H100": 1_000})


def stored(run) -> dict[str, Table]:
    keys = [(T0 + at, "c", w) for at in (0, 10_000) for w in ("w", "v", "x", "~n")]
    return run.worker.store.facts(keys)


def shuffled(table: Table, order: list[int]) -> Table:
    return {
        c: v.take(np.array(order, np.intp)) if isinstance(v, np.ndarray | HistogramColumn) else [v[i] for i in order]
        for c, v in table.items()
    }


def test_the_stored_facts_give_the_ledger_of_the_stream():
    run = play(FACTS, policy=POLICY)
    tables = stored(run)
    ledger = attribute(facts_of(tables["gpu_energy"], tables["token_usage"]), POLICY).ledger
    actual = sorted(zip(*map(_listed, ledger.values()), strict=True))
    assert actual == sorted(tuple(_hashable(r[c]) for c in ledger) for r in run.worker.store.live("ledger"))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_order_of_the_stored_facts_does_not_matter(data):
    run = play(FACTS, policy=POLICY)
    tables = stored(run)
    mixed = {name: shuffled(t, data.draw(st.permutations(range(len(t["window_start"]))))) for name, t in tables.items()}
    by_key = lambda out: {name: sorted(zip(*map(_listed, t.values()), strict=True)) for name, t in out.items()}  # noqa: E731
    provenance = {"log_id": "log", "log_partition": 0}
    assert by_key(restate(tables, POLICY, 2, **provenance)) == by_key(restate(mixed, POLICY, 2, **provenance))


def test_a_row_without_facts_is_removed():
    tables = stored(play("tokens w acme m r1  0/1..9  10+0"))
    [row] = play("power w g0 H100  0..10  100J").worker.store.facts([(T0, "c", "w")])["gpu_energy"]["energy_uj"]
    tables["gpu_energy"] = conform(
        "gpu_energy",
        {
            "window_start": T0, "cluster": "c", "node": "n", "gpu_uuid": "g0", "workload": "w", "late_id": 7,
            "window_ms": 10_000, "hardware": "H100", "owner": "", "method": 0, "energy_uj": int(row),
            "covered_ms": 10_000,
            "busy_ms": -1,
            "log_id": "log", "log_partition": 0, "version": 1, "deleted": 0,
        },
    )  # fmt: skip
    ledger = restate(tables, policy(), 3, log_id="log", log_partition=0)["ledger"]
    assert list(zip(ledger["hardware"], _listed(ledger["deleted"]), _listed(ledger["revision"]), strict=True)) == [
        ("H100", 0, 1),
        ("", 1, 0),
    ]
    assert len(set(_listed(ledger["version"]))) == 1


def _listed(column) -> list:
    return column.tolist() if isinstance(column, np.ndarray) else [_hashable(value) for value in column]


def _hashable(value) -> object:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
