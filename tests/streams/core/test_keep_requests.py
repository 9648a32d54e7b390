"""Single requests may be left out: all other rows are the same, and earlier requests stay right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, topics
from contracts.rows import length
from streams.core.attribution.policy import Policy
from streams.core.decoding import PartitionConfig
from streams.core.partition import Partition
from tests.streams.core.attribution.test_matches_oracle import END, FLOORS, quick, world, write
from tests.streams.core.case_table import T0, Play, play
from tests.support.oracle import Interval, Oracle, Request
from tests.support.partition_log import NEVER, Log, Worker, close, policy, power, tokens

HASTY = PartitionConfig(lateness_ms=0, skew_ms=0, idle_timeout_ms=1)
FACTS = ("gpu_energy", "token_usage", "ledger")


def keep(worker: Worker, requests: bool) -> None:
    """Kill the worker, and start it again with this setting."""
    worker.config = replace(worker.config, keep_requests=requests)
    worker.start()


# -- all other rows are the same ---------------------------------------------------------------------------------------


@quick
@given(world, st.sampled_from(["by-work", "owner", "apart"]), st.sampled_from([0, 20_000]), st.data())
def test_facts_and_ledger_are_the_same_in_every_column(rows, idle, lateness_ms, data):
    """With late, restated, provisional and replayed events."""
    log = Log()
    write(log, *rows, data.draw)
    close(log, END)
    config = replace(HASTY, lateness_ms=lateness_ms)
    workers = [Worker(log, None, policy(FLOORS, idle), replace(config, keep_requests=k)) for k in (True, False)]
    steps = data.draw(st.lists(st.sampled_from(["power", "tokens", "flush", "provisional", "die"]), max_size=25))
    for step in steps:
        count = data.draw(st.integers(1, 4))
        for worker in workers:
            if step in ("power", "tokens"):
                worker.read(topics.POWER if step == "power" else topics.TOKENS, count, NEVER // 4)
            else:
                {"flush": lambda w: w.flush(NEVER // 4), "provisional": Worker.provisional, "die": Worker.start}[step](
                    worker
                )
    with_requests, without_requests = (worker.run() for worker in workers)
    for name in FACTS:
        assert with_requests.tables[name] == without_requests.tables[name]
    assert [m["state"] for m in with_requests.marks] == [m["state"] for m in without_requests.marks]
    assert without_requests.tables["request_energy"] == {}


@pytest.mark.parametrize("content_type", [codec.PACKED, codec.JSON])
@pytest.mark.parametrize(
    "wrong", [{"request_id": ("",)}, {"session_id": ("\n",)}, {"trace_id": ("x" * 254,)}, {"session_id": ("a", "b")}]
)
def test_invalid_texts_of_requests_are_refused_alike(wrong, content_type, monkeypatch):
    good = tokens(
        [
            Request(
                cluster="c",
                workload="w",
                tenant="acme",
                model="m",
                request_id="r",
                start=T0,
                first=0,
                end=T0 + 5,
                prompt=1,
                cached=0,
                completion=1,
            )
        ]
    )
    bad = replace(good, **wrong)
    monkeypatch.setattr(type(bad), "check", lambda self: None)
    log = Log()
    log.append(bad, content_type=content_type)
    monkeypatch.undo()
    log.append(good)
    errors = []
    for setting in (True, False):
        p = Partition("log", 0, PartitionConfig(keep_requests=setting), Policy())
        errors.append([(r.message.offset, str(r.error)) for r in p.ingest(log.messages[topics.TOKENS], NEVER)])
        assert p.counters().rows == 1
    assert errors[0] == errors[1]
    assert [offset for offset, _ in errors[0]] == [0]


def test_requests_that_are_not_stored_take_no_memory_beyond_their_sums():
    log = Log()
    log.append(
        tokens(
            [
                Request(
                    cluster="c",
                    workload="w",
                    tenant="acme",
                    model="m",
                    request_id=f"r{i}",
                    start=T0,
                    first=0,
                    end=T0 + 25_000,
                    prompt=9,
                    cached=0,
                    completion=9,
                )
                for i in range(1_000)
            ]
        )
    )
    rows = []
    for setting in (True, False):
        p = Partition("log", 0, PartitionConfig(keep_requests=setting), Policy())
        p.ingest(log.messages[topics.TOKENS], NEVER)
        rows.append(p.open_rows)
    assert rows[0] == rows[1] + 3_000
    assert rows[1] < 300


# -- the setting changes -----------------------------------------------------------------------------------------------

ON_TIME = """
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  10+0
        beat 200
        -- flush
