"""Triton Inference Server. It counts requests, and no tokens: those take a gateway. `nv_trt_llm_*` are gauges of one
iteration: nothing can be summed from them.
"""

from __future__ import annotations

from collections.abc import Mapping

from producers.common.prometheus_text import Page, first
from producers.servers.provider import Served


class Triton:
    """Requests by model; tokens are 0."""

    name = "triton"

    def served(self, page: Page) -> Mapping[str, Served]:
        found: dict[str, list[int]] = {}
        for at, name in enumerate(("nv_inference_request_success", "nv_inference_request_failure")):
            for labels, value in first(page, (name,)):
                found.setdefault(labels.get("model", ""), [0, 0])[at] += value
        return {model: Served(requests=good, failures=bad) for model, (good, bad) in found.items()}

    def running(self, page: Page) -> int | None:
        found = list(first(page, ("nv_inference_pending_request_count",)))
        return sum(value for _, value in found) if found else None


PROVIDER = Triton()
