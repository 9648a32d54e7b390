"""TensorRT-LLM's own server, `trtllm-serve`. (Its Triton backend says only what one iteration did: see `triton/`.)"""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="trtllm",
    prompt=("trtllm_prompt_tokens_total",),
    completion=("trtllm_generation_tokens_total",),
    cached=("trtllm_prompt_cached_tokens_total",),
    requests=("trtllm_request_success_total",),
    in_flight=("trtllm_num_requests_running",),
    failed=frozenset({"abort", "error"}),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "trtllm", Kind.SERVER, "TensorRT-LLM (trtllm-serve)", lambda options, environment: COUNTERS
)
