"""NVIDIA NIM for LLMs, whose counters have no prefix. A NIM that passes vLLM's page through is read as `vllm`."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="nim",
    prompt=("prompt_tokens_total",),
    completion=("generation_tokens_total",),
    requests=("request_success_total", "request_finish_total"),
    failures=("request_failure_total",),
    in_flight=("num_requests_running",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "nim", Kind.SERVER, "NVIDIA NIM for LLMs", lambda options, environment: COUNTERS
)
