"""Bytewax as its manual folds keyed events in windows of event time; recovery on, as for production.

The two topics are one keyed stream; a window folds both sides, which is the join. It reads to the end of the topics
and stops there, which closes the windows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from bench.contestants.peer_ledger import Ledger, Row, Window
from bench.harness.meter import Job, Meter, leave


class _Part(StatelessSinkPartition[list[Row]]):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def write_batch(self, items: list[list[Row]]) -> None:
        self._ledger.add([row for rows in items for row in rows])


class LedgerSink(DynamicSink[list[Row]]):
    """Ledger rows, inserted in batches."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Part:
        return _Part(self._ledger)


def fold(window: Window, row: dict[str, Any]) -> Window:
    window.power(row) if "energy_uj" in row else window.tokens(row)
    return window


def merge(a: Window, b: Window) -> Window:
    """Only session windows merge."""
    raise NotImplementedError


def time_of(row: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp((row["t0_ms"] if "t0_ms" in row else row["t_end_ms"]) / 1000, UTC)


def flow_of(job: Job, meter: Meter, ledger: Ledger) -> Dataflow:
    def keyed(message: Any) -> tuple[str, dict[str, Any]]:
        meter.start()
        row = orjson.loads(message.value)
        return row["workload"], row

    def rows(item: tuple[str, tuple[int, Window]]) -> list[Row]:
        workload, (number, window) = item
        if workload.startswith("~"):  # The end of the topics closes the window of what closes windows, too.
            return []
        return window.rows(number * job.window_ms, workload, job.idle_mw)

    flow = Dataflow("ledger")
    read = op.input("read", flow, KafkaSource([job.bootstrap], job.topics, tail=False))
    by_workload = op.map("keyed", read, keyed)
    closed = win.fold_window(
        "windows", by_workload,
        win.EventClock(ts_getter=time_of, wait_for_system_duration=timedelta(milliseconds=job.lateness_ms)),
        win.TumblingWindower(
            length=timedelta(milliseconds=job.window_ms), align_to=datetime(1970, 1, 1, tzinfo=UTC)
        ),
        Window, fold, merge, ordered=False,
    )  # fmt: skip
    op.output("ledger", op.map("attribute", closed.down, rows), LedgerSink(ledger))
    return flow


def main() -> None:
    job: Any = Job.read()
    meter, ledger = Meter(job), Ledger(job)
    store = Path(job.folder) / "recovery"
    store.mkdir(parents=True)
    init_db_dir(store, 1)
    cli_main(
        flow_of(job, meter, ledger), epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(store))
    )
    ledger.store()
    ledger.report(meter)
    leave()


if __name__ == "__main__":
    main()
