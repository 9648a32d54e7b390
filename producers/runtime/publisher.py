"""Events onto the log, through confluent-kafka: idempotent, acknowledged by all replicas, bounded, never silent.

confluent-kafka (librdkafka) is the reference C client: batching, retries and idempotence happen off the interpreter,
and its in-process broker is the embedded mode's log.
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
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch, power_batch, source_of

__all__ = ["Publisher", "Sequencer", "event_of", "heartbeat_batch", "kafka_config", "power_batch", "source_of"]

log = logging.getLogger(__name__)

OnDelivery = Callable[[str | None], None]
"""Told when a message was stored (None), or why it was not."""

_NAMED_FAILURES = 20
_BLOCK_S = 30.0

DEFAULTS: Mapping[str, Any] = {
    # A third of gzip's CPU on both sides, for a third more bytes. A worker reads all of Kafka's codecs (cramjam).
    "compression.type": "snappy",
    "linger.ms": 20,
    "queue.buffering.max.messages": 10_000,
    "queue.buffering.max.kbytes": 65_536,
    "message.timeout.ms": 120_000,
    "client.id": "wattlog",
}
"""What a caller's config may override. The queue is bounded: 64 MiB or 10,000 messages, whichever is first."""

FIXED: Mapping[str, Any] = {"enable.idempotence": True, "acks": "all", "partitioner": topics.PARTITIONER}
"""What it may not: without these, retries would duplicate or reorder, and keys would land elsewhere."""


def kafka_config(settings: Settings) -> dict[str, Any]:
    """The client properties that say where the brokers are and how to talk to them.

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
    """Sends events. Bounded: when the queue is full, `send` waits for room, `block_s` seconds at most.

    What the broker refuses or never acknowledges is told to the `on_delivery` given with the message; without one it is
    noted, and the next `flush` or `close` raises Unavailable and names it. Also a context manager, which closes.
    """

    def __init__(self, config: Mapping[str, Any], *, block_s: float = _BLOCK_S) -> None:
        fixed = {name for name in FIXED if name in config and config[name] != FIXED[name]}
        if fixed:
            name = min(fixed)
            raise BadSetting(name, config[name], f"must be {FIXED[name]!r}: the ledger depends on it")
        self._producer = Producer(
            {**DEFAULTS, **config, **FIXED}, on_delivery=self._delivered, error_cb=_note, logger=log
        )
        self._block_s = block_s
        self._failures: deque[str] = deque(maxlen=_NAMED_FAILURES)
        self._failed = 0
        self.delivered = 0
        """Messages that the brokers have acknowledged."""

    def send(self, event: Event) -> int:
        """Queues one event; returns the bytes of its body.

        Raises BadEvent when it breaks its contract, Unavailable when the queue stays full or the client has failed for
        good: then the event was not taken, and its number may be taken back.
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
        """Queues one message as it is. `on_delivery` is told, from `poll`, when it is stored, or why it never will be
        by this client. Raises Unavailable like `send`."""
        done = None
        if on_delivery is not None:
            told = on_delivery

            def done(error: KafkaError | None, message: Message) -> None:
                self.delivered += error is None
                told(None if error is None else error.str())

        self._produce(topic, key, headers, value, partition, timestamp_ms, done)

    def heartbeat(
        self, numbers: Sequencer, source: str, cluster: str, workload: str, topic: str, t_ms: int, *, node: str = ""
    ) -> None:
        """Queues an empty event that says "complete up to `t_ms`", so that watermarks pass in quiet times."""
        self.send(event_of(numbers, source, cluster, workload, heartbeat_batch(topic, t_ms, node=node)))

    def pending(self) -> int:
        """Messages queued or in flight."""
        return len(self._producer)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serves delivery reports for up to `timeout_s` seconds."""
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Waits until every message is acknowledged. Raises Unavailable naming what failed or is still unsent."""
        left = self._producer.flush(timeout_s)
        if left:
            self._raise_failures(f"{left} messages are still unsent after {timeout_s:g} s")
        self._raise_failures("")

    def close(self, timeout_s: float = 30.0) -> None:
        """Flushes; what cannot be sent by then is dropped, and named by the Unavailable that this raises."""
        if self._producer.flush(timeout_s):
            self._producer.purge()
            self._producer.flush(1.0)
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
        done: Callable[[KafkaError | None, Message], None] | None,
    ) -> None:
        options: dict[str, Any] = {"on_delivery": done or self._delivered, "headers": headers}
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
                reason: KafkaError = error.args[0]
                what = f"Kafka does not take the message: {reason.str()}"
                if reason.fatal():
                    raise Unavailable(what, "Restart this producer.", reason="fatal", lasting=True) from error
                raise Unavailable(what, "Try `wattlog doctor`.") from error
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
            return
        self._failed += 1
        key = message.key()
        shown = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
        self._failures.append(f"{message.topic()} {shown}: {error.str()}")

    def _raise_failures(self, unsent: str) -> None:
        if not (self._failed or unsent):
            return
        named = "; ".join(dict.fromkeys(self._failures))
        count, self._failed = self._failed, 0
        self._failures.clear()
        lost = f"{count} messages were not stored: {named}" if count else ""
        raise Unavailable("; ".join(filter(None, (unsent, lost))), "Are the brokers reachable? Try `wattlog doctor`.")


def _note(error: KafkaError) -> None:
    """librdkafka's own troubles: it reconnects by itself, so they go to the log. Fatal ones raise on the next send."""
    log.warning("kafka: %s", error.str())
