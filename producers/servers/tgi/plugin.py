"""Hugging Face TGI. Its token metrics are histograms of finished requests: their sums count. It names no model."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="tgi",
    prompt=("tgi_request_input_length_sum",),
    completion=("tgi_request_generated_tokens_sum",),
    requests=("tgi_request_success", "tgi_request_duration_count"),
    failures=("tgi_request_failure",),
    life_s=("tgi_request_duration_sum",),
    in_flight=("tgi_batch_current_size",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "tgi", Kind.SERVER, "Hugging Face TGI", lambda options, environment: COUNTERS
)
