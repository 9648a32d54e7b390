"""An idiomatic Faust design: Records, an agent a topic, windowed Tables with their changelogs, a timer that emits.

Faust has no watermark: its Tables close windows by the wall clock, which would cut a backlog's windows short, so they
expire a day later, and the timer emits what event time has passed. The join is what the manual shows: look the other
table's window up under the same key.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import faust

from bench.contestants.peer_ledger import Ledger, attribute
from bench.harness.meter import Job, Meter, leave


class Reading(faust.Record, serializer="json"):
    """One interval of one GPU."""

    workload: str
    node: str
    gpu_uuid: str
    hardware: str
    t0_ms: int
    t1_ms: int
    energy_uj: int


class Request(faust.Record, serializer="json"):
    """One inference."""

    workload: str
    request_id: str
    tenant: str
    model: str
    t_start_ms: int
    t_first_ms: int
    t_end_ms: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Flow:
    """Agents and tables; `finished` is set when the ledger is complete."""

    def __init__(self, job: Job) -> None:
        self.job, self.meter, self.ledger, self.finished = job, Meter(job), Ledger(job), asyncio.Event()
        self.app = app = faust.App(
            job.group, broker=f"kafka://{job.bootstrap}", store="memory://", datadir=Path(job.folder) / "faust",
            topic_partitions=job.partitions, topic_replication_factor=1, web_enabled=False,
            consumer_auto_offset_reset="earliest",
        )  # fmt: skip
        length, day = timedelta(milliseconds=job.window_ms), timedelta(days=1)
        self.energy = app.Table("energy", default=dict).tumbling(length, expires=day)
        self.energy = self.energy.relative_to(lambda event: event.value.t0_ms / 1000)
        self.work = app.Table("work", default=dict).tumbling(length, expires=day)
        self.work = self.work.relative_to(lambda event: event.value.t_end_ms / 1000)
        self.open: dict[tuple[int, str], str] = {}
        self.newest = dict.fromkeys(job.topics, 0)
        app.agent(app.topic(job.topics[0], key_type=str, value_type=Reading, key_serializer="raw"))(self.read_power)
        app.agent(app.topic(job.topics[1], key_type=str, value_type=Request, key_serializer="raw"))(self.read_tokens)
        app.timer(0.5)(self.emit)

    async def read_power(self, readings: Any) -> None:
        async for reading in readings:
            self.meter.start()
            at = self.energy[reading.workload].value()
            self.energy[reading.workload] = {
                "energy_uj": at.get("energy_uj", 0) + reading.energy_uj,
                "seconds": at.get("seconds", 0.0) + (reading.t1_ms - reading.t0_ms) / 1000,
            }
            self._note(0, reading.t0_ms, reading.workload, reading.hardware)

    async def read_tokens(self, requests: Any) -> None:
        async for request in requests:
            self.meter.start()
            payers = dict(self.work[request.workload].value())
            name = f"{request.tenant}\n{request.model}"
            prompt, cached, completion, count = payers.get(name, (0, 0, 0, 0))
            payers[name] = (
                prompt + request.prompt_tokens, cached + request.cached_tokens,
                completion + request.completion_tokens, count + 1,
            )  # fmt: skip
            self.work[request.workload] = payers
            self._note(1, request.t_end_ms, request.workload, "")

    def _note(self, topic: int, t_ms: int, workload: str, hardware: str) -> None:
        name = self.job.topics[topic]
        self.newest[name] = max(self.newest[name], t_ms)
        key = (t_ms // self.job.window_ms, workload)
        if hardware or key not in self.open:
            self.open[key] = hardware

    async def emit(self) -> None:
        """Put windows that both topics have passed by the lateness into the ledger."""
        complete_ms = min(self.newest.values()) - self.job.lateness_ms
        rows = []
        for key in [k for k in self.open if (k[0] + 1) * self.job.window_ms <= complete_ms]:
            number, workload = key
            hardware, at_s = self.open.pop(key), number * self.job.window_ms / 1000
            energy = self.energy.table._windowed_timestamp(workload, at_s) or {}
            work = self.work.table._windowed_timestamp(workload, at_s) or {}
            payers = {tuple(name.split("\n")): list(tokens) for name, tokens in work.items()}
            rows += attribute(
                number * self.job.window_ms, workload, hardware, energy.get("energy_uj", 0),
                energy.get("seconds", 0.0), payers, self.job.idle_mw,
            )  # fmt: skip
        if rows:
            self.ledger.add(rows)
        await asyncio.to_thread(self.ledger.store)
        if self.ledger.complete:
            self.finished.set()


async def run() -> None:
    flow = Flow(Job.read())
    await flow.app.start()
    await flow.finished.wait()
    flow.ledger.report(flow.meter)
    leave()


if __name__ == "__main__":
    asyncio.run(run())
