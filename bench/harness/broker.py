"""One broker for all contestants, in a process of its own: real Apache Kafka, or librdkafka's in-process broker in a
child where Java or Maven is missing (or for `--quick`).

The in-process broker keeps 5 MB or 100,000 messages a partition, so a backlog on it is cut to that.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from streams import kafka_admin
from tests.kafka import jars
from tests.kafka.broker import KafkaBroker

MOCK_PARTITIONS = 4
"""Of every topic that it makes, on first sight."""
MOCK_BYTES, MOCK_MESSAGES = 4_000_000, 90_000
"""What the in-process broker keeps per partition, with room to spare."""
ROOT = Path(__file__).parents[2]


class Broker:
    """`bootstrap` is where it is, `what` it is is for the report. `real`: Apache Kafka."""

    def __init__(self, description: str, kafka: KafkaBroker | None) -> None:
        self.description, self.real = description, kafka is not None
        self._kafka = kafka
        self._mock: subprocess.Popen[str] | None = None
        self._address = ""

    @property
    def bootstrap(self) -> str:
        return self._kafka.bootstrap if self._kafka else self._address

    def anew(self) -> None:
        """Before topics are made again. The in-process broker cannot delete any, so another one takes its place."""
        if self._kafka:
            return
        self.close()
        self._mock = subprocess.Popen(
            [sys.executable, "-m", "bench.harness.mock_broker"], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._mock.stdout is not None
        self._address = self._mock.stdout.readline().strip()
        if not self._address:
            raise RuntimeError(f"the in-process broker did not start: exit status {self._mock.wait()}")

    def close(self) -> None:
        if self._mock:
            self._mock.kill()
            self._mock.communicate()
            self._mock = None


@contextmanager
def broker(folder: Path, *, quick: bool = False) -> Iterator[Broker]:
    """A broker until the block ends; `anew` before each use."""
    reason = "asked for by --quick" if quick else jars.missing()
    if reason is not None:
        mock = Broker(f"librdkafka's in-process broker, in a process of its own ({reason})", None)
        try:
            yield mock
        finally:
            mock.close()
        return
    home = Path(tempfile.mkdtemp(prefix="kafka-", dir=folder))
    try:
        libs = jars.resolve()
        with KafkaBroker(home, libs, heap_mb=1024) as kafka:
            _keeps_offsets(kafka)
            version = next(libs.glob("kafka_2.13-*.jar")).stem.rpartition("-")[2]
            yield Broker(f"Apache Kafka {version}, one node", kafka)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _keeps_offsets(kafka: KafkaBroker) -> None:
    """A broker makes its topic of offsets on the first question for one, and has no coordinator until then."""
    consumer = Consumer(kafka.client(group_id="bench-first"))
    try:
        kafka_admin.offsets(consumer, [TopicPartition("none", 0)])
    finally:
        consumer.close()
