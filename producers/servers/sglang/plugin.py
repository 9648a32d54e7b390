"""SGLang. It counts a request's tokens when the request finishes and, where it has `realtime_tokens_total`, as they are
made.

With `--enable-metrics-for-all-schedulers` each rank of a replica shows the tokens that all of its ranks made together.
"""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters


def _names(*names: str) -> tuple[str, ...]:
    """Return names with both prefixes: SGLang's own, and that of its gateway's page."""
    return tuple(f"{prefix}{name}" for name in names for prefix in ("sglang:", "sglang_"))


LIVE = "realtime_tokens_total"
COUNTERS = NamedCounters(
    name="sglang",
    prompt=_names(f'{LIVE}{{mode=~"prefill_compute|prefill_cache"}}', "prompt_tokens_total"),
    completion=_names(f'{LIVE}{{mode="decode"}}', "generation_tokens_total"),
    cached=_names(f'{LIVE}{{mode="prefill_cache"}}', "cached_tokens_total"),
    requests=_names("num_requests_total", "e2e_request_latency_seconds_count"),
    failures=_names("num_aborted_requests_total"),
    life_s=_names("e2e_request_latency_seconds_sum"),
    in_flight=_names("num_running_reqs"),
    model_labels=("model_name", "model", "name"),
    copies=("tp_rank", "pp_rank", "moe_ep_rank", "moe_tp_rank", "attn_tp_rank", "attn_cp_rank", "dcp_rank"),
    live=_names(LIVE),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin("sglang", Kind.SERVER, "SGLang", lambda options, environment: COUNTERS)
