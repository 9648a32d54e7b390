"""SGLang. It counts a request's tokens when the request finishes."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="sglang",
    prompt=("sglang:prompt_tokens_total",),
    completion=("sglang:generation_tokens_total",),
    cached=("sglang:cached_tokens_total",),
    requests=("sglang:num_requests_total", "sglang:e2e_request_latency_seconds_count"),
    failures=("sglang:num_aborted_requests_total",),
    life_s=("sglang:e2e_request_latency_seconds_sum",),
    in_flight=("sglang:num_running_reqs",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin("sglang", Kind.SERVER, "SGLang", lambda options, environment: COUNTERS)
