"""Runs a GPU sensor: discovery, holders of GPUs, spool, and the agent's loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from producers.api import Environment, EvidenceReport, GpuSensor
from producers.bindings.plugin import holders
from producers.gpu.evidence import EvidenceCollector
from producers.runtime.agent import Agent, Node
from producers.runtime.agent_metrics import Metrics
from producers.runtime.clock import boot_id
from producers.runtime.outbox import open_outbox, serve_metrics

log = logging.getLogger(__name__)


def run_gpu_sensor(sensor: GpuSensor, environment: Environment, kafka: Mapping[str, object]) -> None:
    """Sample a node's GPUs and publish their intervals until `stop`.

    Raises Unavailable for energy that could be neither sent nor kept.
    """
    settings, clock, metrics = environment.settings, environment.clock, Metrics(environment.metrics)
    gpus = sensor.discover()
    show_evidence(sensor, environment.metrics)
    bindings = holders(environment, sensor, gpus)
    node = Node(
        settings.cluster, environment.node, round(1000 / settings.sample_hz), settings.publish_ms, sensor.kind,
        boot=boot_id(), held_ms=bindings.record_ms,
    )  # fmt: skip
    serve_metrics(settings, environment.metrics)
    log.info("%d GPUs of %s/%s", len(gpus), node.cluster, node.node)
    with open_outbox(settings, sensor.kind, kafka) as (spool, delivery):
        Agent(node, sensor, delivery, clock, bindings.current, metrics, spool.marks()).run()


def show_evidence(sensor: GpuSensor, registry: CollectorRegistry) -> None:
    """Show in /metrics how a sensor measures, where it reports that."""
    if isinstance(sensor, EvidenceReport):
        registry.register(EvidenceCollector(sensor))
