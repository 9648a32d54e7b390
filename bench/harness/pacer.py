"""A producer in real time: `python -m bench.harness.pacer JOB.json`. What a fleet's agents and gateways send, second by
second, each node at its own moment; it says on stdout how late it was."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

from bench.harness.fleet import BLOCK_S, MS, Events, Fleet, Slice, blocks, slices
from contracts import codec, topics
from producers.runtime.publisher import DEFAULTS

ROWS = 8
"""A node's GPUs, once a second; as many requests."""


def sent_at(s: Slice) -> int:
    """Return the send time of a message (epoch ms): after its second, at the phase of its node or gateway."""
    return s.block.start_ms + s.last * MS + int(s.block.phase_ms[s.node]) if s.node >= 0 else _gateway(s)


def _gateway(s: Slice) -> int:
    last_second = int(np.asarray(s.block.requests.end[s.last - 1] - s.block.start_ms - 1)) // MS
    return s.block.start_ms + (last_second + 1) * MS + int(s.block.phase_ms[0])


def timetable(fleet: Fleet, seconds: int) -> Iterator[tuple[int, Slice]]:
    """(epoch ms to send it at, message) of so many seconds, in that order."""
    for block in blocks(fleet, -(-seconds // BLOCK_S)):
        end_ms = fleet.base_ms + seconds * MS
        timed = ((sent_at(s), s) for s in slices(fleet, block, ROWS))
        # A second's slices come together, so only they need sorting.
        for _, second in groupby(timed, key=lambda item: (item[0] - fleet.base_ms) // MS):
            yield from (item for item in sorted(second, key=lambda i: i[0]) if item[0] <= end_ms)


def main() -> None:
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    fleet = Fleet(**job["fleet"])
    events = Events(fleet)
    producer = Producer({**DEFAULTS, "bootstrap.servers": job["bootstrap"], "enable.idempotence": True, "log_level": 0})
    lags: list[float] = []
    for due_ms, s in timetable(fleet, job["seconds"]):
        while (left_s := due_ms / 1000 - time.time()) > 0:
            producer.poll(min(left_s, 0.05))
        event = events.event(s)
        headers: Any
        headers, value = codec.encode(event)
        producer.produce(
            codec.topic_of(event.batch), value, topics.key(event.cluster, event.workload).encode(), s.block.partition,
            headers=headers, timestamp=due_ms,
        )  # fmt: skip
        producer.poll(0)
        lags.append(time.time() * 1000 - due_ms)
    left = producer.flush(30)
    print(json.dumps({"messages": len(lags), "unsent": left, "late_p99_ms": float(np.percentile(lags, 99))}))


if __name__ == "__main__":
    main()
