"""A real Apache Kafka for tests: one KRaft node, broker and controller in one process, on loopback only."""

from __future__ import annotations

import base64
import contextlib
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.waiting import HANG_S

# One node, few internal partitions, no waiting for absent members: a broker that starts and settles fast.
PORTS = range(20_000, 32_000)
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",  # for how long a killed broker blocks its own return
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "10485760",
    "log.retention.ms": "-1",  # recordings are old; retention would delete them
    "log.retention.check.interval.ms": "1000",  # a shortened retention takes effect within seconds
    "log.initial.task.delay.ms": "1000",
    "log.message.timestamp.before.max.ms": str(2**63 - 1),
}


class KafkaFailed(AssertionError):
    """The broker failed to start, stop or answer. The text ends with the last lines of its log."""


class KafkaBroker:
    """One broker with a data folder of its own. It survives `stop`, `kill` and `start`: same address, same data.

    `bootstrap` is its `host:port`, `cluster_id` its identity, `log_path` its log file.
    """

    def __init__(
        self, folder: Path, jars: Path, *, heap_mb: int = 512, settings: Mapping[str, str] | None = None
    ) -> None:
        self.cluster_id = _cluster_id()
        self.log_path = folder / "broker.log"
        self._folder = folder
        self._jars = jars
        self._heap_mb = heap_mb
        self._more = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: AdminClient | None = None
        self._port, self._controller_port = free_ports(2)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def admin(self) -> AdminClient:
        """A librdkafka admin client of this broker, created once."""
        if self._admin is None:
            self._admin = AdminClient(self.client())
        return self._admin

    def client(self, **more: Any) -> dict[str, Any]:
        """Settings of a confluent-kafka client; underscores stand for dots in names: `client(group_id="g")`.

        librdkafka's complaints about a broker that a test stops on purpose are kept off stderr.
        """
        named = {name.replace("_", "."): value for name, value in more.items()}
        return {"bootstrap.servers": self.bootstrap, "log_level": 0, **named}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admin = None
        try:
            self.stop()
        finally:
            self.kill()

    def start(self) -> None:
        """Start the broker (format its storage the first time) and return when it answers.

        Raises KafkaFailed when the broker ends or does not answer.
        """
        if self.running:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._format()
        with self.log_path.open("ab") as log:
            command = [*_dies_with_us(), *self._java(), "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until("answers", self._answers)

    def stop(self) -> None:
        """SIGTERM: a controlled shutdown, everything flushed. Does nothing when the broker is not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            raise KafkaFailed(f"the broker did not stop in {HANG_S} s\n{self.log_tail()}") from None
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as when the power fails. Does nothing when the broker is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """SIGTERM, then a start on the same data folder and address."""
        self.stop()
        self.start()

    def topic(self, name: str, partitions: int = 4, **config: str) -> str:
        """Create a topic and return its name once every partition has a leader. A name is used once.

        The topic's settings have underscores for dots: `topic("t", 4, retention_ms="1000")`.
        """
        named = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=named)
        self.admin.create_topics([new], operation_timeout=HANG_S)[name].result(HANG_S)

        def led() -> bool:
            metadata = self.admin.list_topics(name, timeout=5).topics[name].partitions
            return len(metadata) == partitions and all(p.leader >= 0 for p in metadata.values())

        self._wait_until(f"leads topic {name}", led)
        return name

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the broker's log."""
        if not self.log_path.exists():
            return "(the broker wrote no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _java(self) -> list[str]:
        small = [f"-Xmx{self._heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        logger = "-Dorg.slf4j.simpleLogger"
        logs = [
            f"{logger}.showDateTime=true",
            f"{logger}.dateTimeFormat=HH:mm:ss.SSS",
            f"{logger}.log.state.change=warn",
        ]
        return ["java", *small, *logs, "-cp", str(self._jars / "*")]

    def _format(self) -> None:
        if self._properties.exists():
            return
        settings = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self._folder / "data"),
            **self._more,
        }
        written = self._folder / "format.properties"
        written.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        tool = ["kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", str(written)]
        process = subprocess.run(
            [*self._java(), *tool], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        if process.returncode:
            raise KafkaFailed(f"the storage was not formatted:\n{process.stdout}\n{process.stderr}")
        written.rename(self._properties)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            metadata: Any = self.admin.list_topics(timeout=2)
            return bool(metadata.cluster_id == self.cluster_id and metadata.brokers)
        return False

    def _wait_until(self, goal: str, true: Callable[[], bool]) -> None:
        """Check until `true()` holds. Fails when the broker ends or hangs."""
        assert self._process is not None, "start the broker first"
        deadline = time.monotonic() + HANG_S
        while True:
            with contextlib.suppress(KafkaException):  # not there yet
                if true():
                    return
            if time.monotonic() > deadline:
                raise KafkaFailed(f"after {HANG_S:g} s the broker never {goal}\n{self.log_tail()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(0.05)
                raise KafkaFailed(f"the broker ended with status {status}\n{self.log_tail()}")


def _cluster_id() -> str:
    """A random KRaft cluster id: 16 bytes in URL-safe base64 (a leading '-' would be read as an option)."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def free_ports(count: int) -> list[int]:
    """Unused ports of loopback, below those that the kernel gives to outgoing connections, which may take them first.

    All are held until the last is known, so that they differ.
    """
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            sock, port = held.enter_context(socket.socket()), secrets.choice(PORTS)
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


def _dies_with_us() -> list[str]:
    """A prefix that has the kernel end the broker when pytest itself is killed (Linux, util-linux)."""
    setpriv = shutil.which("setpriv") if platform.system() == "Linux" else None
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
