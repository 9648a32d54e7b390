"""Timed rows to numbered events.

Rows are gathered in ticks of event time, of 5 s unless a recording has longer ones. At the end of a tick every
workload sends what it has on both topics, power first, or a heartbeat. So neither topic runs ahead of the other, and
the watermark of a partition follows the replay even if one topic is quiet. `batch.t_ms` is the replay's clock, for
pacing: within a source it never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TypeVar
from urllib.parse import quote

import numpy as np

from contracts import codec, topics
from contracts.events import Event, PowerBatch, TokenBatch
from producers.recordings.base import BadRow, PowerRow, TokenRow
from producers.runtime.batching import token_batch
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch, power_batch

TICK_MS = 5_000
MAX_ROWS = 512
"""Rows in one event: large enough for speed (docs/performance.md), small enough for an embedded broker."""
_QUIET_WORKLOADS = 16
_NODE = "replay"
"""The node that heartbeats name, because a recording's rows may be of many nodes."""

Group = tuple[str, str]
"""A (cluster, workload)."""


def events_of(
    rows: Iterable[PowerRow | TokenRow | BadRow], *, name: str, groups: Iterable[Group], epoch: int, end_ms: int,
    close_ms: int, tick_ms: int = TICK_MS,
) -> Iterator[Event | BadRow]:  # fmt: skip
    """Yield the events of rows that are in the order of `key_ms`, with reports of bad rows in between.

    `name` is unique to the recording's content. With topic, cluster and workload it makes a source, numbered from
    0 in `epoch`. `tick_ms` is at most HOLD_MS, so that no row is late. At the end each of `groups` sends heartbeats up
    to `end_ms + close_ms` on both topics.
    """
    sender = _Sender(name, sorted(set(groups)), epoch, tick_ms)
    tick = -1
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        now = row.key_ms // tick_ms
        if now > tick:
            if tick >= 0:
                yield from sender.flush(tick * tick_ms, (tick + 1) * tick_ms)
            tick = now
        sender.add(row)
    if tick >= 0:
        yield from sender.flush(tick * tick_ms, (tick + 1) * tick_ms)
    yield from sender.close(end_ms + close_ms)


class _Sender:
    """Gathers the rows of one tick by workload, and numbers the events."""

    def __init__(self, name: str, groups: list[Group], epoch: int, tick_ms: int) -> None:
        self._name = name
        self._numbers = Sequencer(epoch)
        self._rows: dict[Group, tuple[list[PowerRow], list[TokenRow]]] = {g: ([], []) for g in groups}
        # With many workloads, heartbeats would outnumber the rows, so they are sent more seldom.
        self._quiet_ms = tick_ms * max(1, len(groups) // _QUIET_WORKLOADS)
        self._last_sent_ms: dict[tuple[str, Group], int] = {}

    def add(self, row: PowerRow | TokenRow) -> None:
        power, tokens = self._rows.setdefault((row.cluster, row.workload), ([], []))
        if isinstance(row, PowerRow):
            power.append(row)
        else:
            tokens.append(row)

    def flush(self, from_ms: int, to_ms: int) -> Iterator[Event]:
        """Yield the events of the tick `[from_ms, to_ms)`. Only a group's last event on a topic says that it is
        complete.
        """
        for group, (power, tokens) in self._rows.items():
            yield from self._send(topics.POWER, group, _power_batches(power, from_ms), to_ms)
            yield from self._send(topics.TOKENS, group, [_token_batch(c, from_ms) for c in _chunks(tokens)], to_ms)
            power.clear()
            tokens.clear()

    def close(self, t_ms: int) -> Iterator[Event]:
        """Yield the last heartbeats, on both topics for every group."""
        for group in self._rows:
            for topic in topics.JOINED:
                yield self._event(group, heartbeat_batch(topic, t_ms, node=_NODE))

    def _send(self, topic: str, group: Group, batches: list[PowerBatch | TokenBatch], to_ms: int) -> Iterator[Event]:
        if batches:
            batches[-1] = replace(batches[-1], t_ms=to_ms)
        elif to_ms - self._last_sent_ms.get((topic, group), -self._quiet_ms) >= self._quiet_ms:
            batches = [heartbeat_batch(topic, to_ms, node=_NODE)]
        else:
            return
        self._last_sent_ms[topic, group] = to_ms
        for batch in batches:
            yield self._event(group, batch)

    def _event(self, group: Group, batch: PowerBatch | TokenBatch) -> Event:
        cluster, workload = group
        path = f"{quote(cluster, safe='')}/{quote(workload, safe='')}/{codec.topic_of(batch)}"
        return event_of(self._numbers, f"replay://{self._name}/{path}", cluster, workload, batch)


_Item = TypeVar("_Item")
_node_and_owner = attrgetter("node", "owner")


def _chunks(rows: list[_Item]) -> Iterator[list[_Item]]:
    return (rows[i : i + MAX_ROWS] for i in range(0, len(rows), MAX_ROWS))


def _token_batch(rows: list[TokenRow], t_ms: int) -> PowerBatch | TokenBatch:
    """Return rows as a batch, with the numbers of requests that they stand for where one stands for several."""
    batch = token_batch(rows, t_ms)
    requests = np.array([row.requests for row in rows], np.int64)
    return batch if (requests == 1).all() else replace(batch, requests=requests)


def _power_batches(rows: list[PowerRow], t_ms: int) -> list[PowerBatch | TokenBatch]:
    """Return the rows as batches. A batch holds the rows of one node."""
    return [
        power_batch(
            node,
            [(r.gpu_uuid, r.hardware, r.t0_ms, r.t1_ms, r.energy_uj, r.method, r.busy_ms) for r in chunk],
            owner=owner,
            t_ms=t_ms,
        )
        for (node, owner), run in groupby(sorted(rows, key=_node_and_owner), key=_node_and_owner)
        for chunk in _chunks(list(run))
    ]
