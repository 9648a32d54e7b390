"""vLLM, V0 and V1. It counts tokens as they are made; `engine` tells replicas of one process apart."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="vllm",
    prompt=("vllm:prompt_tokens_total",),
    completion=("vllm:generation_tokens_total",),
    cached=(
        "vllm:prompt_tokens_cached_total",
        'vllm:prompt_tokens_by_source_total{source=~"local_cache_hit|external_kv_transfer"}',
        "vllm:prefix_cache_hits_total + vllm:external_prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total + vllm:external_prefix_cache_hits_total",
    ),
    requests=("vllm:request_success_total",),
    in_flight=("vllm:num_requests_running",),
    failed=frozenset({"abort", "error"}),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin("vllm", Kind.SERVER, "vLLM", lambda options, environment: COUNTERS)
