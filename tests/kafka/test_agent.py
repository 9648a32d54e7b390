"""A node's agent on a real Kafka: killed, without a broker, with a full disk, with a clock that is set.

The joules on the log, and in the ledger, equal those of the counter.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from contracts import codec, topics
from contracts.events import Event, PowerBatch
from contracts.units import UJ_PER_MJ
from tests.kafka.broker import KafkaBroker
from tests.kafka.deployment import Deployment, holding
from tests.kafka.test_end_to_end import deployment, ledger
from tests.producers.gpu.nvml.test_sensor import gpu, library, write
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S, wait_until
from warehouse.client import Warehouse

__all__ = ["deployment", "ledger", "library"]

FIRST_MJ = 1_000_000
RESTING = {"power": "-", "instant": "-", "average": "-", "limit": "19000000"}
"""No watts, so that the counter alone measures, and a limit that allows any step of the tests."""


class Bench:
    """A node with one GPU whose counter the test sets, an agent that starts and stops, and its events on the log."""

    def __init__(self, kafka: KafkaBroker, library: Path, folder: Path, name: str) -> None:
        self.kafka, self.name, self.control, self.counter_mj = kafka, name, folder / "gpus", FIRST_MJ
        self.data, self.errors = folder / "data", folder / "stderr"
        with contextlib.suppress(KafkaException):  # Of another test.
            kafka.topic(topics.POWER, 2)
            kafka.topic(topics.USAGE, 2)  # For the record of holders; `wattlog migrate` creates both.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")} | {
            "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(self.control), "WATTLOG_DATA": str(self.data),
            "WATTLOG_KAFKA_BOOTSTRAP": kafka.bootstrap, "WATTLOG_CLUSTER": name, "WATTLOG_NODE": "n1",
            "WATTLOG_WORKLOAD": "chat", "WATTLOG_SAMPLE_HZ": "10", "WATTLOG_PUBLISH_MS": "200",
        }  # fmt: skip
        self.skew_path = folder / "skew.json"
        self.turn(0)

    def turn(self, by_mj: int) -> None:
        """Let the GPU use this much."""
        self.counter_mj += by_mj
        write(self.control, gpu(energy=str(self.counter_mj), **RESTING))

    def set_clock(self, **skew: int) -> None:
        """Set the clock of a `skewed_agent` from now on; tests.kafka.skewed_clock has the keys."""
        fresh = self.skew_path.with_suffix(".new")
        fresh.write_text(json.dumps(skew))
        fresh.replace(self.skew_path)

    def skewed_agent(self, **more: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return self._run(["tests.kafka.skewed_clock"], {"CLOCK_SKEW": str(self.skew_path), **more})

    def agent(self, **more: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return self._run(["tests.kafka.wattlog", "produce", "nvml"], more)

    @contextmanager
    def _run(self, module: list[str], more: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        with self.errors.open("ab") as stderr:
            command = [sys.executable, "-m", *module]
            process = subprocess.Popen(command, cwd=ROOT, env=self.env | more, stderr=stderr)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def events(self) -> dict[tuple[str, int, int], Event]:
        """All events of this node on the log, as a worker sees them: duplicates once."""
        consumer = Consumer(self.kafka.client(group_id=f"reads-{self.name}"))
        distinct = {}
        try:
            for partition in consumer.list_topics(topics.POWER, timeout=HANG_S).topics[topics.POWER].partitions:
                place = TopicPartition(topics.POWER, partition, 0)
                _, end = consumer.get_watermark_offsets(place, timeout=HANG_S)
                consumer.assign([place])
                at = 0
                while at < end:
                    for m in consumer.consume(500, 1.0):
                        assert m.error() is None
                        at = m.offset() + 1
                        event = codec.decode(m.headers(), m.value())
                        if event.cluster == self.name:
                            distinct[event.source, event.epoch, event.seq] = event
        finally:
            consumer.close()
        return distinct

    def rows(self) -> list[tuple[int, int, int]]:
        """(t0, t1, uJ) of every interval on the log, in order of time."""
        batches = [event.batch for event in self.events().values()]
        return sorted(
            (int(t0), int(t1), int(uj))
            for b in batches
            if isinstance(b, PowerBatch)
            for t0, t1, uj in zip(b.t0_ms, b.t1_ms, b.energy_uj, strict=True)
        )

    def energy_uj(self) -> int:
        return sum(uj for _, _, uj in self.rows())

    def until(self, true: Callable[[], bool]) -> None:

        def holds() -> bool:
            with contextlib.suppress(
                KafkaException
            ):  # A broker that has just started does not lead every partition yet.
                return true()
            return False

        def detail() -> str:
            errors = self.errors.read_text("utf-8", "replace")[-3000:]
            return f"{self.energy_uj()} uJ on the log, {self.counter_mj} mJ\n{errors}"

        wait_until(holds, "the log has what the counter has", detail=detail, every_s=0.2)

    def marked(self) -> None:
        """Wait until the agent has stored a checkpoint of the counter: from then on nothing may be lost."""
        self.until(lambda: (self.data / "spool" / "nvml.db").exists() and bool(self.events()))

    def balanced(self) -> None:
        """Wait until everything that the counter counted is on the log, once."""
        self.until(lambda: self.energy_uj() >= (self.counter_mj - FIRST_MJ) * UJ_PER_MJ)
        assert self.energy_uj() == (self.counter_mj - FIRST_MJ) * UJ_PER_MJ
        by_run: dict[tuple[str, int], set[int]] = {}
        for source, epoch, seq in self.events():
            by_run.setdefault((source, epoch), set()).add(seq)
        assert all(seqs == set(range(len(seqs))) for seqs in by_run.values())


@pytest.fixture
def bench(kafka: KafkaBroker, library: Path, tmp_path: Path, database_name: str) -> Bench:
    return Bench(kafka, library, tmp_path, f"agent-{database_name}")


def test_an_agent_that_is_killed_repeatedly_loses_no_joule_of_the_counter(bench: Bench) -> None:
    dice = random.Random(4)
    with bench.agent():
        bench.marked()
    for _ in range(6):
        bench.turn(dice.randrange(1, 5_000))  # while no agent runs
        with bench.agent() as agent:
            for _ in range(dice.randrange(1, 12)):
                bench.turn(dice.randrange(1, 500))
                time.sleep(dice.random() / 5)
            agent.send_signal(signal.SIGKILL)
    with bench.agent():
        bench.balanced()


def test_intervals_wait_on_disk_while_the_broker_is_stopped_even_for_the_next_agent(bench: Bench) -> None:
    with bench.agent() as agent:
        bench.marked()
        bench.kafka.stop()
        try:
            for _ in range(15):
                bench.turn(250)
                time.sleep(0.2)
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            bench.turn(1_000)
            with bench.agent():
                time.sleep(2)
                bench.turn(77)
                time.sleep(1)
        finally:
            bench.kafka.start()
    with bench.agent():
        bench.balanced()


def test_joules_wait_in_memory_while_the_disk_is_full(bench: Bench) -> None:
    with bench.agent() as agent:
        bench.marked()
        bench.turn(500)
        bench.until(lambda: bench.energy_uj() > 0)
        before = resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))  # No file may grow.
        for _ in range(10):
            bench.turn(250)
            time.sleep(0.2)
        assert bench.energy_uj() < (bench.counter_mj - FIRST_MJ) * UJ_PER_MJ
        resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, before)
        bench.balanced()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(HANG_S) == 0


def test_setting_the_wall_clock_loses_no_joule_and_makes_no_interval_too_long(
    bench: Bench,
) -> None:
    begun = time.monotonic()
    bench.set_clock()
    with bench.skewed_agent() as agent:
        bench.marked()
        for step_ms in (
            0,
            3_600_000,
            -20_000,
            -7_200_000,
            0,
        ):  # Ahead; back by less, by more than is slewed.
            bench.set_clock(step_ms=step_ms)
            for _ in range(2):  # The second is read wholly after the step.
                bench.turn(250)
                bench.balanced()
        bench.balanced()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(HANG_S) == 0
    rows = bench.rows()
    took_ms = (time.monotonic() - begun) * 1000
    assert rows[-1][1] - rows[0][0] > 10_000_000  # The clock was set.
    assert sum(t1 - t0 for t0, t1, _ in rows) <= took_ms


def test_after_a_long_outage_the_ledger_has_every_joule_in_coarser_intervals(
    deployment: Deployment, ledger: Warehouse, bench: Bench
) -> None:
    """Six minutes of event time without a broker, on a clock that runs 60 times as fast. The spool soon fills up."""
    bench.set_clock(speed=60, behind_ms=2 * 3_600_000, spool_bytes=16_384, max_rows=200)
    worker = deployment.stream("only", env={"WATTLOG_IDLE_TIMEOUT_MS": "2000"})
    holding(worker)
    with bench.skewed_agent(WATTLOG_PUBLISH_MS="2000") as agent:
        bench.marked()
        for _ in range(10):
            bench.turn(500)
            time.sleep(0.025)
        bench.until(lambda: bench.energy_uj() > 0)
        finest_ms = min(t1 - t0 for t0, t1, _ in bench.rows())
        bench.kafka.stop()
        try:
            for _ in range(240):
                bench.turn(500)
                time.sleep(0.025)
            wait_until(lambda: "is in memory only" in bench.errors.read_text("utf-8", "replace"), "the spool is full")
        finally:
            bench.kafka.start()
        bench.balanced()
        counted_uj = (bench.counter_mj - FIRST_MJ) * UJ_PER_MJ
        charged = "SELECT sum(active_uj + idle_uj + unallocated_uj) AS uj FROM ledger FINAL WHERE final = 1"
        bench.until(lambda: int(ledger.query(charged)[0]["uj"] or 0) == counted_uj)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(HANG_S) == 0
    rows = bench.rows()
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(rows))
    assert max(t1 - t0 for t0, t1, _ in rows) >= 8 * finest_ms
    books = deployment.run("audit", "--json")
    assert (books.json["residual_uj"], books.json["sequence_gaps"]) == (0, 0)
