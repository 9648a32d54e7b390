"""llm-d's endpoint picker (EPP), and that of the Gateway API inference extension. The servers' own pages are vLLM's."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="llmd",
    prompt=("llm_d_epp_request_input_tokens_sum", "inference_objective_input_tokens_sum"),
    completion=("llm_d_epp_request_output_tokens_sum", "inference_objective_output_tokens_sum"),
    cached=("llm_d_epp_request_cached_tokens_sum", "inference_objective_prompt_cached_tokens_sum"),
    requests=("llm_d_epp_request_duration_seconds_count", "inference_objective_request_duration_seconds_count"),
    life_s=("llm_d_epp_request_duration_seconds_sum", "inference_objective_request_duration_seconds_sum"),
    in_flight=("llm_d_epp_request_running", "inference_objective_running_requests"),
    tenant_labels=("tenant_id", "fairness_id"),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "llmd", Kind.SERVER, "llm-d's endpoint picker (EPP)", lambda options, environment: COUNTERS
)
