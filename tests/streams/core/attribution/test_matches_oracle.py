"""The ledger equals the oracle's, for any order, batches, duplicates and deaths of workers."""

from __future__ import annotations

import contextlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import codec, topics
from streams.core.decoding import PartitionConfig
from tests.support.examples import examples
from tests.support.oracle import Interval, Oracle, Request, is_gpu
from tests.support.partition_log import NEVER, Died, Log, Worker, close, policy, power, tokens

FLOORS = {"H100": 90_000, "A100": 55_000, "host": 20_000}
DEVICES = {
    "g0": "H100",
    "g1": "H100",
    "g2": "A100",
    "g3": "A100",
    "host-n": "host",
    "wall-n": "wall less GPUs",
    "wall-m": "wall of m",
}
T0 = 1_700_000_000_000 // 10_000 * 10_000
END = T0 + 120_000

times = st.integers(T0, END) | st.sampled_from([T0, T0 + 5_000, T0 + 10_000])


@st.composite
def intervals(draw) -> Interval:
    t0 = draw(times)
    gpu = draw(st.sampled_from(list(DEVICES)))
    return Interval(
        cluster="c",
        workload=draw(st.sampled_from(["w", "w", "x", "~n"])),
        node="n",
        gpu=gpu,
        hardware=DEVICES[gpu],
        t0=t0,
        t1=t0 + draw(st.sampled_from([1, 7, 999, 1_000, 10_000, 37_123])),
        energy_uj=draw(st.integers(0, 9_000_000_000)),
        owner=draw(st.sampled_from(["", "own"])),
    )


