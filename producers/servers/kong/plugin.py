"""Kong's AI metrics (`ai_metrics` of its Prometheus plugin)."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="kong",
    prompt=('kong_ai_llm_tokens_total{token_type="prompt_tokens"}',),
    completion=('kong_ai_llm_tokens_total{token_type="completion_tokens"}',),
    requests=("kong_ai_llm_requests_total",),
    model_labels=("ai_model",),
    tenant_labels=("consumer",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "kong", Kind.SERVER, "Kong AI Gateway", lambda options, environment: COUNTERS
)
