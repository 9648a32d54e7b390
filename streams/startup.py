"""Start-up of a worker: tables and offsets first, then the Faust worker and the usage job, until one of them ends.

`kafka` is librdkafka's configuration in all of these.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import start_http_server

from contracts import topics
from contracts.errors import Unavailable, WattlogError
from contracts.settings import Settings
from streams import kafka_admin
from streams.app import FaustWorker
from streams.consumer_group import EMBEDDED_STOP_WAIT_S, STOP_WAIT_S
from streams.core.attribution.policy import FloorVersion, Policy, WeightsVersion
from streams.process_memory import tune_memory
from streams.usage import job as usage_job
from streams.usage.job import UsageJob
from warehouse.client import Warehouse
from warehouse.migrate import migrate
from warehouse.reference_data.attribution_tables import attribution_tables, seed_defaults
from warehouse.sink.owed_hours import EMBEDDED_LOG
from warehouse.sink.sink import Sink

ASSIGN_WAIT_S = 60.0
"""How long a worker may take to get its first partitions."""
EMBEDDED_ASSIGN_WAIT_S = 600.0
"""The same on an in-process broker, where no other worker can own them: only a slow machine takes long."""


def prepare_warehouse(warehouse: Warehouse, *, durable: bool | None = None) -> list[str]:
    """Bring the tables up to date. Return the migrations that were applied. `durable`: see `warehouse.migrate`."""
    applied = migrate(warehouse, durable=durable)
    seed_defaults(warehouse)
    return applied


def load_policy(warehouse: Warehouse, settings: Settings) -> Policy:
    """Return the policy of the attribution, from the reference tables as they are now."""
    tables = attribution_tables(warehouse)
    return Policy(
        tuple(
            FloorVersion(f.hardware, f.valid_from_ms, f.valid_to_ms, f.idle_mw, f.floor_version) for f in tables.floors
        ),
        tuple(
            WeightsVersion(
                model=w.model,
                hardware=w.hardware,
                valid_from_ms=w.valid_from_ms,
                valid_to_ms=w.valid_to_ms,
                prompt_milli=w.prompt_milli,
                cached_milli=w.cached_milli,
                completion_milli=w.completion_milli,
                version=w.weights_version,
            )
            for w in tables.weights
        ),
        settings.idle_policy,
    )


@asynccontextmanager
async def running_worker(
    settings: Settings,
    kafka: dict[str, Any],
    warehouse: Warehouse,
    log_id: str,
    *,
    accept_loss: bool = False,
    wait: bool = True,
) -> AsyncIterator[FaustWorker]:
    """Run a Faust worker and the usage job in this process until the block ends; an error of one ends both.

    With `wait`, the worker owns partitions when the block begins. Raises Unavailable if it gets none in time,
    or what ended the worker.
    """
    count = kafka_admin.partition_count(topics.JOINED, kafka, settings.kafka_bootstrap)
    kafka_admin.commit_initial_offsets(kafka, settings.kafka_group, count, accept_loss=accept_loss)
    usage_job.commit_initial_offsets(settings, kafka, accept_loss=accept_loss)
    datadir = Path(tempfile.mkdtemp(prefix="wattlog-faust-"))
    policy = load_policy(warehouse, settings)
    embedded = log_id.startswith(EMBEDDED_LOG)
    stop_wait_s = EMBEDDED_STOP_WAIT_S if embedded else STOP_WAIT_S
    worker = FaustWorker(
        settings, kafka, Sink(warehouse), policy, log_id, datadir, accept_loss=accept_loss, stop_wait_s=stop_wait_s
    )
    usage_log_id = _usage_log_id(settings, kafka, log_id)
    usage = UsageJob(settings, kafka, Sink(warehouse), usage_log_id, worker.crash, stop_wait_s=stop_wait_s)
    try:
        await worker.start()
        usage.start()
        if wait:
            await _until_assigned(worker, EMBEDDED_ASSIGN_WAIT_S if embedded else ASSIGN_WAIT_S)
        yield worker
    finally:
        ended = await asyncio.gather(worker.stop(), usage.stop(), return_exceptions=True)
        shutil.rmtree(datadir, ignore_errors=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error


async def worker_until_stopped(
    settings: Settings,
    kafka: dict[str, Any],
    open_warehouse: Callable[[Settings], Warehouse],
    *,
    accept_loss: bool = False,
) -> None:
    """Run one worker against the settings' Kafka and warehouse until cancelled. Raises the error that ends it."""
    tune_memory()
    log_id = kafka_admin.identity(kafka, settings.kafka_bootstrap)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    with open_warehouse(settings) as warehouse:
        prepare_warehouse(warehouse, durable=settings.durable or None)
        async with running_worker(settings, kafka, warehouse, log_id, accept_loss=accept_loss, wait=False) as worker:
            assert worker.crashed is not None
            raise worker_error(await worker.crashed)


def worker_error(crash: BaseException) -> WattlogError:
    """Return a worker's end as an error with a hint."""
    return (
        crash if isinstance(crash, WattlogError) else Unavailable(f"the worker ended: {crash!r}", "See its log above.")
    )


def _usage_log_id(settings: Settings, kafka: dict[str, Any], log_id: str) -> str:
    """Return the identity of the usage topic: offsets start again in a topic that was created again."""
    if log_id.startswith(EMBEDDED_LOG):
        return log_id
    return kafka_admin.identity(kafka, settings.kafka_bootstrap, topics.USAGE)


async def _until_assigned(worker: FaustWorker, wait_s: float) -> None:
    assert worker.crashed is not None
    assigned = asyncio.create_task(worker.assigned.wait())
    waiting: set[asyncio.Future[Any]] = {assigned, worker.crashed}
    ended, _ = await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    if worker.crashed in ended:
        raise worker_error(worker.crashed.result())
    if assigned not in ended:
        assigned.cancel()
        raise Unavailable(
            f"the worker was assigned no partitions within {wait_s:g} s",
            "Try `wattlog doctor`; does another worker own them?",
        )
