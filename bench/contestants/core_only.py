"""Parts of the work, from memory: no broker and no warehouse. `options.part` is `decode`, or `core` (decode, join and
attribute: what `streams.core` does). Arithmetic alone is the difference of the two."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from bench.contestants.wattlog_common import settings_of
from bench.harness.fleet import HARDWARE
from bench.harness.meter import Job, Meter, leave
from contracts import topics
from contracts.errors import BadEvent
from contracts.events import PowerBatch
from streams.core import decoding
from streams.core.attribution.policy import FloorVersion, Policy
from streams.core.decoding import LogMessage, PartitionConfig
from streams.core.partition import Partition

Log = dict[int, list[LogMessage]]


def loaded(job: Job) -> Log:
    """The whole backlog by partition, in the order of arrival that a worker would see."""
    consumer = Consumer({"bootstrap.servers": job.bootstrap, "group.id": job.group, "enable.auto.commit": False})
    consumer.assign([TopicPartition(t, p, 0) for t in topics.JOINED for p in range(job.partitions)])
    log: Log = {n: [] for n in range(job.partitions)}
    left = job.messages
    while left:
        result = consumer.consume(min(left, 1000), 5.0)
        m: Any
        for m in result:
            log[m.partition()].append(LogMessage(m.topic(), m.offset(), m.headers(), m.value()))
        left -= len(result)
        if not result:
            raise TimeoutError(f"{left} messages of the backlog did not come")
    consumer.close()
    return log


def decode_all(log: Log, job: Job) -> dict[str, int]:
    """Decode and check every message as the core does, step by step; what they hold."""
    settings, now_ms = settings_of(job), time.time_ns() // 1_000_000
    config = PartitionConfig(settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms)
    result = {"energy_uj": 0, "rows": 0}
    for messages in log.values():
        for at in range(0, len(messages), settings.batch_messages):
            step = messages[at : at + settings.batch_messages]
            for topic in topics.JOINED:
                for event in decoding.decode_messages([m for m in step if m.topic == topic], now_ms, config).events:
                    if isinstance(event, BadEvent):
                        raise event
                    result["rows"] += len(event.batch)
                    if isinstance(event.batch, PowerBatch):
                        result["energy_uj"] += int(event.batch.energy_uj.sum())
    return result


def attribute_all(log: Log, job: Job) -> dict[str, int]:
    """Decode, join, attribute, in the worker's steps; what the final ledger holds."""
    settings = settings_of(job)
    config = PartitionConfig(settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms)
    policy = Policy((FloorVersion(HARDWARE, 0, 2**62, job.idle_mw, 1),))
    now_ms = time.time_ns() // 1_000_000
    result = {"energy_uj": 0, "requests": 0, "ledger_rows": 0}
    for number, messages in log.items():
        state = Partition("bench", number, config, policy, now_ms=now_ms)
        for at in range(0, len(messages), settings.batch_messages):
            if rejected := state.ingest(messages[at : at + settings.batch_messages], now_ms):
                raise rejected[0].error
            if flush := state.advance(now_ms):
                ledger = flush.tables["ledger"]
                for column in ("active_uj", "idle_uj", "unallocated_uj"):
                    result["energy_uj"] += int(np.asarray(ledger[column]).sum())
                result["requests"] += int(np.asarray(ledger["requests"]).sum())
                result["ledger_rows"] += len(ledger["tenant"])
                state.finals_stored(flush)
    return result


def main() -> None:
    job: Any = Job.read()
    log, meter = loaded(job), Meter(job)
    meter.start()
    result = decode_all(log, job) if job.options["part"] == "decode" else attribute_all(log, job)
    meter.stop()
    meter.report(result)
    leave()


if __name__ == "__main__":
    main()
