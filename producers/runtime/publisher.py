"""Publisher of events to Kafka through confluent-kafka: idempotent, acknowledged by all replicas, and bounded.

Every failure is reported. confluent-kafka (librdkafka) is the reference C client: batching, retries and idempotence run
outside the interpreter. Its in-process broker serves the embedded mode.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contracts import codec, topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import Event
from contracts.settings import Settings
from contracts.units import counted
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch
from producers.runtime.rare_log import RareLog

log = logging.getLogger(__name__)

OnDelivery = Callable[[str | None], None]
"""Callback with None when a message was stored, or with the reason why it was not."""

_NAMED_FAILURES = 20
_BLOCK_S = 30.0
_DENIALS = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)

DEFAULTS: Mapping[str, Any] = {
    # A third of gzip's CPU on both sides, for a third more bytes. A worker reads all of Kafka's codecs (cramjam).
    "compression.type": "snappy",
    "linger.ms": 20,
    "queue.buffering.max.messages": 10_000,
    "queue.buffering.max.kbytes": 65_536,
    "message.timeout.ms": 120_000,
    "client.id": "wattlog",
}
"""Defaults that a caller's config may override. The queue holds 64 MiB or 10,000 messages, whichever is less."""

FIXED: Mapping[str, Any] = {"enable.idempotence": True, "acks": "all", "partitioner": topics.PARTITIONER}
"""Properties that a config may not change: else retries could duplicate or reorder, or keys change partitions."""


