"""The input onto the broker, before anybody reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.harness.broker import Broker
from bench.harness.fleet import (
    BLOCK_S,
    HARDWARE,
    MS,
    Events,
    Fleet,
    Slice,
    Totals,
    blocks,
    gpu_name,
    model_name,
    node_name,
    request_ids,
    slices,
)
from contracts import codec, topics
from producers.runtime.publisher import DEFAULTS

Encoding = Literal["packed", "json", "flat"]
"""Wattlog's two bodies; or a plain JSON object an event, as one would design it without Wattlog."""

FLAT_POWER, FLAT_TOKENS = "bench.power", "bench.tokens"
LATENESS_MS, SKEW_MS, WINDOW_MS = 120_000, 5_000, 10_000
_WAIT_S = 60.0

Headers = list[tuple[str, bytes]]
Outgoing = tuple[str, int, bytes, int, Headers | None, bytes]
"""(topic, partition, key, event time in ms, headers, value)"""


@dataclass(frozen=True)
class Shape:
    """Rows per message and their encoding."""

    rows: int
    encoding: Encoding

    @property
    def name(self) -> str:
        return f"{self.rows}-{self.encoding}"

    @property
    def topics(self) -> tuple[str, str]:
        return (FLAT_POWER, FLAT_TOKENS) if self.encoding == "flat" else topics.JOINED


@dataclass
class Backlog:
    """Messages on the broker, and the totals that they must sum to."""

    shape: Shape
    partitions: int
    base_ms: int
    end_ms: int
    """Event time at which the last row ends, at most."""
    totals: Totals
    messages: int = 0
    value_bytes: int = 0
    ends: dict[str, dict[int, int]] = field(default_factory=dict)
    """By topic and partition, the offset after the last message."""

    @property
    def closing_ms(self) -> int:
        """The event time that closes every window."""
        return closing_ms(self.end_ms)


