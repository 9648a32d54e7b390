"""The full pipeline in one process: event log, warehouse and stream worker.

It runs the code of production; only the addresses differ. The embedded event log is librdkafka's in-process broker. It
speaks the real protocol, keeps a few megabytes per partition, and is gone with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from confluent_kafka import Producer

from cli.ledger_access import mend, open_warehouse
from contracts import topics
from contracts.settings import Settings
from producers.runtime.publisher import kafka_config
from streams import kafka_admin, startup
from streams.app import FaustWorker
from streams.stream_worker import StreamWorker
from warehouse.client import Warehouse
from warehouse.sink.owed_hours import EMBEDDED_LOG, compute_owed_hours

EMBEDDED_SESSION_MS = 300_000
"""Session timeout of the group on the in-process broker. The group has one member, and no other could take over, so a
short one could only end a worker on a slow machine. The broker lets a member that joins again wait for as long; with
an hour, its first join hangs."""


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Run an in-process broker on loopback until the block ends. Yields its address."""
    # The mock cluster ignores the configured address; its metadata has the real one.
    owner = Producer({"bootstrap.servers": "embedded:1", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = list(owner.list_topics(timeout=10).brokers.values())
    for topic in topics.ALL:
        owner.list_topics(topic, timeout=10)  # The mock cluster creates a topic at its first use.
    yield f"{brokers[0].host}:{brokers[0].port}"
    owner.flush(1)


@dataclass
class Pipeline:
    """A running pipeline: its log, its warehouse and its worker."""

    settings: Settings
    """`kafka_bootstrap` is the real address."""
    warehouse: Warehouse
    stage: Warehouse | None
    """Database in which the worker stores, if that is not the warehouse itself."""
    worker: FaustWorker | None
    """None if workers run elsewhere."""
    log_id: str
    end_worker: Callable[[], Awaitable[None]]
    """Ends the worker before the block ends."""

    @property
    def target(self) -> Warehouse:
        """The warehouse, or the stage, in which the worker stores."""
        return self.stage or self.warehouse

    @property
    def stream_worker(self) -> StreamWorker | None:
        """The worker's core; None if workers run elsewhere."""
        return self.worker.stream_worker if self.worker else None

    @property
    def crashed(self) -> asyncio.Future[BaseException] | None:
        """Set to the error that ends the worker; None if workers run elsewhere."""
        return self.worker.crashed if self.worker else None


@asynccontextmanager
async def running_pipeline(
    settings: Settings,
    step: Callable[[str], None],
    prepare: Callable[[Warehouse], Warehouse | None] | None = None,
    *,
    worker: bool = True,
) -> AsyncIterator[Pipeline]:
    """Run event log, warehouse and a worker that owns partitions, until the block ends.

    `step` gets a text for each part that is up. `prepare` may fill the warehouse before the worker starts, and return
    another one in which the worker stores instead. Without `worker`, workers run elsewhere. Raises Unavailable if a
    part does not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        bootstrap = ""
        if settings.embedded_broker:
            bootstrap = stack.enter_context(embedded_broker())
            settings = settings.model_copy(
                update={"kafka_bootstrap": bootstrap, "session_timeout_ms": EMBEDDED_SESSION_MS}
            )
            log_id = f"{EMBEDDED_LOG}{os.getpid()}-{time.time_ns()}"
            step(f"event log: librdkafka's in-process broker at {bootstrap}")
        else:
            kafka = kafka_config(settings)
            kafka_admin.ensure_topics(settings, kafka)
            log_id = kafka_admin.identity(kafka, settings.kafka_bootstrap)
            step(f"event log: Kafka at {settings.kafka_bootstrap}")
        warehouse = stack.enter_context(open_warehouse(settings))
        applied = await asyncio.to_thread(startup.prepare_warehouse, warehouse, durable=settings.durable or None)
        step(f"warehouse: {warehouse.where}, " + (f"{len(applied)} migrations applied" if applied else "up to date"))
        await asyncio.to_thread(mend, warehouse, step)
        stage = await asyncio.to_thread(prepare, warehouse) if prepare is not None else None
        if stage is not None:
            stack.enter_context(stage)
        if settings.kafka_bootstrap == bootstrap and warehouse.embedded:
            stack.callback(compute_owed_hours, warehouse)  # The last checkpoint may list hours that were computed.
        workers = await stack.enter_async_context(contextlib.AsyncExitStack())
        running = None
        if worker:
            running = await workers.enter_async_context(
                startup.running_worker(settings, kafka_config(settings), stage or warehouse, log_id)
            )
            step(f"worker: Faust, holding partitions {running.stream_worker.partitions}")
        yield Pipeline(settings, warehouse, stage, running, log_id, workers.aclose)


async def worker_until_stopped(settings: Settings, *, accept_loss: bool = False) -> None:
    """Run one worker against the settings' Kafka and warehouse until cancelled. Raises the error that ends it."""
    await startup.worker_until_stopped(settings, kafka_config(settings), open_warehouse, accept_loss=accept_loss)
