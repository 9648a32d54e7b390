"""docs/metrics.md names every exposed metric, by the name that Prometheus sees, and no other."""

from __future__ import annotations

import re
from typing import ClassVar

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric

from api.metrics import HttpMetrics
from contracts.settings import Settings
from producers.bindings.metrics import BindingMetrics
from producers.gpu import evidence
from producers.runai import metrics as runai_metrics
from producers.runtime import agent_metrics, poll_loop
from producers.runtime.claim_watch import ClaimWatch
from producers.runtime.dimension_values import dimension_values
from producers.runtime.receiver.metrics import ReceiverMetrics as Listener
from streams import metrics as stream_metrics
from tests.project.tree import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
_NAME = re.compile(r"wattlog_[a-z_]+")


def _exposed(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _of(registry: CollectorRegistry) -> set[str]:
    return {_exposed(m) for m in registry.collect() if _NAME.fullmatch(m.name) and not m.name.endswith("_created")}


async def _no_claims(*_: object) -> None: ...


def _api() -> set[str]:
    """The API's metrics: HTTP from its registry; those of the ledger, which need rows, from the text of the code."""
    registry = CollectorRegistry()
    HttpMetrics(_no_claims, registry=registry)
    http = _of(registry)
    code = (ROOT / "api" / "metrics.py").read_text("utf-8")
    families = set(re.findall(r'GaugeMetricFamily\(\s*"(wattlog_[a-z_]+)"', code))
    assert len(families) == code.count("GaugeMetricFamily("), "a family whose name this test cannot see"
    return http | families


class _Sensor:
    measured: ClassVar = {"GPU-a": evidence.GpuMeasurement("counter", evidence.GPU)}


def _agent() -> set[str]:
    registry, poll_registry, listener_registry = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    agent_metrics.AgentMetrics(registry)
    registry.register(evidence.EvidenceCollector(_Sensor()))
    registry.register(evidence.PageAgeCollector(lambda: 0, cluster="c", node="n", source="dcgm"))
    BindingMetrics(registry)
    poll_loop.PollLoopMetrics(poll_registry)
    runai_metrics.RunAiMetrics(poll_registry)
    Listener(listener_registry)
    ClaimWatch({}, listener_registry)
    dimension_values(Settings(), listener_registry)
    return _of(registry) | _of(poll_registry) | _of(listener_registry)


def _worker() -> set[str]:
    assert stream_metrics
    return {name for name in _of(REGISTRY) if name.startswith("wattlog_stream_")}


def test_the_page_names_every_metric() -> None:
    assert min(len(_worker()), len(_agent()), len(_api())) >= 7
    missing = (_worker() | _agent() | _api()) - set(_NAME.findall(PAGE))
    assert not missing, "add to docs/metrics.md: name, unit, meaning, what to look at"


def test_the_page_names_no_unknown_metric() -> None:
    assert not set(_NAME.findall(PAGE)) - (_worker() | _agent() | _api())


def test_every_metric_has_a_row_with_kind_meaning_and_use() -> None:
    rows = {line.split("|")[1].strip().strip("`"): line for line in PAGE.splitlines() if line.startswith("| `wattlog_")}
    assert set(rows) == _worker() | _agent() | _api()
    assert all(all(cell.strip() for cell in line.split("|")[1:5]) for line in rows.values())
