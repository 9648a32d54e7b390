"""The whole line in one process: event log, warehouse, worker and, if asked for, the API. The same code as production;
only the addresses differ.

The embedded event log is librdkafka's in-process broker: it speaks the real protocol, keeps a few megabytes a
partition, and is gone with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from confluent_kafka import Producer

from api.app import create_app
from api.auth import check_exposure
from cli.opening import open_warehouse
from contracts import topics
from contracts.errors import Unavailable
from contracts.settings import Settings
from producers.runtime.publisher import kafka_config
from streams import kafka_admin as event_log
from streams import startup
from streams.app import FaustWorker
from streams.startup import EMBEDDED_LOG
from streams.stream_worker import StreamWorker
from warehouse.client import Warehouse

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
            log_id = f"{EMBEDDED_LOG}{os.getpid()}-{time.time_ns()}"
            told(f"event log: librdkafka's in-process broker at {bootstrap}")
        else:
            config = kafka_config(settings)
            event_log.ensure_topics(settings, config)
            log_id = event_log.identity(config, settings.kafka_bootstrap)
            told(f"event log: Kafka at {settings.kafka_bootstrap}")
        warehouse = stack.enter_context(open_warehouse(settings))
        applied = await asyncio.to_thread(startup.prepare_warehouse, warehouse, durable=settings.durable or None)
        told(f"warehouse: {warehouse.where}, " + (f"{len(applied)} migrations applied" if applied else "up to date"))
        if lay_down is not None:
            await asyncio.to_thread(lay_down, warehouse)
        running = None
        if worker:
            running = await stack.enter_async_context(
                startup.running_worker(settings, kafka_config(settings), warehouse, log_id)
            )
            told(f"worker: Faust, holding partitions {running.stream_worker.partitions}")
        yield Line(settings, warehouse, running, log_id)


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
    """Run one worker against the settings' Kafka and warehouse until cancelled. Raises the error that ends it."""
    await startup.worker_until_stopped(settings, kafka_config(settings), open_warehouse, accept_loss=accept_loss)


async def serve_until_stopped(settings: Settings, told: Told) -> None:
    """The API and the page, until cancelled. Raises BadSetting where they would be open to others without a key."""
    check_exposure(settings)
    with open_warehouse(settings) as warehouse:
        async with running_api(settings, warehouse) as address:
            told(f"listening on {address}")
            await asyncio.Event().wait()
