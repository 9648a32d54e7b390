"""Triton Inference Server. It counts requests and no tokens: use a gateway for those. Its `nv_trt_llm_*` samples are
gauges of one iteration, so that no total follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping

from producers.api import Kind, Plugin
from producers.common.prometheus_text import PrometheusPage
from producers.servers.token_counters import ModelTotals, ServedTotals, running


class Triton:
    """Reader of requests by model; tokens are 0."""

    name = "triton"

    def served(self, page: PrometheusPage) -> Mapping[str, ServedTotals | None]:
        totals = ModelTotals(("model",))
        for field_name, sample in (
            ("requests", "nv_inference_request_success"),
            ("failures", "nv_inference_request_failure"),
        ):
            for labels, value in page.counter((sample,)):
                totals.add(field_name, labels, value)
        return totals.by_model(page)

    def running(self, page: PrometheusPage) -> int | None:
        return running(page, ("nv_inference_pending_request_count",))


COUNTERS = Triton()

PLUGIN: Plugin[None, Triton] = Plugin(
    "triton", Kind.SERVER, "Triton Inference Server", lambda options, environment: COUNTERS
)
