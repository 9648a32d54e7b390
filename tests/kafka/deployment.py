"""A Wattlog deployment: `wattlog` processes, a real Kafka, and one warehouse over HTTP for all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from contracts import topics
from contracts.settings import Settings
from producers.runtime.publisher import kafka_config
from streams import kafka_admin
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import ROOT, Worker
from tests.support.waiting import HANG_S, wait_until

FAST = {
    "WATTLOG_KAFKA_PARTITIONS": "6", "WATTLOG_LATENESS_MS": "2000", "WATTLOG_SKEW_MS": "1000",
    "WATTLOG_IDLE_TIMEOUT_MS": "120000",
}  # fmt: skip
"""Windows close soon after their end, and no partition counts as idle while its worker is dead."""


@dataclass(frozen=True)
class Ran:
    """A `wattlog` command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def wattlog(*args: str | Path, env: Mapping[str, str]) -> Ran:
    """Run `wattlog ARGS` with only these WATTLOG_ variables set."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.kafka.wattlog", *map(str, args)],
        cwd=ROOT, env={**_clean(), **env}, capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    return Ran(process.returncode, process.stdout, process.stderr)


@dataclass
class Deployment:
    """One consumer group and one database on a broker with new topics."""

    kafka: KafkaBroker
    folder: Path
    warehouse_dsn: str
    env: dict[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.env = {
            **FAST, "WATTLOG_KAFKA_BOOTSTRAP": self.kafka.bootstrap, "WATTLOG_WAREHOUSE_DSN": self.warehouse_dsn,
            "WATTLOG_KAFKA_GROUP": self.folder.name, **self.env,
        }  # fmt: skip
        forget_topics(self.kafka)

    def run(self, *args: str | Path) -> Ran:
        return wattlog(*args, env=self.env)

    def stream(self, name: str, *flags: str, env: Mapping[str, str] | None = None) -> Worker:
        """Start one `wattlog stream`; `env` is added to the deployment's variables."""
        clean = {k: "" for k in os.environ if k.startswith("WATTLOG_")}
        assert not clean.keys() - self.env.keys() - {"WATTLOG_SHARED_DATA", "WATTLOG_REQUIRE_KAFKA"}
        variables = {**self.env, **(env or {})}
        self.workers.append(Worker(self.folder, name, "tests.kafka.wattlog", ["stream", *flags], env=variables))
        return self.workers[-1]

    def sent(self, topic: str) -> int:
        """Number of messages on a topic."""
        partitions = self.kafka.admin.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {TopicPartition(topic, p): OffsetSpec.latest() for p in partitions}
        return sum(end.result(10).offset for end in self.kafka.admin.list_offsets(ends).values())

    @property
    def settings(self) -> Settings:
        """Settings of the processes, for the code that runs in the test."""
        options = {k.removeprefix("WATTLOG_").lower(): v for k, v in self.env.items()}
        return Settings(**options)  # type: ignore[arg-type]

    @property
    def log_id(self) -> str:
        return kafka_admin.identity(kafka_config(self.settings), self.kafka.bootstrap)


def holding(worker: Worker) -> list[int]:
    """Wait until a worker holds partitions, and return them."""
    end_s = time.monotonic() + HANG_S
    while True:
        lines = [line for line in worker.error_text(200).splitlines() if "holding partitions [" in line]
        held = json.loads(lines[-1].partition("holding partitions ")[2]) if lines else []
        if held:
            return list(held)
        alive = worker.running and time.monotonic() < end_s
        assert alive, f"{worker.name} got no partitions\n{worker.error_text()}"
        time.sleep(0.1)


def forget_topics(kafka: KafkaBroker) -> None:
    """Delete Wattlog's topics and wait until they are gone: created again, they are a new log."""
    there = set(kafka.admin.list_topics(timeout=10).topics) & set(topics.ALL)
    if there:
        for future in kafka.admin.delete_topics(sorted(there), operation_timeout=30).values():
            future.result(30)
    wait_until(lambda: not set(kafka.admin.list_topics(timeout=10).topics) & set(topics.ALL), "the topics are deleted")


def _clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")}