def closing_ms(end_ms: int) -> int:
    return (end_ms // WINDOW_MS + 2) * WINDOW_MS + LATENESS_MS + SKEW_MS


def messages(fleet: Fleet, shape: Shape, count: int, totals: Totals) -> Iterator[Outgoing]:
    """All messages of `count` blocks in the order in which they are sent, and then those that close the windows.
    `totals` is filled on the way."""
    events = Events(fleet)
    for rows_block in blocks(fleet, count):
        for block in rows_block:
            totals.add(block)
        for s in slices(fleet, rows_block, shape.rows):
            if shape.encoding == "flat":
                yield from _flat(fleet, s)
            else:
                yield _wattlog(s.block.partition, events.event(s), shape)
    end_ms = closing_ms(end_of(fleet, count))
    if shape.encoding == "flat":
        yield from _flat_closing(fleet, end_ms)
    else:
        for partition, event in events.closing(end_ms):
            yield _wattlog(partition, event, shape)


def end_of(fleet: Fleet, count: int) -> int:
    """Event time by which all rows of `count` blocks have ended: the last intervals by their node's phase later."""
    return fleet.base_ms + count * BLOCK_S * MS + MS


def _wattlog(partition: int, event: Any, shape: Shape) -> Outgoing:
    content = codec.PACKED if shape.encoding == "packed" else codec.JSON
    headers, value = codec.encode(event, content_type=content)
    key = topics.key(event.cluster, event.workload).encode()
    return codec.topic_of(event.batch), partition, key, event.batch.event_ms, headers, value


def _flat(fleet: Fleet, s: Slice) -> Iterator[Outgoing]:
    """Yield the same rows as one JSON object each."""
    workload, partition = s.block.workload, s.block.partition
    key = workload.encode()
    if s.node >= 0:
        for gpu, t0, energy in zip(*(column.tolist() for column in s.intervals()), strict=True):
            row = {
                "workload": workload, "node": node_name(s), "gpu_uuid": gpu_name(s, gpu), "hardware": HARDWARE,
                "t0_ms": t0, "t1_ms": t0 + MS, "energy_uj": energy,
            }  # fmt: skip
            yield FLAT_POWER, partition, key, row["t0_ms"], None, json.dumps(row).encode()
        return
    r = s.block.requests
    for i, request_id in zip(range(s.first, s.last), request_ids(s), strict=True):
        row = {
            "workload": workload, "request_id": request_id, "tenant": fleet.tenant_names[r.tenant[i]],
            "model": model_name(s), "t_start_ms": int(r.start[i]), "t_first_ms": int(r.first[i]),
            "t_end_ms": int(r.end[i]), "prompt_tokens": int(r.prompt[i]), "cached_tokens": int(r.cached[i]),
            "completion_tokens": int(r.completion[i]),
        }  # fmt: skip
        yield FLAT_TOKENS, partition, key, row["t_end_ms"], None, json.dumps(row).encode()


CLOSER = "~close"
"""The workload of the flat rows that carry nothing but time: their own window stays open."""


def _flat_closing(fleet: Fleet, t_ms: int) -> Iterator[Outgoing]:
    key = CLOSER.encode()
    for partition in range(fleet.partitions):
        power = {
            "workload": CLOSER, "node": CLOSER, "gpu_uuid": CLOSER, "hardware": HARDWARE,
            "t0_ms": t_ms, "t1_ms": t_ms + 1, "energy_uj": 0,
        }  # fmt: skip
        tokens = {
            "workload": CLOSER, "request_id": CLOSER, "tenant": CLOSER, "model": "", "t_start_ms": t_ms,
            "t_first_ms": t_ms, "t_end_ms": t_ms, "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0,
        }  # fmt: skip
        yield FLAT_POWER, partition, key, t_ms, None, json.dumps(power).encode()
        yield FLAT_TOKENS, partition, key, t_ms, None, json.dumps(tokens).encode()


def lay_down(at: Broker, fleet: Fleet, shape: Shape, rows: int) -> Backlog:
    """Make the shape's topics anew and put at least `rows` rows on them. Raises RuntimeError if one is refused."""
    at.anew()
    if at.real:
        make_topics(at.bootstrap, (*shape.topics, topics.USAGE), fleet.partitions)
    else:  # It makes a topic as it is named; nothing is put on this one, but a worker reads it.
        AdminClient({"bootstrap.servers": at.bootstrap}).list_topics(topics.USAGE, timeout=10)
    count = fleet.blocks(rows)
    backlog = Backlog(shape, fleet.partitions, fleet.base_ms, end_of(fleet, count), Totals())
    if backlog.closing_ms > time.time_ns() // 1_000_000:
        raise ValueError(f"{rows} rows end in the future, which no worker believes: begin earlier, or take fewer")
    refused: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(error.str())

    # As Wattlog's own producers send (compression, batching), but with room for a whole backlog in a hurry.
    producer = Producer(
        {**DEFAULTS, "bootstrap.servers": at.bootstrap, "queue.buffering.max.messages": 100_000, "log_level": 0},
        on_delivery=delivered,
    )
    headers: Any
    for topic, partition, key, t_ms, headers, value in messages(fleet, shape, count, backlog.totals):
        while True:
            try:
                producer.produce(topic, value, key, partition, headers=headers, timestamp=t_ms)
                break
            except BufferError:
                producer.poll(0.1)
        ends = backlog.ends.setdefault(topic, {})
        ends[partition] = ends.get(partition, 0) + 1
        backlog.messages += 1
        backlog.value_bytes += len(value)
        if backlog.messages % 1000 == 0:
            producer.poll(0)
    left = producer.flush(_WAIT_S)
    if refused or left:
        raise RuntimeError(f"the broker refused {len(refused)} messages ({refused[:1]}), {left} were never answered")
    return backlog


def make_topics(bootstrap: str, names: tuple[str, ...], partitions: int) -> None:
    """Topics that are empty: those that are there are deleted first. Raises KafkaException when the broker refuses."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    there = [n for n in names if n in admin.list_topics(timeout=10).topics]
    if there:
        for deletion in admin.delete_topics(there, operation_timeout=30).values():
            deletion.result(30)
    _until_made(admin, [NewTopic(n, partitions, 1) for n in names])


def _until_made(admin: AdminClient, missing: list[NewTopic]) -> None:
    """A deleted topic's name is free a moment after the deletion was answered."""
    deadline = time.monotonic() + _WAIT_S
    while missing:
        left = []
        for topic, future in zip(missing, admin.create_topics(missing, operation_timeout=30).values(), strict=True):
            try:
                future.result(30)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                    raise
                left.append(topic)
        missing = left
        time.sleep(0.1 if missing else 0)
