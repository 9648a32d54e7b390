"""llama.cpp's `llama-server --metrics`. It counts the prompt tokens that it computed, without those of its cache."""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

COUNTERS = NamedCounters(
    name="llamacpp",
    prompt=("llamacpp:prompt_tokens_total",),
    completion=("llamacpp:tokens_predicted_total",),
    in_flight=("llamacpp:requests_processing",),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin(
    "llamacpp", Kind.SERVER, "llama.cpp's llama-server", lambda options, environment: COUNTERS
)
