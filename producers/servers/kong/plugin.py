"""Kong's AI metrics (`ai_metrics` of its Prometheus plugin)."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

_COMPUTED = 'cache_status!~"(?i)hit.*"'
"""Of tokens that its semantic cache answered no GPU computed one."""
COUNTERS = NamedCounters(
    name="kong",
    prompt=(f'kong_ai_llm_tokens_total{{token_type="prompt_tokens",{_COMPUTED}}}',),
    completion=(f'kong_ai_llm_tokens_total{{token_type="completion_tokens",{_COMPUTED}}}',),
    requests=("kong_ai_llm_requests_total",),
    model_labels=("ai_model",),
    tenant_labels=("consumer",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "kong", Kind.SERVER, "Kong AI Gateway", lambda options, environment: COUNTERS
)
