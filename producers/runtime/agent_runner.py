"""Runner of a GPU sensor: discovery, holders of GPUs, spool, and the agent's loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry

from contracts.errors import BadSetting
from producers.api import Environment, EvidenceReport, GpuSensor
from producers.bindings.plugin import holders
from producers.boundary.node_energy import NodeEnergy
from producers.boundary.plugin import open_meter
from producers.gpu.evidence import EvidenceCollector
from producers.gpu.roster import GpuRoster
from producers.gpu.watts_record import EVERY_MS
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.clock import boot_id
from producers.runtime.metrics_server import serve_metrics
from producers.runtime.outbox import open_outbox
from producers.runtime.refusals import refusal

log = logging.getLogger(__name__)

FIRST_RETRY_S, MAX_RETRY_S = 1.0, 60.0


def run_gpu_sensor(sensor: GpuSensor, environment: Environment, kafka: Mapping[str, object]) -> None:
    """Sample a node's GPUs and publish their intervals until `stop`.

    Raises Unavailable for energy that could be neither sent nor stored.
    """
    settings, clock, metrics = environment.settings, environment.clock, AgentMetrics(environment.metrics)
    serve_metrics(settings, environment.metrics)
    gpus = _discover(sensor, environment, metrics)
    if environment.stop.is_set():
        return
    show_evidence(sensor, environment.metrics)
    roster = GpuRoster(gpus)
    bindings = holders(environment, sensor, roster, metrics.refusals)
    meter = open_meter(environment)
    config = AgentConfig(
        settings.cluster, environment.node, round(1000 / settings.sample_hz), settings.publish_ms, sensor.kind,
        boot=boot_id(), held_ms=bindings.record_ms, watts_ms=EVERY_MS,
    )  # fmt: skip
    log.info("%d GPUs of %s/%s", len(gpus), config.cluster, config.node)
    with open_outbox(environment, sensor.kind, kafka) as (spool, delivery):
        checkpoints = spool.checkpoints()
        Agent(
            config=config,
            sensor=sensor,
            outbox=delivery,
            clock=clock,
            bindings=bindings.current,
            metrics=metrics,
            checkpoints=checkpoints,
            roster=roster,
            node_energy=NodeEnergy(meter, config.node, config.boot, metrics, checkpoints) if meter else None,
        ).run()


def _discover(sensor: GpuSensor, environment: Environment, metrics: AgentMetrics) -> Sequence[str]:
    """Return the sensor's GPUs, asking again with backoff until it names some or `stop` is set."""
    delay_s = FIRST_RETRY_S
    while True:
        try:
            return sensor.discover()
        except BadSetting:
            raise
        except Exception as error:
            metrics.sample_errors.inc()
            reason = refusal(error, "GPUs cannot be discovered, tried again")
            metrics.refusals.add(sensor.kind, [reason], environment.clock.monotonic_ms())
        if environment.clock.wait(delay_s):
            return ()
        delay_s = min(2 * delay_s, MAX_RETRY_S)


def show_evidence(sensor: GpuSensor, registry: CollectorRegistry) -> None:
    """Show in /metrics how a sensor measures, where it reports that."""
    if isinstance(sensor, EvidenceReport):
        registry.register(EvidenceCollector(sensor))
