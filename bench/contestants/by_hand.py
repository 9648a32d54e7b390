"""An afternoon's script without a framework: confluent-kafka, dictionaries, one window per workload.

No durability beyond the commit, no late data, no duplicates: less than Wattlog promises, and so a high bar.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from confluent_kafka import Consumer

from bench.contestants.peer_ledger import Ledger, Window
from bench.harness.meter import Job, Meter, leave


def main() -> None:
    job: Any = Job.read()
    meter, ledger = Meter(job), Ledger(job)
    consumer = Consumer(
        {"bootstrap.servers": job.bootstrap, "group.id": job.group, "auto.offset.reset": "earliest",
         "enable.auto.commit": False}
    )  # fmt: skip
    power, tokens = job.topics
    consumer.subscribe([power, tokens])
    decode = msgspec.json.decode
    windows: dict[int, dict[tuple[int, str], Window]] = {n: {} for n in range(job.partitions)}
    newest: dict[tuple[str, int], int] = {}
    swept = time.monotonic()
    while not ledger.complete:
        message: Any
        for message in consumer.consume(1000, 0.1):
            meter.start()
            topic, number, row = message.topic(), message.partition(), decode(message.value())
            t_ms = row["t0_ms"] if topic == power else row["t_end_ms"]
            at = windows[number].setdefault((t_ms // job.window_ms, row["workload"]), Window())
            at.power(row) if topic == power else at.tokens(row)
            if t_ms > newest.get((topic, number), 0):
                newest[topic, number] = t_ms
        if time.monotonic() - swept > 0.2:
            swept = time.monotonic()
            _close(job, windows, newest, ledger)
            ledger.store()
            if meter.started:
                consumer.commit(asynchronous=True)
    ledger.report(meter)
    leave()


def _close(job: Job, windows: Any, newest: dict[tuple[str, int], int], ledger: Ledger) -> None:
    """Attribute what both topics of a partition have passed by the lateness."""
    for number, opened in windows.items():
        complete_ms = min(newest.get((topic, number), 0) for topic in job.topics) - job.lateness_ms
        complete = [key for key in opened if (key[0] + 1) * job.window_ms <= complete_ms]
        for key in complete:
            ledger.add(opened.pop(key).rows(key[0] * job.window_ms, key[1], job.idle_mw))


if __name__ == "__main__":
    main()