"""


def shares(run: Play) -> dict[str, int]:
    """Joules by request, over all its windows."""
    out: dict[str, int] = {}
    for r in run.worker.store.live("request_energy"):
        out[r["request_id"]] = out.get(r["request_id"], 0) + (r["active_uj"] + r["idle_uj"]) // 1_000_000
    return out


def further(run: Play, *lines: str) -> None:
    for line in lines:
        run.line(line)


def test_late_requests_that_are_not_stored_leave_earlier_ones_their_share():
    run = play(ON_TIME)
    assert shares(run) == {"r1": 100}
    keep(run.worker, False)
    further(run, "tokens w acme m r2  1/2..8  30+0", "beat 210", "-- flush")
    assert shares(run) == {"r1": 25}
    further(run, "tokens w globex m r3  1/2..8  10+0", "beat 220", "-- flush")
    assert shares(run) == {"r1": 20}


def test_late_energy_is_shared_by_earlier_requests_although_none_are_stored_now():
    run = play(ON_TIME)
    keep(run.worker, False)
    further(run, "power w g1 H100  2..8  60J", "beat 210", "-- flush")
    assert shares(run) == {"r1": 160}


def test_late_requests_of_a_window_without_stored_ones_get_their_own_share():
    run = play(ON_TIME, config=PartitionConfig(keep_requests=False))
    assert shares(run) == {}
    keep(run.worker, True)
    further(run, "tokens w acme m r2  1/2..8  30+0", "beat 210", "-- flush")
    assert shares(run) == {"r2": 75}


def test_requests_of_a_window_that_a_dead_worker_stored_in_part_are_deleted():
    """The dead worker stored requests; its successor does not. It closes the window again, and perhaps with others."""
    lines = ON_TIME.replace("-- flush", "-- read")
    run = play(lines)
    flush = run.worker.partition.advance(0)
    for name, table in flush.tables.items():  # All but the checkpoint.
        run.worker.store.write(name, table)
    assert shares(run) == {"r1": 100}
    keep(run.worker, False)
    run.line("-- flush")
    assert shares(run) == {}
    assert [r["active_uj"] for r in run.worker.store.live("ledger")] == [100_000_000]


def test_a_late_flush_without_requests_has_no_table_of_them():
    run = play(ON_TIME, config=PartitionConfig(keep_requests=False))
    further(run, "tokens w acme m r2  1/2..8  30+0", "-- read")
    flush = run.worker.partition.advance(0)
    assert list(flush.late_tables) == ["token_usage"]
    assert length(flush.late_tables["token_usage"]) == 1


@quick
@given(world, st.data())
def test_a_stored_request_bears_its_full_share_whenever_the_setting_changes(rows, data):
    """To the last microjoule of each rounding: the missing requests are one more participant."""
    ivs = [i._replace(workload="w", t0=T0 + i.t0 % 20_000, t1=T0 + i.t0 % 20_000 + i.t1 - i.t0) for i in rows[0]]
    reqs = [
        r._replace(request_id=f"r{i}", workload="w", model="m", start=T0, first=0, end=T0 + max(r.end - r.start, 1))
        for i, r in enumerate(rows[1])
    ]
    log = Log()
    worker = Worker(log, policy=policy(FLOORS), config=HASTY)
    closed = False
    for one in data.draw(st.permutations(ivs + reqs)):
        log.append(power([one]) if isinstance(one, Interval) else tokens([one]), source=type(one).__name__)
        if not closed and data.draw(st.booleans()):
            close(log, T0 + 60_000)  # Later messages are late.
            closed = True
        if data.draw(st.booleans()):
            for topic in topics.JOINED:
                worker.read(topic, 10**6, NEVER // 4)
            while worker.flush(NEVER // 4):
                pass
            keep(worker, data.draw(st.booleans()))
    store = worker.run()
    oracle = Oracle(floors=FLOORS)
    assert store.ledger() == oracle.ledger(ivs, reqs)
    full, left = oracle.by_request(ivs, reqs), Counter()  # A request that ran on without energy has no ledger row.
    for r in store.live("ledger"):
        left[r["window_start"], r["tenant"]] += r["active_uj"] + r["idle_uj"]
    for r in store.live("request_energy"):
        *_, active_uj, idle_uj = full[r["window_start"], "c", "w", r["tenant"], "m", r["request_id"]]
        assert abs(r["active_uj"] - active_uj) <= 2  # Two hardware types, each rounded.
        assert abs(r["idle_uj"] - idle_uj) <= 2
        left[r["window_start"], r["tenant"]] -= r["active_uj"] + r["idle_uj"]
    assert min(left.values(), default=0) >= 0
