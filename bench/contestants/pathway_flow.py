"""Pathway as its manual windows and joins: two `windowby` with one output a window, joined on workload and window.

All of the arithmetic runs in its Rust engine; Python sees finished ledger rows. There is no hook at the first message,
so its watch starts when the engine does, which includes joining the broker.
"""

from __future__ import annotations

from typing import Any

import pathway as pw

from bench.contestants.peer_ledger import Ledger
from bench.harness.meter import Job, Meter, leave


class Reading(pw.Schema):
    """One interval of one GPU."""

    workload: str
    hardware: str
    t0_ms: int
    t1_ms: int
    energy_uj: int


class Request(pw.Schema):
    """One inference."""

    workload: str
    tenant: str
    model: str
    t_end_ms: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def ledger_of(power: pw.Table, tokens: pw.Table, job: Job) -> pw.Table:
    """Rows in the order of `peer_ledger.COLUMNS`."""
    window = pw.temporal.tumbling(duration=job.window_ms)
    once = pw.temporal.exactly_once_behavior(shift=job.lateness_ms)
    energy = power.windowby(power.t0_ms, window=window, behavior=once, instance=power.workload).reduce(
        workload=pw.this._pw_instance,
        start=pw.this._pw_window_start,
        hardware=pw.reducers.any(pw.this.hardware),
        energy_uj=pw.reducers.sum(pw.this.energy_uj),
        ms=pw.reducers.sum(pw.this.t1_ms - pw.this.t0_ms),
    )
    payer = pw.make_tuple(tokens.workload, tokens.tenant, tokens.model)
    usage = tokens.windowby(tokens.t_end_ms, window=window, behavior=once, instance=payer).reduce(
        workload=pw.this._pw_instance[0],
        tenant=pw.this._pw_instance[1],
        model=pw.this._pw_instance[2],
        start=pw.this._pw_window_start,
        prompt=pw.reducers.sum(pw.this.prompt_tokens),
        cached=pw.reducers.sum(pw.this.cached_tokens),
        completion=pw.reducers.sum(pw.this.completion_tokens),
        requests=pw.reducers.count(),
    )
    usage = usage.with_columns(work=pw.this.prompt - pw.this.cached + 3 * pw.this.completion)
    work_sum = usage.groupby(pw.this.workload, pw.this.start).reduce(
        pw.this.workload, pw.this.start, work=pw.reducers.sum(pw.this.work)
    )
    split = energy.join(work_sum, energy.workload == work_sum.workload, energy.start == work_sum.start).select(
        energy.workload, energy.start, energy.hardware, work_sum.work, energy.energy_uj,
        idle=pw.if_else(energy.energy_uj < job.idle_mw * energy.ms, energy.energy_uj, job.idle_mw * energy.ms),
    )  # fmt: skip
    return usage.join(split, usage.workload == split.workload, usage.start == split.start).select(
        usage.start, usage.workload, split.hardware, usage.model, usage.tenant,
        active=(split.energy_uj - split.idle) * usage.work / split.work, idle=split.idle * usage.work / split.work,
        prompt=usage.prompt, cached=usage.cached, completion=usage.completion, requests=usage.requests,
    )  # fmt: skip


def main() -> None:
    job: Any = Job.read()
    meter, ledger = Meter(job), Ledger(job)
    kafka = {"bootstrap.servers": job.bootstrap, "group.id": job.group, "auto.offset.reset": "earliest"}
    power = pw.io.kafka.read(kafka, job.topics[0], schema=Reading, format="json")
    tokens = pw.io.kafka.read(kafka, job.topics[1], schema=Request, format="json")

    def on_change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if not is_addition:
            raise RuntimeError("a window was revised, though each is to come once")
        ledger.add([tuple(row.values())])

    def on_time_end(time: int) -> None:
        ledger.store()
        if ledger.complete:
            ledger.report(meter)
            leave()

    pw.io.subscribe(ledger_of(power, tokens, job), on_change=on_change, on_time_end=on_time_end)
    meter.start()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
