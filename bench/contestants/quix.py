"""Quix Streams as its manual joins two topics in windows: concatenate them, then one tumbling window per key.

`reduce` keeps one accumulator a window in the state store (RocksDB, with its changelog topic, as by default); a window
is final when the partition's time has passed its end by the grace period.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application
from quixstreams.sinks.base import BatchingSink, SinkBatch

from bench.contestants.peer_ledger import Ledger, attribute
from bench.harness.meter import Job, Meter, leave


class LedgerSink(BatchingSink):
    """Closed windows into the ledger, at every checkpoint."""

    def __init__(self, job: Job, meter: Meter, ledger: Ledger) -> None:
        super().__init__()
        self._job, self._meter, self._ledger = job, meter, ledger

    def write(self, batch: SinkBatch) -> None:
        for item in batch:
            window = item.value
            a = window["value"]
            payers = {tuple(name.split("\n")): tokens for name, tokens in a["payers"].items()}
            self._ledger.add(
                attribute(
                    window["start"], item.key, a["hardware"], a["energy_uj"], a["seconds"], payers, self._job.idle_mw
                )
            )
        self._ledger.store()
        if self._ledger.complete:
            self._ledger.report(self._meter)
            leave()


def begin(row: dict[str, Any]) -> dict[str, Any]:
    return add({"energy_uj": 0, "seconds": 0.0, "hardware": "", "payers": {}}, row)


def add(a: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    if "energy_uj" in row:
        a["energy_uj"] += row["energy_uj"]
        a["seconds"] += (row["t1_ms"] - row["t0_ms"]) / 1000
        a["hardware"] = row["hardware"]
        return a
    t = a["payers"].setdefault(f"{row['tenant']}\n{row['model']}", [0, 0, 0, 0])
    t[0] += row["prompt_tokens"]
    t[1] += row["cached_tokens"]
    t[2] += row["completion_tokens"]
    t[3] += 1
    return a


def main() -> None:
    job: Any = Job.read()
    meter, ledger = Meter(job), Ledger(job)
    app = Application(
        broker_address=job.bootstrap, consumer_group=job.group, auto_offset_reset="earliest",
        state_dir=job.folder + "/state", commit_interval=1.0, loglevel="WARNING",
    )  # fmt: skip

    def power_time(value: Any, *_: Any) -> int:
        meter.start()
        return int(value["t0_ms"])

    def tokens_time(value: Any, *_: Any) -> int:
        meter.start()
        return int(value["t_end_ms"])

    power = app.topic(job.topics[0], key_deserializer="str", timestamp_extractor=power_time)
    tokens = app.topic(job.topics[1], key_deserializer="str", timestamp_extractor=tokens_time)
    both = app.dataframe(power).concat(app.dataframe(tokens))
    windows = both.tumbling_window(job.window_ms, grace_ms=job.lateness_ms).reduce(reducer=add, initializer=begin)
    windows.final(closing_strategy="partition").sink(LedgerSink(job, meter, ledger))
    app.run()


if __name__ == "__main__":
    main()
