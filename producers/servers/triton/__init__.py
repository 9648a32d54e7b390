"""Triton Inference Server. It counts requests, and no tokens: those take a gateway. `nv_trt_llm_*` are gauges of one
iteration: nothing can be summed from them.
"""

from __future__ import annotations

from collections.abc import Mapping

from producers.common.prometheus_text import PrometheusPage, first_present
from producers.servers.provider import ServedTotals


class Triton:
    """Requests by model; tokens are 0."""

    name = "triton"

    def served(self, page: PrometheusPage) -> Mapping[str, ServedTotals]:
        found: dict[str, list[int]] = {}
        for at, name in enumerate(("nv_inference_request_success", "nv_inference_request_failure")):
            for labels, value in first_present(page, (name,)):
                found.setdefault(labels.get("model", ""), [0, 0])[at] += value
        return {model: ServedTotals(requests=good, failures=bad) for model, (good, bad) in found.items()}

    def running(self, page: PrometheusPage) -> int | None:
        found = list(first_present(page, ("nv_inference_pending_request_count",)))
        return sum(value for _, value in found) if found else None


PROVIDER = Triton()
