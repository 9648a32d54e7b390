"""A field for faults: a deployment, its warehouse behind HTTP, a world that feeds it, and the crew of workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.log_feed import FeedProgress, wait_until_stored
from producers.runtime.publisher import kafka_config
from streams.startup import prepare_warehouse
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.crew import Crew
from tests.kafka.chaos.feeder import Feeder
from tests.kafka.chaos.poison import Poison
from tests.kafka.chaos.progress import Progress
from tests.kafka.chaos.world import FLOORS_MW, World
from tests.kafka.deployment import Deployment
from tests.support.clickhouse_http import serve
from warehouse.client import Warehouse, connect
from warehouse.reference_data.attribution_tables import IdleFloor, put_idle_floors
from warehouse.reference_data.validity import END_MS

PARTITIONS = 6
QUICK = {
    "WATTLOG_KAFKA_PARTITIONS": str(PARTITIONS), "WATTLOG_WINDOW_MS": "1000", "WATTLOG_LATENESS_MS": "2000",
    "WATTLOG_SKEW_MS": "1000", "WATTLOG_IDLE_TIMEOUT_MS": "120000", "WATTLOG_SESSION_TIMEOUT_MS": "6000",
    "WATTLOG_PROVISIONAL_MS": "2000",
}  # fmt: skip
"""Windows become final 4 s after they begin, and a silent worker is dead after 6 s, so that a round takes seconds.
No partition counts as idle while no worker reads it: that would make its events late and change the ledger.
"""


@dataclass
class Field:
    """Deployment, world, feeder and crew; `open_field` makes one."""

    deployment: Deployment
    warehouse: Warehouse
    crew: Crew
    world: World
    feeder: Feeder
    progress: Progress
    address: str
    chdb_dsn: str
    database: str

    @property
    def log_id(self) -> str:
        return self.progress.log_id

    def feed(self, *, seed: int, speed: float = 1.0, poison: Iterable[Poison] = ()) -> Feeder:
        """Another producer in place of the one that was not started."""
        kafka = kafka_config(self.deployment.settings)
        self.feeder = Feeder(self.world, kafka, seed=seed, speed=speed, poison=poison)
        return self.feeder

    def until_stored(self) -> None:
        """Finish the producer, and wait until all events are final. Fails without progress."""
        self.feeder.finish()
        asyncio.run(self._stored(self.warehouse))

    async def _stored(self, warehouse: Warehouse) -> None:
        waiting = asyncio.create_task(
            wait_until_stored(warehouse, self.log_id, FeedProgress(events=dict(self.world.sent)), None)
        )
        while not waiting.done():
            self.crew.tend()
            await asyncio.wait({waiting}, timeout=0.5)
        await waiting


@contextmanager
def open_field(
    kafka: KafkaBroker, chdb_root: Path, folder: Path, database: str, seed: int, *, env: Mapping[str, str] | None = None
) -> Iterator[Field]:
    """A field without workers; nothing is sent yet.

    `chdb_root` is the one folder that this process opens with chdb, and `database` the database in it (dropped
    afterwards).
    """
    dsn = f"chdb://{chdb_root}"
    with connect(dsn, database="default", readers=1) as engine, serve(chdb_root) as address:
        deployment = Deployment(kafka, folder, f"{address}/{database}", env={**QUICK, **(env or {})})
        migrated = deployment.run("migrate")
        assert migrated.status == 0, migrated.err
        world, log_id = World(seed), deployment.log_id
        try:
            with connect(dsn, database=database) as warehouse, Progress(warehouse, log_id, PARTITIONS) as progress:
                lay_floors(warehouse)
                feeder = Feeder(world, kafka_config(deployment.settings), seed=seed)
                crew = Crew(deployment)
                instance = Field(
                    deployment=deployment,
                    warehouse=warehouse,
                    crew=crew,
                    world=world,
                    feeder=feeder,
                    progress=progress,
                    address=address,
                    chdb_dsn=dsn,
                    database=database,
                )
                try:
                    yield instance
                finally:
                    instance.feeder.abandon()
        finally:
            for worker in deployment.workers:
                worker.kill()
            engine.command(f"DROP DATABASE IF EXISTS `{database}`")


def lay_floors(warehouse: Warehouse) -> None:
    """Create tables, defaults, and the idle floors of the oracle."""
    prepare_warehouse(warehouse)
    put_idle_floors(warehouse, [IdleFloor(h, 0, END_MS, mw, 1, "chaos") for h, mw in FLOORS_MW.items()])
