"""A cheap producer for load: `python -m tests.kafka.chaos.firehose BOOTSTRAP --rate ROWS --seconds S`.

A workload has 64 GPUs, read once per second of event time: 64 rows a message. Event time runs as fast as the rate asks.
Energies and token counts are drawn once. Each message has new times, a new number and new request ids. The last line of
output is JSON: the rows and totals sent, to the microjoule.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from contracts import topics
from contracts.events import Event, PowerBatch, TokenBatch
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch
from producers.runtime.publisher import Publisher

ROWS = 64
WORKLOADS = 32
TOKENS_EVERY = 4
"""Number of power messages per message of requests."""
DRAWN = 8
"""Number of distinct batches per workload, used in turn."""
START_MS = 1_758_000_000_000
CLUSTER = "soak"
_CLOSING_MS = 600_000


@dataclass
class Sent:
    """Totals of the messages sent; `next_second` is where event time continues."""

    messages: int = 0
    rows: int = 0
    energy_uj: int = 0
    requests: int = 0
    tokens: int = 0
    next_second: int = 0
    seconds: float = 0.0


class Firehose:
    """Messages of a seed: the same seed draws the same energies. `epoch` is a run of its producers, new for each
    process.
    """

    def __init__(self, epoch: int, begin_second: int) -> None:
        rng = np.random.default_rng(11)
        self._numbers = Sequencer(epoch)
        self._power = [[_power(rng, w) for _ in range(DRAWN)] for w in range(WORKLOADS)]
        self._tokens = [[_tokens(rng) for _ in range(DRAWN)] for _ in range(WORKLOADS)]
        self._joules = [[int(b.energy_uj.sum()) for b in batches] for batches in self._power]
        self._counts = [
            [int((b.prompt_tokens + b.completion_tokens).sum()) for b in batches] for batches in self._tokens
        ]
        self.sent = Sent(next_second=begin_second)

    def second(self) -> list[Event]:
        """Messages of the next second of event time, added to `sent`."""
        sent, events = self.sent, []
        base_ms, drawn = START_MS + sent.next_second * 1000, sent.next_second % DRAWN
        for w in range(WORKLOADS):
            events.append(self._event(topics.POWER, w, _at(self._power[w][drawn], base_ms)))
            sent.energy_uj += self._joules[w][drawn]
            if (sent.next_second + w) % TOKENS_EVERY == 0:
                events.append(
                    self._event(topics.TOKENS, w, _named(self._tokens[w][drawn], base_ms, sent.next_second, w))
                )
                sent.requests += ROWS
                sent.tokens += self._counts[w][drawn]
        sent.messages += len(events)
        sent.rows += ROWS * len(events)
        sent.next_second += 1
        return events

    def closing(self) -> Iterator[Event]:
        """Heartbeats that let every window become final."""
        t_ms = START_MS + self.sent.next_second * 1000 + _CLOSING_MS
        for w in range(WORKLOADS):
            for topic in topics.JOINED:
                yield self._event(topic, w, heartbeat_batch(topic, t_ms, node=f"n{w}"))

    def _event(self, topic: str, w: int, batch: PowerBatch | TokenBatch) -> Event:
        return event_of(self._numbers, f"soak://{topic}/{w}", CLUSTER, f"served-{w}", batch)


def pour(hose: Firehose, publisher: Publisher, rows_per_s: float, seconds: float) -> None:
    """Send for this long at that rate; 0 is as fast as the client's queue allows. Whole seconds of event time."""
    begun, sent = time.monotonic(), hose.sent
    while time.monotonic() - begun < seconds:
        due = begun + sent.rows / rows_per_s if rows_per_s else 0.0
        while (left := due - time.monotonic()) > 0:
            publisher.poll(left)
        for event in hose.second():
            publisher.send(event)
    publisher.flush(120)
    sent.seconds = time.monotonic() - begun


def _power(rng: np.random.Generator, w: int) -> PowerBatch:
    gpus = tuple((f"GPU-{w}-{g}", "NVIDIA H100 80GB HBM3") for g in range(ROWS))
    start = np.zeros(ROWS, np.int64)
    return PowerBatch(
        node=f"n{w}",
        gpus=gpus,
        gpu=np.arange(ROWS, dtype=np.uint16),
        t0_ms=start,
        t1_ms=start + 1000,
        energy_uj=rng.integers(70_000_000, 700_000_000, ROWS),
        method=np.zeros(ROWS, np.uint8),
        busy_ms=np.full(ROWS, -1, np.int64),
        owner="owner",
    )


def _tokens(rng: np.random.Generator) -> TokenBatch:
    tenants = tuple(f"tenant-{n}" for n in range(20))
    end = rng.integers(0, 1000, ROWS)
    start = end - rng.integers(200, 8_000, ROWS)
    prompt = rng.integers(50, 4_000, ROWS)
    return TokenBatch(
        tenants=tenants,
        tenant=rng.integers(0, 20, ROWS).astype(np.uint16),
        models=("m",),
        model=np.zeros(ROWS, np.uint16),
        request_id=(),
        t_start_ms=start,
        t_first_ms=start + 100,
        t_end_ms=end,
        prompt_tokens=prompt,
        cached_tokens=prompt // 3,
        completion_tokens=rng.integers(10, 900, ROWS),
        statuses=("ok",),
        status=np.zeros(ROWS, np.uint16),
    )


def _at(batch: PowerBatch, base_ms: int) -> PowerBatch:
    return replace(batch, t0_ms=batch.t0_ms + base_ms, t1_ms=batch.t1_ms + base_ms)


def _named(batch: TokenBatch, base_ms: int, second: int, w: int) -> TokenBatch:
    return replace(
        batch, request_id=tuple(f"{second}.{w}.{n}" for n in range(ROWS)), t_start_ms=batch.t_start_ms + base_ms,
        t_first_ms=batch.t_first_ms + base_ms, t_end_ms=batch.t_end_ms + base_ms,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("--rate", type=float, default=0.0, help="rows a second; 0: as many as can be")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--begin", type=int, default=0, help="the second of event time to begin with")
    parser.add_argument("--epoch", type=int, default=1)
    parser.add_argument("--close", action="store_true", help="say at the end that everything was sent")
    options = parser.parse_args()
    hose = Firehose(options.epoch, options.begin)
    config: dict[str, Any] = {"bootstrap.servers": options.bootstrap, "message.timeout.ms": 600_000, "log_level": 0}
    with Publisher(config, block_s=300) as publisher:
        pour(hose, publisher, options.rate, options.seconds)
        for event in hose.closing() if options.close else ():
            publisher.send(event)
    print(json.dumps(vars(hose.sent)))


if __name__ == "__main__":
    main()
