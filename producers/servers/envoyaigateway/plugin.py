"""Envoy AI Gateway's GenAI metrics."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="envoyaigateway",
    prompt=('gen_ai_client_token_usage_token_sum{gen_ai_token_type="input"}',),
    completion=('gen_ai_client_token_usage_token_sum{gen_ai_token_type="output"}',),
    cached=('gen_ai_client_token_usage_token_sum{gen_ai_token_type="cached_input"}',),
    requests=("gen_ai_server_request_duration_seconds_count",),
    model_labels=("gen_ai_response_model", "gen_ai_request_model"),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "envoyaigateway", Kind.SERVER, "Envoy AI Gateway", lambda options, environment: COUNTERS
)
