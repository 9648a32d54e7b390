"""LiteLLM's Prometheus metrics: tokens by tenant, where neither its callback nor its log is read."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="litellm",
    prompt=("litellm_input_tokens_metric_total",),
    completion=("litellm_output_tokens_metric_total",),
    cached=("litellm_input_cached_tokens_metric_total",),
    requests=("litellm_requests_metric_total",),
    model_labels=("model", "requested_model"),
    tenant_labels=("team_alias", "team", "api_key_alias"),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "litellm", Kind.SERVER, "LiteLLM's Prometheus metrics", lambda options, environment: COUNTERS
)
