"""Triton Inference Server. It counts requests and no tokens: use a gateway for those. Its `nv_trt_llm_*` samples are
gauges of one iteration, so that no total follows from them.
"""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="triton",
    requests=("nv_inference_request_success",),
    failures=("nv_inference_request_failure",),
    in_flight=("nv_inference_pending_request_count",),
    model_labels=("model",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "triton", Kind.SERVER, "Triton Inference Server", lambda options, environment: COUNTERS
)
