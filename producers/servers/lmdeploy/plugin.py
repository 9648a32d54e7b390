"""LMDeploy's `api_server --enable-metrics`."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="lmdeploy",
    prompt=("lmdeploy:prompt_tokens_total",),
    completion=("lmdeploy:generation_tokens_total",),
    requests=("lmdeploy:request_success_total",),
    in_flight=("lmdeploy:num_requests_running",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin("lmdeploy", Kind.SERVER, "LMDeploy", lambda options, environment: COUNTERS)
