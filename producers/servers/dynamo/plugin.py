"""NVIDIA Dynamo's frontend, in front of its workers, whose own pages are those of vLLM, SGLang or TensorRT-LLM."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="dynamo",
    prompt=("dynamo_frontend_input_sequence_tokens_sum",),
    completion=("dynamo_frontend_output_tokens_total", "dynamo_frontend_output_sequence_tokens_sum"),
    cached=("dynamo_frontend_cached_tokens_sum",),
    requests=("dynamo_frontend_requests_total",),
    in_flight=("dynamo_frontend_inflight_requests",),
    failed=frozenset({"error"}),
    model_labels=("model",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "dynamo", Kind.SERVER, "NVIDIA Dynamo's frontend", lambda options, environment: COUNTERS
)
