"""Wattlog's own worker, as `wattlog stream` runs it. `options.transport` chooses how it reads."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.contestants.wattlog_common import Commits, Patience, fill, settings_of, totals
from bench.harness.meter import Job, Meter, leave
from bench.harness.profiling import Profiles
from cli.ledger_access import open_warehouse
from contracts import topics
from producers.runtime.publisher import kafka_config
from streams.app import FaustWorker
from streams.process_memory import tune_memory
from streams.startup import running_worker

_FIRST_POLL_S, _POLL_S = 0.002, 0.05


async def run(job: Job, meter: Meter) -> None:
    tune_memory()  # As `wattlog stream` does.
    settings = settings_of(job)
    log_id = f"embedded/bench-{job.group}"  # Made up: nobody else reads this log.
    with open_warehouse(settings) as warehouse:
        fill(warehouse, job)
        profiles = Profiles(bool(job.options.get("profile")))
        commits, meter_ = Commits(job), meter
        async with running_worker(settings, kafka_config(settings), warehouse, log_id, wait=False) as worker:
            await drained(worker, job, meter_, commits, profiles)
        meter.report(totals(warehouse), profile=profiles.top())


async def drained(worker: FaustWorker, job: Job, meter: Meter, commits: Commits, profiles: Profiles) -> None:
    """Run the worker from before the first message until every offset is committed."""
    stream_worker, patience = worker.stream_worker, Patience()
    meter.restart()
    while stream_worker.messages == 0:
        _alive(worker)
        patience.check(stream_worker.messages)
        await asyncio.sleep(_FIRST_POLL_S)
        if stream_worker.messages == 0:  # Else the stamp of just before it came holds.
            meter.restart()
            profiles.start()
    while not (stream_worker.messages >= job.messages and await asyncio.to_thread(commits.all_there)):
        _alive(worker)
        patience.check((stream_worker.messages, worker.stream_worker.progress_ms))
        await asyncio.sleep(_POLL_S)
    profiles.stop()
    meter.stop()


def _alive(worker: FaustWorker) -> None:
    if worker.crashed is not None and worker.crashed.done():
        raise worker.crashed.result()


def main() -> None:
    job: Any = Job.read()
    assert tuple(job.topics) == topics.JOINED
    asyncio.run(run(job, Meter(job)))
    leave()


if __name__ == "__main__":
    main()
