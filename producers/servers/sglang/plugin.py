"""SGLang. It counts a request's tokens when the request finishes and, where it has `realtime_tokens_total`, as they are
made.

With `--enable-metrics-for-all-schedulers` each rank of a replica shows the tokens that all of its ranks made together.
"""

from __future__ import annotations

from producers.api import Kind, Plugin
from producers.servers.token_counters import NamedCounters

LIVE = "sglang:realtime_tokens_total"
COUNTERS = NamedCounters(
    name="sglang",
    prompt=(f'{LIVE}{{mode=~"prefill_compute|prefill_cache"}}', "sglang:prompt_tokens_total"),
    completion=(f'{LIVE}{{mode="decode"}}', "sglang:generation_tokens_total"),
    cached=(f'{LIVE}{{mode="prefill_cache"}}', "sglang:cached_tokens_total"),
    requests=("sglang:num_requests_total", "sglang:e2e_request_latency_seconds_count"),
    failures=("sglang:num_aborted_requests_total",),
    life_s=("sglang:e2e_request_latency_seconds_sum",),
    in_flight=("sglang:num_running_reqs",),
    copies=("tp_rank", "pp_rank", "moe_ep_rank"),
    live=(LIVE,),
)

PLUGIN: Plugin[None, NamedCounters] = Plugin("sglang", Kind.SERVER, "SGLang", lambda options, environment: COUNTERS)
