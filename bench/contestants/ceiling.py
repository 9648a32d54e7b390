"""The ceiling: the same core and the same sink under a plain confluent-kafka loop. No Faust, no asyncio, one thread.

It does in its order what `streams.joiner` and `streams.store` do (store, mark, then commit), without what a fleet needs
beside that: no retries, no back-pressure, no rebalance, no dead letters, no metrics.
"""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.contestants.wattlog_common import Patience, fill, settings_of, totals
from bench.harness.meter import Job, Meter, leave
from bench.harness.profiling import Profiles
from cli.embedded import policy_of
from cli.opening import open_warehouse
from contracts import topics
from contracts.rows import Table
from contracts.settings import Settings
from producers.publish import kafka_config
from streams.core.partition import Config, Message, Partition, touched_hours
from streams.joiner import SETTLE_EVERY_MS
from warehouse.fence import Fence
from warehouse.sink import Sink

STORE_S = 0.5
"""Pause between two rounds of storing. The worker stores beside its reading, so that what closes meanwhile is stored
together; one thread that paused as shortly as the worker would store many small flushes instead."""
_COMMIT_S = 1.0
"""As often as Faust commits."""


class Plain:
    """The loop. `drain` returns when everything is committed."""

    def __init__(self, job: Job, settings: Settings, sink: Sink, policy: Any, log_id: str) -> None:
        self._job, self._settings, self._sink = job, settings, sink
        config = Config(settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms)
        numbers = range(job.partitions)
        epoch = sink.claim(log_id, numbers, "bench")
        self._fences = {n: Fence(log_id, n, epoch) for n in numbers}
        self._partitions = {n: Partition(log_id, n, config, policy, epoch=epoch, now_ms=_now_ms()) for n in numbers}
        self._ends = {(t, int(p)): end for t, ends in job.ends.items() for p, end in ends.items()}
        self._committed: dict[tuple[str, int], int] = {}
        self._settled_ms = self._shown_ms = 0
        self._consumer = Consumer(
            {**kafka_config(settings), "group.id": job.group, "auto.offset.reset": "earliest",
             "enable.auto.commit": False}
        )  # fmt: skip
        self._consumer.subscribe(list(topics.JOINED))

    def drain(self, meter: Meter, profiles: Profiles) -> None:
        patience = Patience()
        store_s = commit_s = 0.0
        while self._committed != self._ends:
            before = time.monotonic()
            found = self._consumer.consume(self._settings.batch_messages, self._settings.batch_wait_ms / 1000)
            if not meter.started and not found:
                patience.check(None)
                continue
            if not meter.started:
                meter.start()
                profiles.start()
            self._ingest(found)
            now = time.monotonic()
            patience.check((len(found), self._settled_ms) if found else self._committed)
            if now - store_s >= STORE_S:
                self._store()
                store_s = time.monotonic()
            if before - commit_s >= _COMMIT_S:
                self._commit()
                commit_s = before
        profiles.stop()
        meter.stop()

    def _ingest(self, found: list[Any]) -> None:
        by_partition: dict[int, list[Message]] = {}
        for m in found:
            if m.error() is not None:
                raise RuntimeError(str(m.error()))
            message = Message(m.topic(), m.offset(), m.headers(), m.value())
            by_partition.setdefault(m.partition(), []).append(message)
        now_ms = _now_ms()
        for number, messages in by_partition.items():
            if rejected := self._partitions[number].ingest(messages, now_ms):
                raise rejected[0].error

    def _store(self) -> None:
        now_ms = _now_ms()
        show = now_ms - self._shown_ms >= self._settings.provisional_ms
        settle = now_ms - self._settled_ms >= SETTLE_EVERY_MS
        for number, state in self._partitions.items():
            fence = self._fences[number]
            if flush := state.advance(now_ms):
                if flush.late:
                    raise RuntimeError("the input has nothing late")
                for name, table in flush.tables.items():
                    self._sink.write(name, table, fence)
                self._sink.refresh_hours(*touched_hours(flush.tables["ledger"]))
                self._mark(state, state.finals_stored(flush), fence)
            elif settle and (mark := state.settle()) is not None:
                self._mark(state, mark, fence)
            if show and (rows := state.provisional(now_ms)) is not None:
                self._sink.write("ledger", rows, fence)
        self._shown_ms = now_ms if show else self._shown_ms
        self._settled_ms = now_ms if settle else self._settled_ms

    def _mark(self, state: Partition, mark: Table, fence: Fence) -> None:
        if (sources := state.sources()) is not None:
            self._sink.write("sources", sources, fence)
        self._sink.write("marks", mark, fence)

    def _commit(self) -> None:
        done = {
            (topic, n): offset for n, state in self._partitions.items() for topic, offset in state.committable().items()
        }
        if done and done != self._committed:
            offsets = [TopicPartition(t, n, offset) for (t, n), offset in done.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._committed = done


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    job: Any = Job.read()
    settings, meter, profiles = settings_of(job), Meter(job), Profiles(bool(job.options.get("profile")))
    log_id = f"bench/{job.group}"
    with open_warehouse(settings) as warehouse:
        fill(warehouse, job)
        Plain(job, settings, Sink(warehouse), policy_of(warehouse, settings), log_id).drain(meter, profiles)
        meter.report(totals(warehouse), profile=profiles.top())
    leave()


if __name__ == "__main__":
    main()
