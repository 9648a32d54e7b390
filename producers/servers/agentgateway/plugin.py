"""agentgateway's GenAI metrics."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="agentgateway",
    prompt=('agentgateway_gen_ai_client_token_usage_sum{gen_ai_token_type="input"}',),
    completion=('agentgateway_gen_ai_client_token_usage_sum{gen_ai_token_type="output"}',),
    cached=('agentgateway_gen_ai_client_token_usage_sum{gen_ai_token_type="input_cache_read"}',),
    requests=("agentgateway_gen_ai_server_request_duration_count",),
    model_labels=("gen_ai_response_model", "gen_ai_request_model"),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "agentgateway", Kind.SERVER, "agentgateway", lambda options, environment: COUNTERS
)
