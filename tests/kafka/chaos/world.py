"""A synthetic fleet whose every row is known: the events of its producers, and the rows for the oracle.

Rows are plain (tests/support/oracle.py), and events are built from the same rows. So the workers' result can be
compared with an attribution that shares no code with them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from contracts import topics
from contracts.events import Batch, Event
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch
from tests.support.oracle import Interval, Request
from tests.support.partition_log import power, tokens

START_MS = 1_758_000_000_000
TICK_MS = 250
"""Interval of each source's events, in event time."""
GPUS = 8
FLOORS_MW = {"H100": 70_000, "L40S": 35_000}
CLUSTERS = ("east", "west")
_TENANTS = ("acme", "globex", "initech")
_MODELS = ("small", "large")


class World:
    """Two clusters, with `workloads` served models of 8 GPUs each and one unallocated node per cluster.

    Every fourth workload has two kinds of hardware, every third an owner. One request in fifty runs longer than windows
    stay open. The same seed gives the same rows.
    """

    def __init__(self, seed: int, workloads: int = 12, start_ms: int = START_MS) -> None:
        self._rng = random.Random(seed)
        self._numbers = Sequencer(start_ms)
        self._served = [(CLUSTERS[n % 2], f"served-{n}", n) for n in range(workloads)]
        self.start_ms = self.end_ms = start_ms
        """From where to where in event time this has sent."""
        self.intervals: list[Interval] = []
        self.requests: list[Request] = []
        self.sent: dict[tuple[str, str, int], int] = {}
        """Events by (topic, source, epoch)."""

    def tick(self) -> list[Event]:
        """Events of the next TICK_MS of event time; its rows are in `intervals` and `requests`."""
        t0_ms, t1_ms = self.end_ms, self.end_ms + TICK_MS
        events = []
        for cluster, name, n in self._served:
            events.append(self._send(topics.POWER, cluster, name, self._power(cluster, name, n, t0_ms, t1_ms)))
            events.append(self._send(topics.TOKENS, cluster, name, self._tokens(cluster, name, t0_ms, t1_ms)))
        for cluster in CLUSTERS:
            name = topics.node_workload(f"{cluster}-spare")
            events.append(self._send(topics.POWER, cluster, name, self._power(cluster, name, -1, t0_ms, t1_ms)))
        self.end_ms = t1_ms
        return events

    def closing(self, after_ms: int) -> Iterator[Event]:
        """Heartbeats that complete every source up to `after_ms` beyond the end, so that all windows become final."""
        t_ms = self.end_ms + after_ms
        spare = [(c, topics.node_workload(f"{c}-spare")) for c in CLUSTERS]
        for cluster, name in [(c, name) for c, name, _ in self._served] + spare:
            yield self._send(topics.POWER, cluster, name, heartbeat_batch(topics.POWER, t_ms, node="n"))
            if not topics.is_unallocated(name):
                yield self._send(topics.TOKENS, cluster, name, heartbeat_batch(topics.TOKENS, t_ms))

    def _send(self, topic: str, cluster: str, workload: str, batch: Batch) -> Event:
        source = f"chaos://{cluster}/{workload}/{topic}"
        event = event_of(self._numbers, source, cluster, workload, batch)
        self.sent[topic, source, event.epoch] = event.seq + 1
        return event

    def _power(self, cluster: str, name: str, n: int, t0_ms: int, t1_ms: int) -> Batch:
        node = name.removeprefix("~")
        owner = "acme" if n >= 0 and n % 3 == 0 else ""
        rows = [
            Interval(
                cluster=cluster,
                workload=name,
                node=node,
                gpu=f"GPU-{node}-{g}",
                hardware="L40S" if n >= 0 and n % 4 == 0 and g < 2 else "H100",
                t0=t0_ms,
                t1=t1_ms,
                energy_uj=self._rng.randrange(10_000_000, 175_000_000),
                owner=owner,
            )
            for g in range(GPUS)
        ]
        self.intervals += rows
        return power(rows)

    def _tokens(self, cluster: str, name: str, t0_ms: int, t1_ms: int) -> Batch:
        rows = [self._request(cluster, name, t0_ms) for _ in range(self._rng.randrange(8))]
        self.requests += rows
        return tokens(rows, t_ms=t1_ms)

    def _request(self, cluster: str, name: str, t0_ms: int) -> Request:
        rng = self._rng
        end = t0_ms + rng.randrange(TICK_MS)
        took = rng.randrange(4_000, 9_000) if rng.random() < 0.02 else rng.randrange(20, 1_500)
        start = end - took
        first = 0 if rng.random() < 0.1 else rng.randrange(start, end + 1)
        prompt = rng.randrange(1, 4_000)
        return Request(
            cluster=cluster,
            workload=name,
            tenant=rng.choice(_TENANTS),
            model=rng.choice(_MODELS),
            request_id=f"r{len(self.requests)}.{rng.getrandbits(40):x}",
            start=start,
            first=first,
            end=end,
            prompt=prompt,
            cached=rng.randrange(prompt + 1),
            completion=rng.randrange(600),
            ok=rng.random() > 0.02,
        )
