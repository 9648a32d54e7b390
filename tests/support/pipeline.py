"""The whole line in this process, as tests see it: fed, waited for, and read back from log and tables."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from cli.embedded import Pipeline
from cli.log_feed import LogFeed, run_unless_crashed, wait_until_stored
from contracts import topics
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import FleetTotals
from tests.support.waiting import HANG_S
from warehouse.client import Warehouse

Place = tuple[str, int]

SUMS = (
    "sum(active_uj + idle_uj) AS charged_uj, sum(unallocated_uj) AS unallocated_uj, sum(prompt_tokens) AS prompt, "
    "sum(cached_tokens) AS cached, sum(completion_tokens) AS completion, "
    "sum(requests) AS requests, sum(failures) AS failures"
)


def assert_ledger_is(warehouse: Warehouse, totals: FleetTotals) -> None:
    """The final ledger holds what the fleet says it sent, each event once."""
    by_cluster = warehouse.query(f"SELECT cluster, {SUMS} FROM ledger FINAL WHERE final = 1 GROUP BY cluster")
    assert {r["cluster"]: r["charged_uj"] + r["unallocated_uj"] for r in by_cluster} == dict(totals.energy_uj)
    assert sum(r["unallocated_uj"] for r in by_cluster) == totals.unallocated_uj
    by_tenant = warehouse.query(f"SELECT tenant, {SUMS} FROM ledger FINAL WHERE final = 1 GROUP BY tenant")
    for column, expected in {
        "requests": totals.requests, "failures": totals.failures, "prompt": totals.prompt_tokens,
        "cached": totals.cached_tokens, "completion": totals.completion_tokens,
    }.items():  # fmt: skip
        assert Counter({r["tenant"]: r[column] for r in by_tenant if r[column]}) == +expected, column


async def feed(running: Pipeline, events: Iterable[Event], *, wait: bool = True) -> None:
    """Send events; with `wait`, return when all of them are final and stored."""
    with Publisher(kafka_config(running.settings)) as publisher:
        feeding = LogFeed(publisher, running.stream_worker, running.settings.skew_ms)
        await run_unless_crashed(feeding.run(events, lambda _: None), running.crashed)
    if wait:
        await wait_until_stored(running.warehouse, running.log_id, feeding.sent, running.crashed)


def committed(settings: Settings) -> dict[Place, int]:
    """The group's offsets on the joined topics; -1001 where it has none."""
    consumer = _consumer(settings, settings.kafka_group)
    try:
        found = consumer.committed(_places(consumer, topics.JOINED), timeout=HANG_S)
        return {(tp.topic, tp.partition): tp.offset for tp in found}
    finally:
        consumer.close()


def read_all(settings: Settings, *names: str) -> dict[Place, list[Message]]:
    """Every message that these topics hold now, by partition."""
    consumer = _consumer(settings, "test-reads")
    try:
        places = _places(consumer, names)
        ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=HANG_S) for p in places}
        found: dict[Place, list[Message]] = {place: [] for place in ends}
        left = {place for place, (low, high) in ends.items() if high > low}
        for place in places:
            place.offset = OFFSET_BEGINNING
        consumer.assign(places)
        while left:
            message = consumer.poll(HANG_S)
            assert message is not None and message.error() is None, message and message.error()
            place = (message.topic(), message.partition())
            found[place].append(message)
            if message.offset() + 1 >= ends[place][1]:
                left.discard(place)
        return found
    finally:
        consumer.close()


async def until(running: Pipeline, true: Callable[[], bool], what: str) -> None:
    """Ask again and again, off the loop, until `true()`. Raises what ended the worker."""
    end_s = time.monotonic() + HANG_S
    while time.monotonic() < end_s:
        if await asyncio.to_thread(true):
            return
        if running.crashed is not None and running.crashed.done():
            raise running.crashed.result()
        await asyncio.sleep(0.05)
    raise AssertionError(f"still not, after {HANG_S:g} s: {what}")


def _consumer(settings: Settings, group: str) -> Consumer:
    return Consumer({**kafka_config(settings), "group.id": group, "enable.auto.commit": False, "log_level": 0})


def _places(consumer: Consumer, names: Iterable[str]) -> list[TopicPartition]:
    found = consumer.list_topics(timeout=HANG_S).topics
    return [TopicPartition(name, p) for name in names for p in found[name].partitions]
