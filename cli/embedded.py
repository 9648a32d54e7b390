"""The whole line in one process: event log, warehouse, worker and, if asked for, the API. The same code as production;
only the addresses differ.

The embedded event log is librdkafka's in-process broker: it speaks the real protocol, keeps a few megabytes a
partition, and is gone with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from confluent_kafka import Producer
from prometheus_client import start_http_server

from api.app import create_app
from api.auth import check_exposure
from cli.opening import open_warehouse
from contracts import topics
from contracts.errors import Unavailable, WattlogError
from contracts.settings import Settings
from producers.runtime.publisher import kafka_config
from streams import kafka_admin as event_log
from streams.app import FaustWorker
from streams.core.attribution.policy import FloorVersion, Policy, WeightsVersion
from streams.process_memory import tune_memory
from streams.stream_worker import StreamWorker
from streams.usage.job import UsageJob
from streams.usage.job import prepare as prepare_usage
from warehouse.client import Warehouse
from warehouse.migrate import migrate
from warehouse.reference_data.tables import attribution_tables, seed_defaults
from warehouse.sink.sink import Sink

ASSIGN_WAIT_S = 60.0
_EMBEDDED = "embedded/"

Told = Callable[[str], None]
"""Told of each part as it comes up."""


@contextmanager
def embedded_broker() -> Iterator[str]:
    """An in-process broker on loopback; yields its address."""
    # The address is what a client of the mock cluster is told; the configured one is ignored.
    owner = Producer({"bootstrap.servers": "embedded:1", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = list(owner.list_topics(timeout=10).brokers.values())
    for topic in topics.ALL:
        owner.list_topics(topic, timeout=10)  # Topics are made on first sight.
    yield f"{brokers[0].host}:{brokers[0].port}"
    owner.flush(1)


def prepare(warehouse: Warehouse, *, durable: bool | None = None) -> list[str]:
    """Bring the tables up to date; returns the migrations that were applied. `durable`: see `warehouse.migrate`."""
    applied = migrate(warehouse, durable=durable)
    seed_defaults(warehouse)
    return applied


def policy_of(warehouse: Warehouse, settings: Settings) -> Policy:
    """What attribution uses, from the reference tables as they are now."""
    tables = attribution_tables(warehouse)
    return Policy(
        tuple(
            FloorVersion(f.hardware, f.valid_from_ms, f.valid_to_ms, f.idle_mw, f.floor_version)
            for f in tables.floors
        ),
        tuple(
            WeightsVersion(
                w.model, w.hardware, w.valid_from_ms, w.valid_to_ms,
                w.prompt_milli, w.cached_milli, w.completion_milli, w.weights_version,
            )
            for w in tables.weights
        ),
        settings.idle_policy,
    )  # fmt: skip


@dataclass
class Line:
    """A running line: where its log is, its warehouse and its worker."""

    settings: Settings
    """With `kafka_bootstrap` pointing at the real address."""
    warehouse: Warehouse
    worker: FaustWorker | None
    """None where workers run elsewhere."""
    log_id: str

    @property
    def stream_worker(self) -> StreamWorker | None:
        return self.worker.stream_worker if self.worker else None

    @property
    def crashed(self) -> asyncio.Future[BaseException] | None:
        return self.worker.crashed if self.worker else None


@asynccontextmanager
async def running_worker(
    settings: Settings, warehouse: Warehouse, log_id: str, *, accept_loss: bool = False, wait: bool = True
) -> AsyncIterator[FaustWorker]:
    """A Faust worker in this process until the block ends; holding partitions already, unless it need not `wait`.
    Beside it the job that stores usage: what ends one ends both."""
    kafka = kafka_config(settings)
    count = event_log.partitions(kafka, settings.kafka_bootstrap)
    event_log.commit_initial_offsets(kafka, settings.kafka_group, count, accept_loss=accept_loss)
    prepare_usage(settings, kafka, accept_loss=accept_loss)
    datadir = Path(tempfile.mkdtemp(prefix="wattlog-faust-"))
    policy = policy_of(warehouse, settings)
    worker = FaustWorker(settings, kafka, Sink(warehouse), policy, log_id, datadir, accept_loss=accept_loss)
    usage = UsageJob(settings, kafka, Sink(warehouse), _usage_log(settings, kafka, log_id), worker.crash)
    try:
        await worker.start()
        usage.start()
        if wait:
            await _assigned(worker)
        yield worker
    finally:
        ended = await asyncio.gather(worker.stop(), usage.stop(), return_exceptions=True)
        shutil.rmtree(datadir, ignore_errors=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error


def _usage_log(settings: Settings, kafka: dict[str, Any], log_id: str) -> str:
    """What tells the usage topic from any other: offsets begin anew in a topic that was made anew."""
    if log_id.startswith(_EMBEDDED):  # Gone with the process, all topics together.
        return log_id
    return event_log.identity(kafka, settings.kafka_bootstrap, topics.USAGE)


@asynccontextmanager
async def line(
    settings: Settings, told: Told, lay_down: Callable[[Warehouse], None] | None = None, *, worker: bool = True
) -> AsyncIterator[Line]:
    """Event log, warehouse and (unless workers run elsewhere) a worker that holds partitions. `lay_down` may fill the
    warehouse first.

    Raises Unavailable when a part does not come up.
    """
    async with contextlib.AsyncExitStack() as stack:
        if settings.embedded_broker:
            bootstrap = stack.enter_context(embedded_broker())
            settings = settings.model_copy(update={"kafka_bootstrap": bootstrap})
            log_id = f"{_EMBEDDED}{os.getpid()}-{time.time_ns()}"
            told(f"event log: librdkafka's in-process broker at {bootstrap}")
        else:
            config = kafka_config(settings)
            event_log.ensure_topics(settings, config)
            log_id = event_log.identity(config, settings.kafka_bootstrap)
            told(f"event log: Kafka at {settings.kafka_bootstrap}")
        warehouse = stack.enter_context(open_warehouse(settings))
        applied = await asyncio.to_thread(prepare, warehouse, durable=settings.durable or None)
        told(f"warehouse: {warehouse.where}, " + (f"{len(applied)} migrations applied" if applied else "up to date"))
        if lay_down is not None:
            await asyncio.to_thread(lay_down, warehouse)
        running = None
        if worker:
            running = await stack.enter_async_context(running_worker(settings, warehouse, log_id))
            told(f"worker: Faust, holding partitions {running.stream_worker.partitions}")
        yield Line(settings, warehouse, running, log_id)


async def _assigned(worker: FaustWorker) -> None:
    assert worker.crashed is not None
    waiting = asyncio.create_task(worker.assigned.wait())
    done, _ = await asyncio.wait({waiting, worker.crashed}, timeout=ASSIGN_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    if worker.crashed in done:
        raise as_error(worker.crashed.result())
    if waiting not in done:
        waiting.cancel()
        raise Unavailable(
            f"the worker was given no partitions within {ASSIGN_WAIT_S:g} s",
            "Try `wattlog doctor`; is another worker holding them?",
        )


def as_error(crash: BaseException) -> WattlogError:
    """A worker's end as an error that one can act on."""
    return (
        crash if isinstance(crash, WattlogError) else Unavailable(f"the worker ended: {crash!r}", "See its log above.")
    )


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to whoever runs the loop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def running_api(settings: Settings, warehouse: Warehouse) -> AsyncIterator[str]:
    """The API and its page in this process; yields the address."""
    config = uvicorn.Config(
        create_app(warehouse, settings), host=settings.api_host, port=settings.api_port, log_level="warning",
        access_log=False,
    )  # fmt: skip
    server = _Server(config)
    serving = asyncio.create_task(_serve(server, settings))
    try:
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.02)
        yield f"http://{settings.api_host}:{_port(server)}"
    finally:
        server.should_exit = True
        await serving


async def _serve(server: uvicorn.Server, settings: Settings) -> None:
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that it cannot listen
        raise Unavailable(
            f"the API cannot listen on {settings.api_host}:{settings.api_port}",
            "Is the port taken? Set WATTLOG_API_PORT=0 for a free one.",
        ) from None


def _port(server: Any) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


async def worker_until_stopped(settings: Settings, *, accept_loss: bool = False) -> None:
    """One worker against the settings' Kafka and warehouse, until cancelled. Raises what ended it otherwise."""
    tune_memory()
    log_id = event_log.identity(kafka_config(settings), settings.kafka_bootstrap)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    with open_warehouse(settings) as warehouse:
        prepare(warehouse, durable=settings.durable or None)
        async with running_worker(settings, warehouse, log_id, accept_loss=accept_loss, wait=False) as worker:
            assert worker.crashed is not None
            raise as_error(await worker.crashed)


async def serve_until_stopped(settings: Settings, told: Told) -> None:
    """The API and the page, until cancelled. Raises BadSetting where they would be open to others without a key."""
    check_exposure(settings)
    with open_warehouse(settings) as warehouse:
        async with running_api(settings, warehouse) as address:
            told(f"listening on {address}")
            await asyncio.Event().wait()
