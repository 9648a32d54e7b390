"""Dimensions and latencies in the ledger: exact sums of the requests, whatever order and batches they arrive in."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import codec
from contracts.events import DIMENSIONS
from contracts.histogram import LATENCIES, bounds_us
from producers.runtime.batching import RequestRow, token_batch
from streams.core.decoding import PartitionConfig
from tests.support.oracle import Interval
from tests.support.partition_log import NEVER, Log, Store, Worker, power

T0 = 1_700_000_000_000
WINDOW_MS = 10_000
LEDGER = ("application", "endpoint")
"""The dimensions that the ledger keeps."""
PAYER = ("window_start", "cluster", "workload", "tenant", "model")


@st.composite
def requests(draw: st.DrawFn) -> RequestRow:
    start = T0 + draw(st.integers(0, 3 * WINDOW_MS))
    length = draw(st.sampled_from([0, 1, 37, 4_000, 25_000]))
    first = draw(st.one_of(st.just(0), st.integers(start, start + length)))
    return RequestRow(
        tenant=draw(st.sampled_from(["acme", "globex"])), model=draw(st.sampled_from(["m1", "m2"])),
        request_id=draw(st.sampled_from([f"r{i}" for i in range(6)])),
        t_start_ms=start, t_first_ms=first, t_end_ms=start + length,
        prompt_tokens=draw(st.integers(0, 300)), cached_tokens=0,
        completion_tokens=draw(st.sampled_from([0, 1, 2, 70])),
        status=draw(st.sampled_from(["ok", "ok", "timeout"])), queue_ms=draw(st.sampled_from([-1, 0, 12])),
        application=draw(st.sampled_from(["", "chat", "search"])), endpoint=draw(st.sampled_from(["", "embedding"])),
        feature=draw(st.sampled_from(["", "beta"])), user=draw(st.sampled_from(["", "u1", "u2"])),
    )  # fmt: skip


def times_us(row: RequestRow) -> dict[str, int]:
    """The known latencies of a request, in microseconds, by the definitions."""
    if row.status != "ok":
        return {}
    times = {"request_duration": (row.t_end_ms - row.t_start_ms) * 1000}
    if row.t_first_ms:
        times["time_to_first_token"] = (row.t_first_ms - row.t_start_ms) * 1000
        if row.completion_tokens > 1:
            times["time_per_output_token"] = (row.t_end_ms - row.t_first_ms) * 1000 // (row.completion_tokens - 1)
    if row.queue_ms >= 0:
        times["queue_duration"] = row.queue_ms * 1000
    return times


def bucket_of(time_us: int) -> int:
    """The bucket by search, apart from how the core finds it."""
    return next(b for b in range(512) if bounds_us(b)[0] <= max(time_us, 1) < bounds_us(b)[1])


def expected(rows: list[RequestRow]) -> dict[tuple[Any, ...], dict[str, Counter[int]]]:
    """By (window of the end, tenant, model, *kept dimensions): histograms."""
    out: dict[tuple[Any, ...], dict[str, Counter[int]]] = defaultdict(lambda: {name: Counter() for name in LATENCIES})
    for row in rows:
        window = max(row.t_end_ms - 1, row.t_start_ms) // WINDOW_MS * WINDOW_MS
        for name, time_us in times_us(row).items():
            out[window, row.tenant, row.model, *(getattr(row, d) for d in LEDGER)][name][bucket_of(time_us)] += 1
    return out


def stored(store: Store, table: str) -> dict[tuple[Any, ...], dict[str, Counter[int]]]:
    out: dict[tuple[Any, ...], dict[str, Counter[int]]] = defaultdict(lambda: {name: Counter() for name in LATENCIES})
    for row in store.live(table):
        for name in LATENCIES:
            if row[name]:
                key = (row["window_start"], row["tenant"], row["model"], *(row[d] for d in LEDGER))
                out[key][name].update(row[name])
    return out


def interval(gpu: str, hardware: str, t0: int) -> Interval:
    return Interval(
        cluster="c", workload="w", node="n", gpu=gpu, hardware=hardware, t0=t0, t1=t0 + 10_000, energy_uj=7_000_003,
        owner="",
    )  # fmt: skip


def short(request_id: str, **more: Any) -> RequestRow:
    """A request of 300 ms whose first token came after 100."""
    return RequestRow(
        tenant="acme", model="m1", request_id=request_id, t_start_ms=T0, t_first_ms=T0 + 100, t_end_ms=T0 + 300,
        prompt_tokens=10, cached_tokens=0, completion_tokens=3, **more,
    )  # fmt: skip


def run(rows: list[RequestRow], gpus: list[str], seed: int, lateness_ms: int, keep_requests: bool = True) -> Store:
    """A worker that reads these requests in an order and in batches of its own, some of them late."""
    rng, log = Random(seed), Log()
    for n, hardware in enumerate(gpus):
        span = [interval(f"g{n}", hardware, t0) for t0 in range(T0, T0 + 60_000, 10_000)]
        log.append(power(span, T0 + 60_000))
    rows = rng.sample(rows, len(rows))
    while rows:
        some = [rows.pop() for _ in range(rng.randrange(1, len(rows) + 1))]
        log.append(token_batch(some, 0), content_type=rng.choice([codec.PACKED, codec.JSON]))
    log.append(token_batch([], T0 + 200_000))
    config = PartitionConfig(
        window_ms=WINDOW_MS, lateness_ms=lateness_ms, keep_requests=keep_requests, dimensions=LEDGER
    )
    worker = Worker(log, config=config)
    for topic, messages in log.messages.items():
        while worker.at[topic] < len(messages):
            worker.read(topic, 1 + rng.randrange(3))
            worker.flush(NEVER if rng.random() < 0.3 else 0)
    assert not worker.rejected
    return worker.run()


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(requests(), min_size=1, max_size=8), st.lists(st.sampled_from(["H100", "A100"]), max_size=3),
    st.integers(0, 2**32), st.sampled_from([0, 120_000]),
)  # fmt: skip
def test_histograms_are_the_sums_of_the_requests_in_any_order_late_or_not(rows, gpus, seed, lateness_ms):
    one = run(rows, gpus, seed, lateness_ms)
    assert stored(one, "token_usage") == stored(one, "ledger") == expected(rows)
    other = run(rows, gpus, seed + 1, 120_000, keep_requests=False)
    assert stored(other, "ledger") == stored(one, "ledger")
    if lateness_ms:
        assert one.ledger() == other.ledger()


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(requests(), min_size=1, max_size=8), st.integers(0, 2**32), st.sampled_from([0, 120_000]))
def test_tokens_and_joules_of_each_product_are_those_of_its_requests(rows, seed, lateness_ms):
    store = run(rows, ["H100"], seed, lateness_ms)
    tokens: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        tokens[row.tenant, row.model, *(getattr(row, d) for d in LEDGER)] += row.prompt_tokens + row.completion_tokens
    by_product: Counter[tuple[Any, ...]] = Counter()
    energy_of: Counter[tuple[Any, ...]] = Counter()
    for row in store.live("ledger"):
        assert all(row[d] == "" for d in DIMENSIONS if d not in LEDGER)
        product = (row["window_start"], row["tenant"], row["model"], *(row[d] for d in LEDGER))
        by_product[product[1:]] += row["prompt_tokens"] + row["completion_tokens"]
        if row["model"]:
            energy_of[product] += row["active_uj"] + row["idle_uj"]
    assert +by_product == +tokens
    assert sum(r["active_uj"] + r["idle_uj"] for r in store.live("ledger")) == 6 * 7_000_003
    of_requests: Counter[tuple[Any, ...]] = Counter()
    for row in store.live("request_energy"):
        product = (row["window_start"], row["tenant"], row["model"], *(row[d] for d in LEDGER))
        of_requests[product] += row["active_uj"] + row["idle_uj"]
    assert +of_requests == +energy_of


def test_the_ledger_keeps_only_the_dimensions_of_its_setting_and_requests_keep_all() -> None:
    row = short("r1", user="u1", application="chat", feature="beta")
    store = run([row], ["H100"], 1, 0)
    (of_request,) = store.live("request_energy")
    assert (of_request["user"], of_request["application"], of_request["feature"]) == ("u1", "chat", "beta")
    (paid,) = [r for r in store.live("ledger") if r["model"]]
    assert (paid["user"], paid["application"], paid["feature"]) == ("", "chat", "")


def test_a_row_that_stands_for_several_requests_has_no_latency() -> None:
    log, batch = Log(), token_batch([short("r1")], T0)
    batch.requests = np.array([5])
    log.append(batch)
    log.append(token_batch([], T0 + 200_000))
    assert not stored(Worker(log, config=PartitionConfig(window_ms=WINDOW_MS)).run(), "ledger")


def test_histograms_are_divided_over_hardware_types_and_sum_to_the_requests() -> None:
    rows = [short(f"r{n}") for n in range(7)]
    store = run(rows, ["H100", "A100", "A100"], 1, 0)
    by_hardware = {r["hardware"]: sum(r["request_duration"].values()) for r in store.live("ledger") if r["requests"]}
    assert by_hardware == {"H100": 2, "A100": 5}


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(requests(), min_size=1, max_size=6), st.lists(requests(), min_size=1, max_size=6))
def test_requests_keep_their_product_where_the_setting_changed_before_a_late_event(rows, late):
    log = Log()
    log.append(power([interval("g0", "H100", t0) for t0 in range(T0, T0 + 60_000, 10_000)], T0 + 60_000))
    log.append(token_batch(rows, 0))
    log.append(token_batch([], T0 + 200_000))
    first = Worker(log, config=PartitionConfig(window_ms=WINDOW_MS, lateness_ms=0, dimensions=LEDGER))
    first.run()
    log.append(token_batch(late, 0), source="late")
    other = ("feature", "user")
    second = Worker(log, first.store, config=PartitionConfig(window_ms=WINDOW_MS, lateness_ms=0, dimensions=other))
    store = second.run()
    assert sum(r["active_uj"] + r["idle_uj"] for r in store.live("ledger")) == 6 * 7_000_003
    by_tenant, of_requests = Counter[Any](), Counter[Any]()
    for row in store.live("ledger"):
        if row["model"]:
            by_tenant[row["window_start"], row["tenant"], row["model"]] += row["active_uj"] + row["idle_uj"]
    for row in store.live("request_energy"):
        of_requests[row["window_start"], row["tenant"], row["model"]] += row["active_uj"] + row["idle_uj"]
    assert +by_tenant == +of_requests
