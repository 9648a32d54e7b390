"""Events over HTTP on a real Kafka: the broker stops and returns, the receiver is killed, the client sends until a
202.

Each event is on the log once by its identity, and no sequence number is missing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from contracts import codec, topics
from contracts.events import Event, UsageBatch
from tests.kafka.broker import KafkaBroker, free_ports
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S, wait_until


class Bench:
    """A receiver that starts and stops at one address, and its events on the log."""

    def __init__(self, kafka: KafkaBroker, folder: Path, cluster: str) -> None:
        self.kafka, self.cluster, self.errors = kafka, cluster, folder / "stderr"
        with contextlib.suppress(KafkaException):  # Of another test.
            kafka.topic(topics.USAGE, 2)
        [port] = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")} | {
            "WATTLOG_DATA": str(folder / "data"), "WATTLOG_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "WATTLOG_CLUSTER": cluster, "WATTLOG_NODE": "n1", "WATTLOG_HTTP_PORT": str(port),
            "WATTLOG_HTTP_ACK_TIMEOUT_S": "1",
        }  # fmt: skip

    @contextmanager
    def listener(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.errors.open("ab") as stderr:
            command = [sys.executable, "-m", "tests.kafka.wattlog", "produce", "http"]
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stderr=stderr)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def events(self) -> list[Event]:
        """All events of this cluster on the log, in the order of its partitions."""
        consumer = Consumer(self.kafka.client(group_id=f"reads-{self.cluster}"))
        batches = []
        try:
            for partition in consumer.list_topics(topics.USAGE, timeout=HANG_S).topics[topics.USAGE].partitions:
                place = TopicPartition(topics.USAGE, partition, 0)
                _, end = consumer.get_watermark_offsets(place, timeout=HANG_S)
                consumer.assign([place])
                at = 0
                while at < end:
                    for m in consumer.consume(500, 1.0):
                        assert m.error() is None
                        at = m.offset() + 1
                        event = codec.decode(m.headers(), m.value())
                        if event.cluster == self.cluster:
                            batches.append(event)
        finally:
            consumer.close()
        return batches


class Client(threading.Thread):
    """Send events one after the other, each until it is accepted."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address, self.accepted, self.refused = address, 0, 0
        self._enough = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=HANG_S) as client:
            while not self._enough.is_set():
                self._send(client)

    def _send(self, client: httpx.Client) -> None:
        event = {"type": "call", "source": "client", "id": f"{self.accepted}", "subject": "acme"}
        while True:
            try:
                status = client.post(f"{self.address}/api/v1/events", json=event).status_code
            except httpx.HTTPError:
                status = 0
            if status == 202:
                self.accepted += 1
                time.sleep(0.01)
                return
            self.refused += 1
            time.sleep(0.1)

    def more(self, count: int) -> None:
        """Wait until `count` more events are accepted."""
        target = self.accepted + count
        wait_until(lambda: self.accepted >= target, f"{count} more accepted")

    def finish(self) -> None:
        """End after the current event is accepted."""
        self._enough.set()
        self.join(HANG_S)
        assert not self.is_alive()


@pytest.fixture
def bench(kafka: KafkaBroker, tmp_path: Path, database_name: str) -> Bench:
    return Bench(kafka, tmp_path, f"ingest-{database_name}")


def test_each_accepted_event_is_on_the_log_once_through_outages_and_kills(bench: Bench) -> None:
    client = Client(bench.address)
    with bench.listener() as listener:
        client.start()
        client.more(30)
        bench.kafka.stop()
        try:
            refused = client.refused
            wait_until(lambda: client.refused >= refused + 2, "the client is refused")
            listener.send_signal(signal.SIGKILL)
            listener.wait()
        finally:
            bench.kafka.start()
    with bench.listener() as listener:
        client.more(50)
        listener.send_signal(signal.SIGKILL)
        listener.wait()
    with bench.listener() as listener:
        client.more(50)
        client.finish()
        listener.send_signal(signal.SIGTERM)
        assert listener.wait(HANG_S) == 0
    events = bench.events()
    batches = [event.batch for event in events]
    identities = {(b.origin[n], b.event_id[n]) for b in batches if isinstance(b, UsageBatch) for n in range(len(b))}
    assert identities == {("client", str(n)) for n in range(client.accepted)}
    numbers: dict[tuple[str, int], set[int]] = {}
    for event in events:
        numbers.setdefault((event.source, event.epoch), set()).add(event.seq)
    assert len(numbers) == 3  # runs
    assert all(identities == set(range(len(identities))) for identities in numbers.values())
