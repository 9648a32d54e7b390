"""Ray Serve LLM: vLLM's counters through the metrics agent of each Ray node, as `ray_vllm_`, formerly `ray_vllm:`."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="ray",
    prompt=("ray_vllm_prompt_tokens_total", "ray_vllm:prompt_tokens_total"),
    completion=("ray_vllm_generation_tokens_total", "ray_vllm:generation_tokens_total"),
    cached=(
        "ray_vllm_prompt_tokens_cached_total",
        "ray_vllm_prefix_cache_hits_total + ray_vllm_external_prefix_cache_hits_total",
        "ray_vllm:prefix_cache_hits_total",
    ),
    requests=("ray_vllm_request_success_total", "ray_vllm:request_success_total"),
    in_flight=("ray_vllm_num_requests_running", "ray_vllm:num_requests_running"),
    failed=frozenset({"abort", "error"}),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "ray", Kind.SERVER, "Ray Serve LLM (vLLM in Ray)", lambda options, environment: COUNTERS
)
