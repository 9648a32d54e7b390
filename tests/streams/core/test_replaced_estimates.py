"""A report that replaces an estimate: the ledger is that of the report alone, late or not, wherever windows cut it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import codec
from contracts.errors import BadEvent
from contracts.events import TokenBatch
from producers.runtime.batching import RequestRow, token_batch
from streams.core.decoding import PartitionConfig
from tests.support.oracle import Interval
from tests.support.partition_log import NEVER, Log, Store, Worker, power

T0 = 1_700_000_000_000
WINDOW_MS = 10_000
ESTIMATED = ("prompt_tokens", "completion_tokens", "estimated_prompt_tokens", "estimated_completion_tokens")


@st.composite
def calls(draw: st.DrawFn) -> tuple[RequestRow, RequestRow]:
    """A call's estimate and its report."""
    start = T0 + draw(st.integers(0, 3 * WINDOW_MS))
    length = draw(st.sampled_from([0, 1, 37, 4_000, 25_000]))
    estimate = RequestRow(
        tenant=draw(st.sampled_from(["acme", "globex"])), model=draw(st.sampled_from(["m1", "m2"])),
        request_id=f"r{draw(st.integers(0, 10**6))}", t_start_ms=start,
        t_first_ms=draw(st.one_of(st.just(0), st.integers(start, start + length))), t_end_ms=start + length,
        prompt_tokens=0, cached_tokens=0, completion_tokens=0, status=draw(st.sampled_from(["ok", "ok", "timeout"])),
    )  # fmt: skip
    prompt, completion = draw(st.integers(0, 300)), draw(st.integers(0, 70))
    report = estimate._replace(
        prompt_tokens=prompt, cached_tokens=draw(st.integers(0, prompt)), completion_tokens=completion,
        status=draw(st.sampled_from(["ok", "ok", "timeout"])),
    )  # fmt: skip
    guess, output = draw(st.integers(0, 300)), draw(st.integers(0, 70))
    return estimate._replace(**dict(zip(ESTIMATED, (guess, output, guess, output), strict=True))), report


def replacing(pairs: list[tuple[RequestRow, RequestRow]]) -> TokenBatch:
    batch = token_batch([row for pair in pairs for row in pair], 0)
    return replace(batch, requests=np.array([-1, 1] * len(pairs)))


def run(batches: list[TokenBatch], seed: int, lateness_ms: int) -> Store:
    """A worker that reads these batches in this order, with flushes anywhere between them."""
    rng, log = Random(seed), Log()
    span = [
        Interval(cluster="c", workload="w", node="n", gpu="g0", hardware="H100", t0=t0, t1=t0 + 10_000,
                 energy_uj=7_000_003, owner="")
        for t0 in range(T0, T0 + 60_000, 10_000)
    ]  # fmt: skip
    log.append(power(span, T0 + 60_000))
    for batch in batches:
        log.append(batch, content_type=rng.choice([codec.PACKED, codec.JSON]))
    log.append(token_batch([], T0 + 200_000))
    worker = Worker(log, config=PartitionConfig(window_ms=WINDOW_MS, lateness_ms=lateness_ms, keep_requests=True))
    for topic, messages in log.messages.items():
        while worker.at[topic] < len(messages):
            worker.read(topic, 1 + rng.randrange(3))
            worker.flush(NEVER if rng.random() < 0.3 else 0)
    assert not worker.rejected
    return worker.run()


def ledger(store: Store) -> dict[Any, Any]:
    return {key: amounts for key, amounts in store.ledger().items() if any(amounts)}


def of_requests(store: Store, *columns: str) -> Counter[Any]:
    """Sums by window and request, without those that are 0."""
    sums: Counter[Any] = Counter()
    for row in store.live("request_energy"):
        for column in columns:
            sums[row["window_start"], row["request_id"], column] += row[column]
    return Counter({key: value for key, value in sums.items() if value})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(calls(), min_size=1, max_size=6, unique_by=lambda pair: pair[0].request_id), st.integers(0, 2**32),
    st.sampled_from([0, 120_000]),
)  # fmt: skip
def test_the_ledger_is_that_of_the_reports_alone(pairs, seed, lateness_ms):
    rng, batches, left = Random(seed), list[TokenBatch](), list(pairs)
    estimates, corrections = list(pairs), list[TokenBatch]()
    while estimates:
        batches.append(token_batch([estimates.pop()[0] for _ in range(rng.randrange(1, len(estimates) + 1))], 0))
    batches.append(token_batch([], T0 + rng.choice([0, 25_000, 100_000])))
    while left:
        corrections.append(replacing([left.pop() for _ in range(rng.randrange(1, len(left) + 1))]))
    replaced = run([*batches, *corrections], seed, lateness_ms)
    alone = run([token_batch([report for _, report in pairs], 0)], seed, lateness_ms)
    assert ledger(replaced) == ledger(alone)
    columns = ("prompt_tokens", "cached_tokens", "completion_tokens", "estimated_prompt_tokens", "request_ms")
    assert of_requests(replaced, *columns) == of_requests(alone, *columns)
    energy, expected = of_requests(replaced, "active_uj"), of_requests(alone, "active_uj")
    assert sum(energy.values()) == sum(expected.values())
    assert all(abs(energy[key] - expected[key]) <= 1 for key in energy.keys() | expected.keys())  # Equal remainders.


def test_a_request_taken_back_that_was_never_sent_shows_as_negative_tokens_and_gets_no_energy() -> None:
    row = RequestRow(
        tenant="acme", model="m1", request_id="r1", t_start_ms=T0, t_first_ms=0, t_end_ms=T0 + 15_000,
        prompt_tokens=10, cached_tokens=0, completion_tokens=3,
    )  # fmt: skip
    other = row._replace(tenant="globex", request_id="r2")
    alone = replace(token_batch([row], 0), requests=np.array([-1]))
    store = run([token_batch([other], 0), alone], 1, 120_000)
    by_tenant: Counter[str] = Counter()
    for r in store.live("ledger"):
        by_tenant[r["tenant"], "tokens"] += r["prompt_tokens"] + r["completion_tokens"]
        by_tenant[r["tenant"], "uj"] += r["active_uj"]
    assert (by_tenant["acme", "tokens"], by_tenant["acme", "uj"]) == (-13, 0)
    assert (by_tenant["globex", "tokens"], by_tenant["globex", "uj"]) == (13, 2 * 7_000_003)


@pytest.mark.parametrize("number", [-2, 2**31])
def test_no_other_number_below_zero_is_taken(number: int) -> None:
    row = RequestRow(
        tenant="acme", model="m1", request_id="r1", t_start_ms=T0, t_first_ms=0, t_end_ms=T0, prompt_tokens=1,
        cached_tokens=0, completion_tokens=3,
    )  # fmt: skip
    with pytest.raises(BadEvent, match="requests"):
        replace(token_batch([row], 0), requests=np.array([number])).check()
