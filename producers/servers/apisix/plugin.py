"""Apache APISIX' LLM metrics (`ai-proxy` and its Prometheus plugin)."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="apisix",
    prompt=("apisix_llm_prompt_tokens",),
    completion=("apisix_llm_completion_tokens",),
    requests=('apisix_llm_latency_count{type!="ttft"}',),
    in_flight=("apisix_llm_active_connections",),
    model_labels=("llm_model",),
    tenant_labels=("consumer",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "apisix", Kind.SERVER, "Apache APISIX", lambda options, environment: COUNTERS
)
