"""The ceiling: the same core and the same sink under a plain confluent-kafka loop. No Faust, no asyncio, one thread.

It does in its order what `streams.stream_worker` and `streams.retrying_sink` do (store, mark, then commit), without
what a fleet needs beside that: no retries, no back-pressure, no rebalance, no dead letters, no metrics. Provisional
windows are shown by neither: the worker does not when it is as far behind as here.
"""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.contestants.wattlog_common import Patience, fill, settings_of, totals
from bench.harness.meter import Job, Meter, leave
from bench.harness.profiling import Profiles
from cli.ledger_access import open_warehouse
from contracts import topics
from contracts.rows import Table, concat
from contracts.settings import Settings
from producers.runtime.publisher import kafka_config
from streams.core.decoding import LogMessage, PartitionConfig
from streams.core.partition import Partition
from streams.core.stored_keys import touched_hours
from streams.flush import CHECKPOINT_EVERY_MS, HOURS_EVERY_MS
from streams.startup import load_policy
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

STORE_S = 0.5
"""Pause between two rounds of storing. The worker stores beside its reading, so that what closes meanwhile is stored
together; one thread that paused as shortly as the worker would store many small flushes instead."""
_COMMIT_S = 1.0
"""As often as Faust commits."""


class Plain:
    """The loop. `drain` returns when everything is committed."""

    def __init__(self, job: Job, settings: Settings, sink: Sink, policy: Any, log_id: str) -> None:
        self._job, self._settings, self._sink = job, settings, sink
        config = PartitionConfig(settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms)
        numbers = range(job.partitions)
        epoch = sink.claim(log_id, numbers, "bench")
        self._fence = Fence(log_id, tuple(numbers), epoch)
        self._partitions = {n: Partition(log_id, n, config, policy, epoch=epoch, now_ms=_now_ms()) for n in numbers}
        self._ends = {(t, int(p)): end for t, ends in job.ends.items() for p, end in ends.items()}
        self._committed: dict[tuple[str, int], int] = {}
        self._settled_ms = self._hours_ms = 0
        self._touched: tuple[set[Any], set[Any], set[Any]] = (set(), set(), set())
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
            received = self._consumer.consume(self._settings.batch_messages, self._settings.batch_wait_ms / 1000)
            if not meter.started and not received:
                patience.check(None)
                continue
            if not meter.started:
                meter.start()
                profiles.start()
            self._ingest(received)
            now = time.monotonic()
            patience.check((len(received), self._settled_ms) if received else self._committed)
            if now - store_s >= STORE_S:
                self._store()
                store_s = time.monotonic()
            if before - commit_s >= _COMMIT_S:
                self._commit()
                commit_s = before
        profiles.stop()
        meter.stop()

    def _ingest(self, received: list[Any]) -> None:
        by_partition: dict[int, list[LogMessage]] = {}
        for m in received:
            if m.error() is not None:
                raise RuntimeError(str(m.error()))
            message = LogMessage(m.topic(), m.offset(), m.headers(), m.value())
            by_partition.setdefault(m.partition(), []).append(message)
        now_ms = _now_ms()
        for number, messages in by_partition.items():
            if rejected := self._partitions[number].ingest(messages, now_ms):
                raise rejected[0].error

    def _store(self) -> None:
        """One round over all partitions, in the order and with the inserts of `streams.flush`."""
        now_ms, states = _now_ms(), list(self._partitions.values())
        settle = now_ms - self._settled_ms >= CHECKPOINT_EVERY_MS
        flushes = [(state, flush) for state in states if (flush := state.advance(now_ms))]
        if any(flush.late_tables for _, flush in flushes):
            raise RuntimeError("the input has nothing late")
        tables = {n: concat(n, [f.tables[n] for _, f in flushes]) for n in (flushes[0][1].tables if flushes else ())}
        for name, table in tables.items():
            self._sink.write(name, table, self._fence)
        marks = []
        for state, flush in flushes:
            hours, clusters, workloads = touched_hours(flush.tables["ledger"])
            self._touched[0].update(hours)
            self._touched[1].update(clusters)
            self._touched[2].update(workloads)
            marks.append(state.finals_stored(flush))
        closed = {id(state) for state, _ in flushes}
        unclosed = [state for state in states if settle and id(state) not in closed]
        marks += [mark for state in unclosed if (mark := state.progress.checkpoint_if_moved()) is not None]
        self._store_marks(states, marks)
        self._refresh_hours(now_ms)
        self._settled_ms = now_ms if settle else self._settled_ms

    def _store_marks(self, states: list[Partition], marks: list[Table]) -> None:
        if not marks:
            return
        received = [rows for state in states if (rows := state.progress.take_source_rows()) is not None]
        if received:
            self._sink.write("sources", concat("sources", received), self._fence)
        self._sink.write("marks", concat("marks", marks), self._fence)

    def _refresh_hours(self, now_ms: int) -> None:
        if self._touched[0] and now_ms - self._hours_ms >= HOURS_EVERY_MS:
            self._sink.refresh_hours(*(sorted(seen) for seen in self._touched))
            for seen in self._touched:
                seen.clear()
            for state in self._partitions.values():
                state.progress.checkpoint.hours.clear()
            self._hours_ms = now_ms

    def _commit(self) -> None:
        committable = {
            (topic, n): offset
            for n, state in self._partitions.items()
            for topic, offset in state.progress.checkpoint_offsets().items()
        }
        if committable and committable != self._committed:
            offsets = [TopicPartition(t, n, offset) for (t, n), offset in committable.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._committed = committable


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    job: Any = Job.read()
    settings, meter, profiles = settings_of(job), Meter(job), Profiles(bool(job.options.get("profile")))
    log_id = f"bench/{job.group}"
    with open_warehouse(settings) as warehouse:
        fill(warehouse, job)
        Plain(job, settings, Sink(warehouse), load_policy(warehouse, settings), log_id).drain(meter, profiles)
        meter.report(totals(warehouse), profile=profiles.top())
    leave()


if __name__ == "__main__":
    main()
