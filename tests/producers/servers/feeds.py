"""Feeds of `wattlog produce servers` and each inference server: a page, a line, the value of one model of two."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from contracts.events import TokenBatch
from producers.api import TokenCounters
from producers.bindings.config import PodLabelNames
from producers.bindings.kubernetes.pod_watch import PodsView
from producers.bindings.kubernetes.serving_pod import ServingPod
from producers.servers.pods import PodGroup, PodServers
from producers.servers.scrape import ServedWorkload, ServerSource
from producers.servers.token_counters import NamedCounters
from producers.servers.token_limits import DEFAULT_LIMIT
from tests.producers.bindings.kubernetes.stand_ins import serving_pod
from tests.producers.conformance import VALUES, Feed, Outcome, Piece, poll, refusals
from tests.producers.frame import token_counters
from tests.support.clocks import FakeClock

COUNTERS = {
    "vllm": ("vllm:prompt_tokens_total", "model_name"),
    "sglang": ("sglang:prompt_tokens_total", "model_name"),
    "tgi": ("tgi_request_input_length_sum", ""),
    "trtllm": ("trtllm_prompt_tokens_total", "model_name"),
    "triton": ("nv_inference_request_success", "model"),
    "servers": ("own_prompt_tokens_total", "model"),
}
"""By server, a counter of its page, and the label that names a model."""
PRESETS = {
    "llamacpp": ("llamacpp:prompt_tokens_total", ""),
    "lmdeploy": ("lmdeploy:prompt_tokens_total", "model_name"),
    "nim": ("prompt_tokens_total", "model_name"),
    "dynamo": ("dynamo_frontend_input_sequence_tokens_sum", "model"),
    "ray": ("ray_vllm_prompt_tokens_total", "model_name"),
    "llmd": ("llm_d_epp_request_input_tokens_sum", "model_name"),
    "litellm": ("litellm_input_tokens_metric_total", "model"),
    "kong": ("kong_ai_llm_tokens_total", 'token_type="prompt_tokens",ai_model'),
    "apisix": ("apisix_llm_prompt_tokens", "llm_model"),
    "agentgateway": (
        "agentgateway_gen_ai_client_token_usage_sum", 'gen_ai_token_type="input",gen_ai_response_model',
    ),
    "envoyaigateway": ("gen_ai_client_token_usage_token_sum", 'gen_ai_token_type="input",gen_ai_response_model'),
}  # fmt: skip
"""The same of servers that are names only: they are fed a few values, since the code is that of the others."""
FEW = {name: VALUES[name] for name in ("cut", "NaN", "text")}
OWN = NamedCounters("own", ("own_prompt_tokens_total",), ("own_completion_tokens_total",))


def _run(server: str, place: str, piece: Piece, folder: Path) -> Outcome:
    name, label = (COUNTERS | PRESETS)[server]
    clock, models = FakeClock(5_500), ("a", "b") if label else ("",)
    counters: TokenCounters = OWN if server == "servers" else token_counters(server)

    def fetch() -> str:
        count = str(clock.now_ms // 100)
        lines = [f'{name}{{{label}="{model}"}}' if label else name for model in models]
        if clock.now_ms != 3_000:
            return "".join(f"{line} {count}\n" for line in lines)
        text = piece.read().decode("utf-8", "replace")
        if place == "page":
            return text
        if place == "line":
            return "".join(f"{line} {count}\n" for line in lines) + text
        return "".join(f"{line} {count if n else text}\n" for n, line in enumerate(lines))

    source = ServerSource(counters, "http://a", ServedWorkload("c", "w", "acme"), 1_000, fetch)
    log, metrics = poll([source], folder, clock)
    batches = [e.batch for e in log.stored if isinstance(e.batch, TokenBatch) and len(e.batch)]
    column = "requests" if server == "triton" else "prompt_tokens"
    return Outcome(sum(int(getattr(b, column).sum()) for b in batches), 50 * len(models), refusals(metrics))


def _run_pods(piece: Piece, folder: Path) -> Outcome:
    """Two pods, of which one answers with a bad page once."""
    clock = FakeClock(5_500)

    def fetch(url: str) -> str:
        if "10.0.0.1" in url and clock.now_ms == 3_000:
            return str(piece.read().decode("utf-8", "replace"))
        return f'own_prompt_tokens_total{{model="m"}} {clock.now_ms // 100}\n'

    pods = [msgspec.convert(serving_pod(f"p{n}", f"10.0.0.{n}"), ServingPod) for n in (1, 2)]
    group = PodGroup("llm/a", lambda: PodsView(pods), OWN, DEFAULT_LIMIT, "c", workload="w", tenant="acme")
    with ThreadPoolExecutor(1) as executor:
        source = PodServers([group], PodLabelNames(), "label", every_ms=1_000, fetch=fetch, executor=executor)
        log, metrics = poll([source], folder, clock)
    batches = [e.batch for e in log.stored if isinstance(e.batch, TokenBatch) and len(e.batch)]
    return Outcome(sum(int(b.prompt_tokens.sum()) for b in batches), 100, refusals(metrics))


FEEDS = {
    server: [
        *(Feed(place, partial(_run, server, place), "page") for place in ("page", "value")),
        Feed("line", partial(_run, server, "line"), "page", VALUES),
    ]
    for server in COUNTERS
} | {server: [Feed("value", partial(_run, server, "value"), "page", FEW, {})] for server in PRESETS}
FEEDS["servers"].append(Feed("pod", _run_pods, "page"))
