"""Intervals and requests for the stream worker's tests, and the oracle's ledger of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.streams.driven_worker import T0, WINDOW_MS
from tests.support.oracle import Interval, Oracle, Request
from tests.support.partition_log import Log, power, tokens


def interval(t_s: float, length_s: float = 5, energy_uj: int = 1_000_003, gpu: str = "g0") -> Interval:
    t0 = T0 + int(t_s * 1000)
    return Interval(
        cluster="c",
        workload="w",
        node="n",
        gpu=gpu,
        hardware="h100",
        t0=t0,
        t1=t0 + int(length_s * 1000),
        energy_uj=energy_uj,
    )


def request(t_s: float, length_s: float = 3, tenant: str = "acme", name: str = "r0", tokens: int = 100) -> Request:
    start = T0 + int(t_s * 1000)
    end = start + int(length_s * 1000)
    return Request(
        cluster="c",
        workload="w",
        tenant=tenant,
        model="llama",
        request_id=name,
        start=start,
        first=start + (end - start) // 4,
        end=end,
        prompt=tokens,
        cached=tokens // 5,
        completion=tokens,
    )


@dataclass
class Sent:
    """A log, and the rows on it: the oracle needs no log."""

    log: Log = field(default_factory=Log)
    intervals: list[Interval] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def power(self, *rows: Interval, **more: Any) -> None:
        self.intervals += rows
        self.log.append(power(list(rows)), **more)

    def tokens(self, *rows: Request, **more: Any) -> None:
        self.requests += rows
        self.log.append(tokens(list(rows)), **more)

    def complete_to(self, t_s: float) -> None:
        """Heartbeats of both topics."""
        t_ms = T0 + int(t_s * 1000)
        self.log.append(power([], t_ms), source="beat")
        self.log.append(tokens([], t_ms), source="beat")

    def oracle(self) -> dict[tuple, tuple]:
        return Oracle(WINDOW_MS).ledger(self.intervals, self.requests)


def two_windows() -> Sent:
    """Two windows with energy and work, both complete."""
    sent = Sent()
    for n in range(4):
        sent.power(interval(5 * n))
        sent.tokens(request(5 * n, name=f"r{n}"))
    sent.complete_to(20)
    return sent


def busy_minutes(seed: int, messages: int = 60) -> Sent:
    """Messages of some minutes, a few seconds apart: two GPUs, three tenants, spans over window boundaries, late ones,
    duplicates.
    """
    rng, sent = random.Random(seed), Sent()
    for n in range(messages):
        at = 4 * n - rng.choice((0, 0, 0, 0, 37))
        at = max(at, 0) + rng.random()
        if rng.random() < 0.5:
            sent.power(*(interval(at, rng.uniform(1, 25), rng.randrange(10**7), gpu) for gpu in ("g0", "g1")))
        else:
            rows = (request(at, rng.uniform(0, 25), rng.choice("xyz"), f"r{n}.{k}", rng.randrange(300)) for k in (0, 1))
            sent.tokens(*rows)
        if rng.random() < 0.1:
            sent.log.repeat(rng.choice(rng.choice([m for m in sent.log.messages.values() if m])))
    sent.complete_to(4 * messages + 100)
    return sent