def kafka_config(settings: Settings) -> dict[str, Any]:
    """Return the client properties that say where the brokers are and how to connect to them.

    Raises BadSetting for the embedded broker (its address is known only to the process that runs it: pass settings
    with that address) and for SASL without a user or password.
    """
    if settings.embedded_broker:
        raise BadSetting(
            "kafka_bootstrap",
            "embedded",
            "the embedded broker lives inside `wattlog demo` and `replay`; give host:port",
        )
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_ca_file:
        config["ssl.ca.location"] = str(settings.kafka_ca_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        if not settings.kafka_username or settings.kafka_password is None:
            raise BadSetting(
                "kafka_username", settings.kafka_username, "SASL needs kafka_username and kafka_password, both"
            )
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_username
        config["sasl.password"] = settings.kafka_password.get_secret_value()
    return config


class Publisher:
    """Kafka producer of events. When its bounded queue is full, `send` waits for room, `block_s` seconds at most.

    The `on_delivery` of a message gets the outcome. A message without one that the broker refuses or never acknowledges
    is noted: the next `flush` or `close` raises Unavailable and names it. As a context manager it closes itself.
    """

    def __init__(self, config: Mapping[str, Any], *, block_s: float = _BLOCK_S) -> None:
        fixed = {name for name in FIXED if name in config and config[name] != FIXED[name]}
        if fixed:
            name = min(fixed)
            raise BadSetting(name, config[name], f"must be {FIXED[name]!r}: the ledger depends on it")
        client_log = ClientLog()
        self._producer = Producer(
            {**DEFAULTS, **config, **FIXED}, on_delivery=self._delivered, error_cb=client_log.error, logger=client_log
        )
        self._block_s, self._user = block_s, str(config.get("sasl.username", ""))
        self._failures: deque[str] = deque(maxlen=_NAMED_FAILURES)
        self._failed = 0
        self.delivered = 0
        """Number of messages that the brokers have acknowledged."""

    def send(self, event: Event) -> int:
        """Queue one event. Return the bytes of its body.

        Raises BadEvent when it breaks its contract, Unavailable when the queue stays full or the client has failed for
        good. The event was not queued then, and its number may be reused.
        """
        headers, value = codec.encode(event)
        topic, key = codec.topic_of(event.batch), topics.key(event.cluster, event.workload).encode()
        self.send_raw(topic, key, headers, value, timestamp_ms=event.batch.event_ms)
        return len(value)

    def send_raw(
        self,
        topic: str,
        key: bytes | None,
        headers: codec.Headers,
        value: bytes | None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Queue one encoded message. Raises Unavailable like `send`.

        `poll` calls `on_delivery` once the message is stored, or once this client has given it up.
        """
        on_report = None
        if on_delivery is not None:
            callback = on_delivery

            def on_report(error: KafkaError | None, message: Message) -> None:
                self.delivered += error is None
                callback(None if error is None else self._reason(error, topic))

        self._produce(topic, key, headers, value, partition, timestamp_ms, on_report)

    def heartbeat(
        self, numbers: Sequencer, source: str, cluster: str, workload: str, topic: str, t_ms: int, *, node: str = ""
    ) -> None:
        """Queue an empty event that says "complete up to `t_ms`", so that watermarks advance without rows."""
        self.send(event_of(numbers, source, cluster, workload, heartbeat_batch(topic, t_ms, node=node)))

    def pending(self) -> int:
        """Return the number of messages that are queued or in flight."""
        return len(self._producer)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve delivery reports for up to `timeout_s` seconds."""
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until every message is acknowledged. Raises Unavailable that names what failed or is still unsent."""
        left = self._flush(timeout_s)
        if left:
            self._raise_failures(f"{counted(left, 'message', 'is', 'are')} still unsent after {timeout_s:g} s")
        self._raise_failures("")

    def close(self, timeout_s: float = 30.0) -> None:
        """Flush for up to `timeout_s`; then drop what is unsent. Raises Unavailable that names the failures."""
        try:
            left = self._flush(timeout_s)
        except Unavailable:
            self._producer.purge()
            raise
        if left:
            self._producer.purge()
            self._flush(1.0)
        self._raise_failures("")

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Unavailable as error:
            if kind is None:
                raise
            log.error("while another error passes: %s", error)

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        headers: codec.Headers,
        value: bytes | None,
        partition: int | None,
        timestamp_ms: int | None,
        on_report: Callable[[KafkaError | None, Message], None] | None,
    ) -> None:
        options: dict[str, Any] = {"on_delivery": on_report or self._delivered, "headers": headers}
        if partition is not None:
            options["partition"] = partition
        if timestamp_ms:
            options["timestamp"] = timestamp_ms
        deadline = time.monotonic() + self._block_s
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, **options)
                break
            except BufferError:
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"the queue to Kafka has been full for {self._block_s:g} s ({self.pending()} messages)",
                        "Are the brokers reachable? Try `wattlog doctor`.",
                    ) from None
                self._producer.poll(0.05)
            except KafkaException as error:
                raise self._unavailable(error, topic) from error
        self._producer.poll(0)

    def _flush(self, timeout_s: float) -> int:
        """Wait until every message is acknowledged or given up. Return how many are still unsent."""
        try:
            return self._producer.flush(timeout_s)
        except KafkaException as error:  # Fatal, as where the user may write no topic at all.
            raise self._unavailable(error, "any topic") from error

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
            return
        self._failed += 1
        key = message.key()
        key_text = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
        self._failures.append(f"{message.topic()} {key_text}: {self._reason(error, str(message.topic()))}")

    def _raise_failures(self, unsent: str) -> None:
        if not (self._failed or unsent):
            return
        named = "; ".join(dict.fromkeys(self._failures))
        count, self._failed = self._failed, 0
        self._failures.clear()
        lost = f"{counted(count, 'message', 'was', 'were')} not stored: {named}" if count else ""
        raise Unavailable("; ".join(filter(None, (unsent, lost))), "Are the brokers reachable? Try `wattlog doctor`.")

    def _reason(self, error: KafkaError, topic: str) -> str:
        """Return the text of an error; of a denial, with the user and the topic."""
        if error.code() not in _DENIALS:
            return error.str()
        user = f"Kafka user {self._user!r}" if self._user else "this client, which has no Kafka user,"
        return f"{error.str()}: {user} may not write {topic}"

    def _unavailable(self, error: KafkaException, topic: str) -> Unavailable:
        """Return the error for a client that takes no message: lasting if only a new client could."""
        reason: KafkaError = error.args[0]
        text = f"Kafka does not take the message: {self._reason(reason, topic)}"
        return _unavailable(reason, text)


def _unavailable(reason: KafkaError, text: str) -> Unavailable:
    if reason.code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
        hint = "Allow its user to write its topics (docs/kafka-access.md), then restart this producer."
        return Unavailable(text, hint, reason="fatal", lasting=True)
    if reason.fatal():
        return Unavailable(text, "Restart this producer.", reason="fatal", lasting=True)
    return Unavailable(text, "Try `wattlog doctor`.")


class ClientLog:
    """Log of librdkafka, which reconnects automatically: while a broker is away, it has several lines a second.

    It passes most errors of connections twice, to `log` and to `error`. They are one trouble.
    """

    def __init__(self) -> None:
        self._logs: dict[str, RareLog] = {}
        """By librdkafka's facility."""

    def log(self, level: int, template: str, *parts: str) -> None:
        """Log a line, as a `logging.Logger` does. The parts are its facility, the client and the text."""
        self._write(parts[0] if parts else "", level, template % parts)

    def error(self, error: KafkaError) -> None:
        """Log an error. A fatal one raises at the next send."""
        self._write("FATAL" if error.fatal() else "FAIL", logging.WARNING, error.str())

    def _write(self, facility: str, level: int, text: str) -> None:
        self._logs.setdefault(facility, RareLog(log)).write(level, f"kafka: {text}")
