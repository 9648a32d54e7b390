"""Identity of events: source, epoch and sequence number.

A source is one (producer kind, cluster, node, workload) and writes to one topic, so its events are in one partition
and a reader sees its numbers 0, 1, 2 ... without gaps: a gap means loss. An epoch is one run of a producer, named by
its start in UTC epoch ms, so that a restart never reuses an identity. A source whose numbers another sender took begins
another epoch within the run (`producers.runtime.claim_watch`).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import numpy as np

from contracts import codec, topics
from contracts.errors import BadInput
from contracts.events import Batch, Event, Method, PowerBatch, TokenBatch


def source_of(kind: str, cluster: str, node: str, workload: str) -> str:
    """Return `kind://cluster/node/workload`, a CloudEvents source (a URI reference).

    Names are percent-encoded, so different sources have different texts.
    """
    return f"{kind}://{quote(cluster, safe='')}/{quote(node, safe='')}/{quote(workload, safe='')}"


class Sequencer:
    """Numbers the events of each source from 0, without gaps, within one epoch.

    `epoch` is the start of this run in UTC epoch ms; sources that began another one have their own. It holds one small
    entry per source: as many as a node has workloads.
    """

    def __init__(self, epoch: int) -> None:
        if epoch < 0:
            raise BadInput("epoch", epoch, "give the start of this run in UTC epoch milliseconds")
        self.epoch = epoch
        self._next: dict[str, tuple[str, int]] = {}
        self._epochs: dict[str, int] = {}
        """Of the sources that began another epoch."""

    def __contains__(self, source: str) -> bool:
        return source in self._next

    def epoch_of(self, source: str) -> int:
        """Return the epoch of a source's next event."""
        return self._epochs.get(source, self.epoch)

    def begin_epoch(self, source: str, now_ms: int) -> int:
        """Number a source from 0 again, in a new epoch that is returned. Events of before keep their identities."""
        topic, _ = self._next[source]
        self._next[source] = (topic, 0)
        self._epochs[source] = max(now_ms, self.epoch_of(source) + 1)
        return self._epochs[source]

    def next(self, source: str, topic: str) -> int:
        """Return the next number of a source.

        Raises BadInput when the source has written to another topic: its events would be in two partitions, and a
        reader of either would see gaps.
        """
        bound, seq = self._next.get(source, (topic, 0))
        if bound != topic:
            raise BadInput("source", source, f"it writes to {bound}; give the events for {topic} a source of their own")
        self._next[source] = (topic, seq + 1)
        return seq

    def take_back(self, source: str, seq: int) -> None:
        """Free the number of an event that was never sent, so that no gap remains.

        Raises BadInput for a number that is not the latest of its source.
        """
        topic, following = self._next[source]
        if seq != following - 1:
            raise BadInput("seq", seq, f"only the latest number, {following - 1}, can be taken back")
        self._next[source] = (topic, seq)


def event_of(numbers: Sequencer, source: str, cluster: str, workload: str, batch: Batch) -> Event:
    """Return a batch as the next event of its source."""
    seq = numbers.next(source, codec.topic_of(batch))
    return Event(
        source=source, epoch=numbers.epoch_of(source), seq=seq, cluster=cluster, workload=workload, batch=batch
    )


def heartbeat_batch(topic: str, t_ms: int, *, node: str = "", owner: str = "") -> PowerBatch | TokenBatch:
    """Return an empty batch that says "complete up to `t_ms`". `node` is required on the power topic."""
    none, index = np.zeros(0, np.int64), np.zeros(0, np.uint16)
    if topic == topics.POWER:
        return PowerBatch(
            node=node,
            gpus=(),
            gpu=index,
            t0_ms=none,
            t1_ms=none,
            energy_uj=none,
            method=np.zeros(0, np.uint8),
            busy_ms=none,
            owner=owner,
            t_ms=t_ms,
        )
    if topic == topics.TOKENS:
        return TokenBatch(
            tenants=(),
            tenant=index,
            models=(),
            model=index,
            request_id=(),
            t_start_ms=none,
            t_first_ms=none,
            t_end_ms=none,
            prompt_tokens=none,
            cached_tokens=none,
            completion_tokens=none,
            t_ms=t_ms,
        )
    raise BadInput("topic", topic, f"heartbeats go to {topics.POWER} or {topics.TOKENS}")


def power_batch(
    node: str, rows: Iterable[tuple[str, str, int, int, int, Method | int, int]], *, owner: str = "", t_ms: int = 0
) -> PowerBatch:
    """Return rows (gpu_uuid, hardware, t0_ms, t1_ms, energy_uj, method, busy_ms) as one batch, or a heartbeat."""
    listed = list(rows)
    if not listed:
        return heartbeat_batch(topics.POWER, t_ms, node=node, owner=owner)  # type: ignore[return-value]
    uuid, hardware, t0, t1, energy, method, busy = zip(*listed, strict=True)
    gpus: dict[tuple[str, str], int] = {}
    gpu = [gpus.setdefault(pair, len(gpus)) for pair in zip(uuid, hardware, strict=True)]
    return PowerBatch(
        node=node,
        gpus=tuple(gpus),
        gpu=np.asarray(gpu, np.uint16),
        t0_ms=np.asarray(t0, np.int64),
        t1_ms=np.asarray(t1, np.int64),
        energy_uj=np.asarray(energy, np.int64),
        method=np.asarray(method, np.uint8),
        busy_ms=np.asarray(busy, np.int64),
        owner=owner,
        t_ms=t_ms,
    )
