"""The way from a device to a finding: an agent reads counters and watts, and `wattlog reconcile` judges both."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.embedded import running_pipeline
from contracts.events import Event, PowerBatch
from contracts.settings import Settings
from contracts.units import MS_PER_HOUR
from producers.bindings.apportion import Binding
from producers.gpu.readings import GpuReading
from producers.gpu.watts_record import EVERY_MS
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.clock import Clock
from producers.runtime.delivery import Delivery
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock
from tests.support.partition_log import tokens
from tests.support.pipeline import feed, until
from warehouse.client import connect
from warehouse.reader import operator_reader
from warehouse.reconciliation.records import Run, reconcile

pytestmark = pytest.mark.slow
START_MS = 1_704_067_200_000
HOURS, WRONG_FROM = 38, 13
SAMPLE_MS = 300_000
WRONG = {"chat": 2.0, "code": 0.001, "rag": 1.0, "embed": 1.0}
"""By workload: what its GPU's counter shows of the true energy from the hour `WRONG_FROM` on."""


class Devices:
    """One GPU of each workload. The watts of `embed` cannot be read for some hours."""

    def __init__(self) -> None:
        self._counter_mj, self._at_ms = dict.fromkeys(WRONG, 1_000_000.0), 0

    def readings(self, clock: Clock) -> Sequence[GpuReading]:
        now, hour = clock.monotonic_ms(), clock.monotonic_ms() / MS_PER_HOUR
        watts = 300 + 200 * math.sin(hour / 24 * 2 * math.pi)
        elapsed_ms, self._at_ms = now - self._at_ms, now
        for name, factor in WRONG.items():
            self._counter_mj[name] += watts * elapsed_ms * (factor if hour > WRONG_FROM else 1)
        return [
            GpuReading(
                f"GPU-{name}", "H100", clock.wall_ms(), now, round(self._counter_mj[name]),
                None if name == "embed" and 22 < hour < 28 else watts,
            )
            for name in WRONG
        ]  # fmt: skip


def measured(folder: Path) -> list[Event]:
    clock = FakeClock(HOURS * MS_PER_HOUR, epoch_ms=START_MS)
    broker = FakeBroker(clock)
    node = AgentConfig("east", "n1", sample_ms=SAMPLE_MS, publish_ms=3 * EVERY_MS, watts_ms=EVERY_MS)
    bindings = {f"GPU-{name}": Binding(name) for name in WRONG}
    with closing(Spool(folder / "spool.db")) as spool:
        Agent(node, Devices(), Delivery(spool, broker), clock, lambda: bindings).run()
    return broker.stored


async def stored(settings: Settings, events: Sequence[Event]) -> Run:
    power = [event for event in events if isinstance(event.batch, PowerBatch)]
    usage = [event for event in events if not isinstance(event.batch, PowerBatch)]
    end_ms = START_MS + (HOURS + 1) * MS_PER_HOUR
    beats = [Event("gw", 1, 0, "east", name, tokens([], end_ms)) for name in WRONG]
    async with running_pipeline(settings, lambda _: None) as running:
        with Publisher(kafka_config(running.settings)) as publisher:
            for event in usage:
                publisher.send(event)
        await feed(running, [*power, *beats])
        rows = sum(len(event.batch) for event in usage)
        count = "SELECT count() AS n FROM usage FINAL"
        await until(running, lambda: running.warehouse.query(count)[0]["n"] == rows, "all usage is stored")
        return reconcile(operator_reader(running.warehouse), end_ms)


@pytest.fixture(scope="module")
def outcome(chdb_dsn: str, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    settings = Settings(
        data=data_dir, kafka_bootstrap="embedded", window_ms=1_800_000, lateness_ms=2_000, skew_ms=1_000,
        log_level="ERROR",
    )  # fmt: skip
    with connect(chdb_dsn, database="default", readers=1) as admin:
        admin.command("DROP DATABASE IF EXISTS wattlog")
        try:
            yield asyncio.run(stored(settings, measured(tmp_path_factory.mktemp("agent"))))
        finally:
            admin.command("DROP DATABASE IF EXISTS wattlog")


def test_a_counter_that_is_off_is_named_and_one_without_watts_is_not(outcome: Run) -> None:
    verdicts: dict[str, Any] = {f.workload: (f.kind, f.source, f.quantities) for f in outcome.findings}
    assert verdicts == {"chat": ("doubled", "counter", "energy_uj"), "code": ("factor", "counter", "energy_uj")}


def test_the_finding_says_so_in_words(outcome: Run) -> None:
    (code,) = (finding for finding in outcome.findings if finding.workload == "code")
    assert code.says.startswith("east/code: counter is off by a factor of 1,000: a wrong unit? (energy: counter ")