@st.composite
def requests(draw) -> Request:
    start = draw(times)
    length = draw(st.sampled_from([0, 1, 300, 10_000, 45_001]))
    first = draw(st.sampled_from([0, start, start + length // 3, start + length]))
    prompt, completion = draw(st.tuples(st.integers(0, 9_000), st.integers(0, 500)) | st.just((0, 0)))
    return Request(
        cluster="c",
        workload=draw(st.sampled_from(["w", "w", "y", "~n"])),
        tenant=draw(st.sampled_from(["acme", "globex", "initech"])),
        model=draw(st.sampled_from(["m1", "m2"])),
        request_id="",
        start=start,
        first=first,
        end=start + length,
        prompt=prompt,
        cached=draw(st.integers(0, prompt)),
        completion=completion,
        ok=draw(st.booleans()),
        number=draw(st.sampled_from([1, 1, 7, 0] if prompt or completion else [1, 1, 7])),  # 0 and no tokens: nothing.
    )


world = st.tuples(
    st.lists(intervals(), max_size=25),
    st.lists(requests(), max_size=25).map(lambda rs: [r._replace(request_id=f"r{i % 5}") for i, r in enumerate(rs)]),
)
quick = settings(
    max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def batches(draw, rows):
    """Rows cut into events of one workload (and owner, for power), in any order."""
    rows = draw(st.permutations(rows))
    size = draw(st.integers(1, 6))
    groups: dict = {}
    for row in rows:
        groups.setdefault((row.workload, getattr(row, "owner", "")), []).append(row)
    return [chunk[i : i + size] for chunk in groups.values() for i in range(0, len(chunk), size)]


def write(log: Log, ivs, reqs, draw) -> None:
    for chunk in batches(draw, ivs):
        log.append(power(chunk), workload=chunk[0].workload, source=chunk[0].workload)
    for chunk in batches(draw, reqs):
        kind = draw(st.sampled_from([codec.PACKED, codec.JSON]))
        log.append(tokens(chunk), workload=chunk[0].workload, source=chunk[0].workload, content_type=kind)


def same_as_oracle(store, ivs, reqs, idle="by-work") -> None:
    assert store.ledger() == Oracle(floors=FLOORS, idle=idle).ledger(ivs, reqs)
    requests_balance(store)


def requests_balance(store) -> None:
    """Requests' joules sum to their tenants', window by window."""
    of_requests: dict = {}
    for r in store.live("request_energy"):
        key = (r["window_start"], r["workload"], r["tenant"], r["model"])
        of_requests[key] = of_requests.get(key, 0) + r["active_uj"] + r["idle_uj"]
    of_tenants: dict = {}
    for r in store.live("ledger"):
        if r["model"] and r["hardware"] and r["final"]:
            key = (r["window_start"], r["workload"], r["tenant"], r["model"])
            of_tenants[key] = of_tenants.get(key, 0) + r["active_uj"] + r["idle_uj"]
    assert {k: v for k, v in of_requests.items() if v} == {k: v for k, v in of_tenants.items() if v}


@quick
@given(world, st.sampled_from(["by-work", "owner", "apart"]), st.data())
def test_any_order_and_any_batching_give_the_oracles_ledger(rows, idle, data):
    ivs, reqs = rows
    log = Log()
    write(log, ivs, reqs, data.draw)
    close(log, END)
    store = Worker(log, policy=policy(FLOORS, idle)).run()
    same_as_oracle(store, ivs, reqs, idle)


@quick
@given(world, st.data())
def test_energy_is_conserved_to_the_microjoule(rows, data):
    ivs, reqs = rows
    log = Log()
    write(log, ivs, reqs, data.draw)
    close(log, END)
    ledger = Worker(log, policy=policy(FLOORS)).run().ledger()
    assert sum(active + idle + unallocated for active, idle, unallocated, *_ in ledger.values()) == sum(
        i.energy_uj for i in ivs
    )
    assert sum(row[3] for row in ledger.values()) == sum(r.prompt for r in reqs)
    assert sum(row[5] for row in ledger.values()) == sum(r.completion for r in reqs)
    assert sum(row[6] for row in ledger.values()) == sum(r.number for r in reqs)


@quick
@given(world, st.data())
def test_a_nodes_host_changes_no_row_of_gpus_that_have_energy(rows, data):
    ivs, reqs = rows
    ledgers = []
    for measured in (ivs, [i for i in ivs if is_gpu(i.hardware)]):
        log = Log()
        write(log, measured, reqs, data.draw)
        close(log, END)
        ledger = Worker(log, policy=policy(FLOORS)).run().ledger()
        ledgers.append({key: row for key, row in ledger.items() if is_gpu(key[3])})
    with_host, without = ledgers
    powered = {key[:3] for key, row in without.items() if sum(row[:3])}
    assert {k: v for k, v in with_host.items() if k[:3] in powered} == {
        k: v for k, v in without.items() if k[:3] in powered
    }


@quick
@given(world, st.data())
def test_duplicates_change_nothing(rows, data):
    ivs, reqs = rows
    log = Log()
    write(log, ivs, reqs, data.draw)
    for topic in topics.JOINED:
        for message in data.draw(st.permutations(log.messages[topic])):
            log.repeat(message)
    close(log, END)
    same_as_oracle(Worker(log, policy=policy(FLOORS)).run(), ivs, reqs)


@quick
@given(world, st.data())
def test_deaths_late_facts_and_replays_from_any_commit_give_the_same_final_ledger(rows, data):
    """A short lateness makes many facts late; the worker dies between any two writes and reads the topics unevenly."""
    ivs, reqs = rows
    log = Log()
    write(log, ivs, reqs, data.draw)
    for message in data.draw(st.lists(st.sampled_from(log.messages[topics.POWER]), max_size=3) if ivs else st.just([])):
        log.repeat(message)
    close(log, END)
    config = PartitionConfig(lateness_ms=data.draw(st.sampled_from([0, 20_000])), skew_ms=0, idle_timeout_ms=1)
    worker = Worker(log, policy=policy(FLOORS), config=config)
    now = NEVER // 4
    for _ in range(data.draw(st.integers(0, 25))):
        action = data.draw(st.sampled_from(["power", "tokens", "flush", "provisional", "die", "die in flush"]))
        if action in ("power", "tokens"):
            worker.read(topics.POWER if action == "power" else topics.TOKENS, data.draw(st.integers(1, 4)), now)
        elif action == "flush":
            worker.flush(now)
        elif action == "provisional":
            worker.provisional()
        else:
            if action == "die in flush":
                with contextlib.suppress(Died):
                    worker.flush(now, die_at=data.draw(st.integers(0, 9)))
            worker.start()
    same_as_oracle(worker.run(), ivs, reqs)
    assert all(s["last_seq"] + 1 == s["received"] for s in worker.store.sources.values())


@quick
@given(st.lists(intervals(), min_size=1, max_size=10), st.data())
def test_splitting_an_interval_at_a_whole_share_of_its_energy_changes_nothing(ivs, data):
    unsplit, split = [], []
    for i in ivs:
        per_ms = i.energy_uj // (i.t1 - i.t0)
        i = i._replace(energy_uj=per_ms * (i.t1 - i.t0))
        unsplit.append(i)
        at = data.draw(st.integers(i.t0, i.t1))
        split += [
            p._replace(energy_uj=per_ms * (p.t1 - p.t0)) for p in (i._replace(t1=at), i._replace(t0=at)) if p.t1 > p.t0
        ]
    ledgers = []
    for rows in (unsplit, split):
        log = Log()
        write(log, rows, [], data.draw)
        close(log, END)
        ledgers.append(Worker(log, policy=policy(FLOORS)).run().ledger())
    assert ledgers[0] == ledgers[1]
