"""`wattlog produce otel`: requests from spans that a Collector's Kafka exporter wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Literal

from confluent_kafka import Consumer, KafkaException, TopicPartition
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadInput, BadSetting, Unavailable, WattlogError
from contracts.settings import Settings
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.gateways.calls import group_by_workload, max_ahead_ms
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.otel.genai import ORIGIN, GenAIReader, SpanRules
from producers.gateways.otel.kafka_topic import TIMEOUT_S, SpansTopic
from producers.gateways.otel.otlp import is_json, need_protobuf
from producers.runtime.clock import Clock
from producers.runtime.config import ProducerConfig
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.dimension_values import DimensionValues
from producers.runtime.publisher import kafka_config

NEWEST_MESSAGES = 20
"""Newest messages of each partition that `wattlog doctor` reads."""


class OtelConfig(ProducerConfig):
    """Options of `wattlog produce otel`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_OTEL_")
    name: ClassVar[str] = "otel"
    topic: str = Field("", description="Topic of the Collector's Kafka exporter: `otlp_spans` by default.")
    bootstrap: str = Field("", description="Brokers that it writes to; empty: those of the settings.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to them, where `bootstrap` is given."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, where the protocol uses SASL."
    )
    username: str = Field("", description="SASL user.")
    password: SecretStr | None = Field(None, description="SASL password.")
    ca_file: Path | None = Field(None, description="CA certificates that sign theirs (PEM); empty: the system's.")
    group: str = Field("wattlog-otel", description="Consumer group under which its offsets can be watched.")
    begin: Literal["start", "end"] = Field("end", description="Where to start in a topic that was never read.")
    every_s: float = Field(1.0, ge=0.1, le=3600, description="Seconds between two reads.")
    spans: SpanRules = Field(default_factory=SpanRules, description="Rules for reading spans.")
    deployments: tuple[Deployment, ...] = Field(
        (), description="Rules that name the workload of a request; the first match wins."
    )

    @field_validator("bootstrap")
    @classmethod
    def _address(cls, bootstrap: str) -> str:
        if "@" in bootstrap or "://" in bootstrap:
            raise ValueError("give host:port[,host:port]; user and password have options of their own")
        return bootstrap


def consumer_config(settings: Settings, config: OtelConfig) -> dict[str, Any]:
    """Client properties for the Collector's brokers. The settings' user and password go to the settings' brokers only.

    Raises BadSetting like `kafka_config`."""
    if config.bootstrap:
        settings = settings.model_copy(update={
            "kafka_bootstrap": config.bootstrap, "kafka_security_protocol": config.security_protocol,
            "kafka_sasl_mechanism": config.sasl_mechanism, "kafka_username": config.username,
            "kafka_password": config.password, "kafka_ca_file": config.ca_file,
        })  # fmt: skip
    return {
        **kafka_config(settings), "group.id": config.group, "client.id": "wattlog-otel", "enable.auto.commit": False,
        "enable.auto.offset.store": False, "auto.offset.reset": "error", "queued.max.messages.kbytes": 16_384,
        "fetch.wait.max.ms": 100,
    }  # fmt: skip


def spans_topic(
    settings: Settings, options: OtelConfig, connect: Callable[[], Consumer], dimensions: DimensionValues | None = None
) -> SpansTopic:
    """Build the source of the configured topic. Raises BadSetting where there is none."""
    if not options.topic:
        raise BadSetting("produce.otel.topic", "", "name the topic of the Collector's Kafka exporter, as otlp_spans")
    need_protobuf()
    return SpansTopic(
        options.topic, GenAIReader(options.spans), Deployments(options.deployments, settings.cluster, dimensions),
        connect,
        every_ms=round(1000 * options.every_s), begin=options.begin, ahead_ms=max_ahead_ms(settings),
    )  # fmt: skip


def build(options: OtelConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the configured topic."""
    properties = consumer_config(environment.settings, options)
    topic = spans_topic(environment.settings, options, lambda: Consumer(properties), environment.dimension_values)
    return [environment.resources.enter_context(closing(topic))]


def check(options: OtelConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the calls in the newest messages of the topic, or why it cannot be read."""
    if not options.topic:
        return
    settings = environment.settings
    try:
        properties = consumer_config(settings, options) | {"auto.offset.reset": "latest"}
        with closing(Consumer(properties)) as consumer:
            yield options.topic, describe_newest(consumer, settings, options, environment.clock)
    except KafkaException as error:
        hint = "Are its brokers reachable (`bootstrap`), and may this user read it?"
        yield options.topic, Unavailable(f"It cannot be read: {error.args[0].str()}", hint)
    except WattlogError as error:
        yield options.topic, error


def describe_newest(consumer: Consumer, settings: Settings, options: OtelConfig, clock: Clock) -> str:
    """Describe the calls in the newest messages of the topic, in a line.

    Raises Unavailable if there is no such topic, BadSetting if no span of them can be read.
    """
    metadata = consumer.list_topics(options.topic, timeout=TIMEOUT_S).topics[options.topic]
    if metadata.error is not None or not metadata.partitions:
        raise Unavailable(f"The topic {options.topic} is not there", "Does the Collector's Kafka exporter write there?")
    positions, available = [], 0
    for partition in metadata.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(options.topic, partition), timeout=TIMEOUT_S)
        count = min(high - low, NEWEST_MESSAGES)
        positions.append(TopicPartition(options.topic, partition, high - count))
        available += count
    consumer.assign(positions)
    reader, recent = GenAIReader(options.spans), DeduplicationWindow()
    deployments = Deployments(options.deployments, settings.cluster)
    calls, refused, skipped, consumed = 0, list[str](), Counter[str](), 0
    workloads: set[str] = set()
    while consumed < available and (messages := consumer.consume(available - consumed, timeout=TIMEOUT_S)):
        consumed += len(messages)
        for body in (message.value() or b"" for message in messages if message.error() is None):
            try:
                latest_ms = clock.wall_ms() + max_ahead_ms(settings)
                result = reader.read_message(body, recent, latest_ms, json=is_json(body))
            except BadInput as error:
                refused.append(str(error))
                continue
            calls += len(result.calls)
            refused += result.refused
            skipped.update(result.skipped)
            workloads |= {group.workload for group in group_by_workload(result.calls, deployments, ORIGIN)}
    if refused and not calls:
        raise BadSetting("produce.otel.spans", options.topic, f"cannot be read so: {refused[0]}")
    not_counted = ", ".join(f"{n} {reason}" for reason, n in sorted(skipped.items())) or "none"
    return (
        f"{len(metadata.partitions)} partitions; in its newest {consumed} messages {calls} calls, of "
        f"{', '.join(sorted(workloads)) or 'none'}; not counted: {not_counted}; not readable: {len(refused)}"
    )


PLUGIN = Plugin(
    "otel", Kind.POLLED, "requests with their tenants, from OpenTelemetry spans on a Collector's Kafka topic", build,
    OtelConfig, check,
)  # fmt: skip
