"""Inference servers' counters: recorded pages, and the use between two snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from contracts.errors import BadInput
from contracts.events import MAX_TOKENS, TokenBatch, UsageBatch
from contracts.settings import Settings
from producers import registry
from producers.api import Kind, TokenCounters
from producers.common import prometheus_text
from producers.servers.counter_names import parse_name
from producers.servers.scrape import ServedWorkload, ServerSource
from producers.servers.served_rows import ServedRow, served_batch
from producers.servers.token_counters import NamedCounters, ServedTotals
from tests.producers.frame import environment
from tests.support.clocks import T0, clock_at

CHAT = ServedWorkload("east", "chat", "acme")
LLAMA, QWEN = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-Coder-1.5B-Instruct"


KNOWN: Mapping[str, TokenCounters] = {
    plugin.name: plugin.factory(None, environment(Settings())) for plugin in registry.plugins(Kind.SERVER)
}


@pytest.mark.parametrize(
    ("server", "file", "model", "served"),
    [
        ("vllm", "vllm_v0_opt-125m_full_datadog.prom", "facebook/opt-125m", ServedTotals(5, 0, 7, 1)),
        ("vllm", "vllm_v0_qwen2.5-coder_aibrix_docs.prom", QWEN, ServedTotals(148, 0, 955, 4)),
        ("sglang", "sglang_llama3.1-8b_docs.prom", LLAMA, ServedTotals(7, 0, 8, 1, 0, 305)),
    ],
)
def test_recorded_pages_give_the_served_totals(
    shared_data: Path, server: str, file: str, model: str, served: ServedTotals
) -> None:
    samples = prometheus_text.parse_page((shared_data / "metrics" / file).read_text("utf-8"))
    assert KNOWN[server].served(samples)[model]._replace(cached_tokens=0) == served
    assert [name for name, other in KNOWN.items() if name != "triton" and other.served(samples)] == [server]


def test_triton_gives_requests_and_no_tokens(shared_data: Path) -> None:
    samples = prometheus_text.parse_page(
        (shared_data / "metrics" / "tensorrtllm_backend_readme.prom").read_text("utf-8")
    )
    assert set(KNOWN["triton"].served(samples)) == {"tensorrt_llm"}
    assert not KNOWN["trtllm"].served(samples)


NEW_VLLM = """
vllm:prompt_tokens_total{engine="0",model_name="m"} 100
vllm:prompt_tokens_total{engine="1",model_name="m"} 50
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 60
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 30
vllm:prompt_tokens_by_source_total{engine="1",model_name="m",source="external_kv_transfer"} 10
vllm:generation_tokens_total{engine="0",model_name="m"} 7
vllm:generation_tokens_total{engine="1",model_name="n"} 8
vllm:request_success_total{engine="0",model_name="m",finished_reason="stop"} 3
vllm:request_success_total{engine="0",model_name="m",finished_reason="abort"} 2
vllm:num_requests_running{engine="0",model_name="m"} 4
"""


def test_engines_are_summed_and_models_are_separate() -> None:
    assert KNOWN["vllm"].served(prometheus_text.parse_page(NEW_VLLM)) == {
        "m": ServedTotals(150, 40, 7, 3, 2),
        "n": ServedTotals(0, 0, 8),
    }
    assert KNOWN["vllm"].running(prometheus_text.parse_page(NEW_VLLM)) == 4


def test_a_metric_with_an_old_and_a_new_name_counts_once() -> None:
    both = "vllm:prompt_tokens_total 9\nvllm:prompt_tokens_cached_total 5\nvllm:gpu_prefix_cache_hits_total 4\n"
    assert KNOWN["vllm"].served(prometheus_text.parse_page(both)) == {"": ServedTotals(9, 5, 0)}


TGI = """
tgi_request_input_length_sum 120
tgi_request_generated_tokens_sum 80
tgi_request_success{method="generate"} 3
tgi_request_success{method="batch"} 1
tgi_request_duration_sum 8
tgi_request_duration_count 4
"""


def test_tgis_histograms_are_sums_of_finished_requests() -> None:
    assert KNOWN["tgi"].served(prometheus_text.parse_page(TGI)) == {"": ServedTotals(120, 0, 80, 4, 0, 8_000)}


def test_an_unknown_server_is_read_by_configured_names() -> None:
    mine = NamedCounters("mine", prompt=("in_total",), completion=("out_total",), model_labels=("served",))
    assert mine.served(prometheus_text.parse_page('in_total{served="x"} 3\nout_total{served="x"} 4\n')) == {
        "x": ServedTotals(3, 0, 4)
    }


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "1e300"])
def test_an_invalid_counter_is_refused_by_name(value: str) -> None:
    page = prometheus_text.parse_page(f"vllm:prompt_tokens_total {value}\n")
    assert KNOWN["vllm"].served(page) == {"": None}
    [refused] = page.refused
    assert "vllm:prompt_tokens_total" in refused


def test_an_invalid_page_is_refused() -> None:
    with pytest.raises(BadInput, match="Prometheus"):
        prometheus_text.parse_page("<html>502 Bad Gateway</html>")


def test_the_rows_of_a_server_name_model_tenant_and_time() -> None:
    pages = iter([NEW_VLLM, NEW_VLLM.replace("} 7", "} 107").replace("} 3", "} 5")])
    server = ServerSource(KNOWN["vllm"], "gpu-1:8000", CHAT, 10_000, lambda: next(pages))
    first = server.collect(None, clock_at(T0))
    assert [len(m.batch) for m in first.batches] == [0]
    [batch] = server.collect(first.checkpoint, clock_at(T0 + 10_000)).batches
    assert (batch.cluster, batch.workload, batch.node) == ("east", "chat", "gpu-1:8000")
    b = batch.batch
    assert isinstance(b, TokenBatch)
    b.check()
    assert (b.tenants, b.models, b.completion_tokens.tolist()) == (("acme",), ("m",), [100])
    assert b.requests is not None
    assert b.requests.tolist() == [2]
    assert (b.t_start_ms.tolist(), b.t_end_ms.tolist(), b.t_ms) == ([T0], [T0 + 10_000], T0 + 10_000)


def test_a_page_of_another_server_is_reported() -> None:
    server = ServerSource(KNOWN["vllm"], "gpu-1:8000", CHAT, 10_000, lambda: TGI)
    with pytest.raises(BadInput, match="no counters of vllm"):
        server.collect(None, clock_at(T0))


def test_more_tokens_than_a_row_may_hold_are_several_rows() -> None:
    rows = [ServedRow("m", "ok", T0, T0 + 1, ServedTotals(5 * MAX_TOKENS, 0, 3, 9))]
    b = served_batch(rows, "acme", "vllm", T0 + 1)
    b.check()
    assert len(b) > 5
    assert int(b.prompt_tokens.sum()) == 5 * MAX_TOKENS
    assert b.requests is not None
    assert int(b.requests.sum()) == 9


# Names with selectors


SELECTED = """
usage_sum{kind="input",model="m",team="blue"} 70
usage_sum{kind="output",model="m",team="blue"} 7
usage_sum{kind="input",model="m",team="None"} 5
usage_sum{kind="cached",model="m",team="blue"} 20
usage_sum{kind="x,\\"y\\"}",model="m"} 3
"""


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("usage_sum", 105),
        ('usage_sum{kind="input"}', 75),
        ('usage_sum{ kind = "input" , team="blue" }', 70),
        ('usage_sum{kind!="input"}', 30),
        ('usage_sum{kind=~"in.*|out.*"}', 82),
        ('usage_sum{kind!~"in.*|out.*"}', 23),
        ('usage_sum{kind="x,\\"y\\"}"}', 3),
        ('usage_sum{kind="input"} + usage_sum{kind="cached"}', 95),
        ('usage_sum{team=""}', 3),
        ("usage_sum{}", 105),
    ],
)
def test_a_name_selects_samples_by_their_labels_and_adds(name: str, total: int) -> None:
    counters = NamedCounters("own", prompt=(name,), completion=("out",))
    assert counters.served(prometheus_text.parse_page(SELECTED)) == {"m": ServedTotals(total)}


@pytest.mark.parametrize("name", ["", "a b", "a{", 'a{b="c}', "a{b=c}", "a{b~'c'}", "a +", "+ a", 'a{b=~"("}', "a{b}"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_name(name)


def test_a_label_names_the_tenant_and_the_server_s_own_pays_for_the_others() -> None:
    page = prometheus_text.parse_page(SELECTED + 'usage_sum{kind="input",model="m",team="__idle__"} 1\n')
    counters = NamedCounters(
        "own", prompt=('usage_sum{kind="input"}',), completion=("out",), tenant_labels=("user", "team")
    )
    assert [(s.tenant, s.value) for s in counters.series(page)] == [("blue", 70), ("", 5), ("", 1)]
    [refused] = page.refused
    assert "__idle__" in refused


def test_vllm_adds_external_hits_where_no_counter_says_what_was_cached() -> None:
    page = "vllm:prompt_tokens_total 90\nvllm:prefix_cache_hits_total 20\nvllm:external_prefix_cache_hits_total 30\n"
    by_source = 'vllm:prompt_tokens_by_source_total{source="local_cache_hit"} 45\n'
    for text, cached in ((page, 50), (page + by_source, 45), (page + "vllm:prompt_tokens_cached_total 40\n", 40)):
        assert KNOWN["vllm"].served(prometheus_text.parse_page(text)) == {"": ServedTotals(90, cached)}


SGLANG = """
sglang:prompt_tokens_total{model_name="m",tp_rank="0"} 100
sglang:generation_tokens_total{model_name="m",tp_rank="0"} 10
sglang:num_requests_total{model_name="m",tp_rank="0"} 2
sglang:e2e_request_latency_seconds_sum{model_name="m",tp_rank="0"} 8
"""
REALTIME = "".join(
    f'sglang:realtime_tokens_total{{dp_rank="{dp}",mode="{mode}",model_name="m",tp_rank="{tp}"}} {value}\n'
    for dp, tp in ((0, 0), (0, 1), (1, 10), (1, 2))
    for mode, value in (("prefill_compute", 60), ("prefill_cache", 70), ("decode", 15))
)


def test_sglang_counts_tokens_as_they_are_made_where_it_says_so_and_each_replica_once() -> None:
    assert KNOWN["sglang"].served(prometheus_text.parse_page(SGLANG)) == {"m": ServedTotals(100, 0, 10, 2, 0, 8_000)}
    page = prometheus_text.parse_page(SGLANG + REALTIME)
    assert KNOWN["sglang"].served(page) == {"m": ServedTotals(260, 140, 30, 2)}
    without_a_rank = "".join(line + "\n" for line in REALTIME.splitlines() if 'tp_rank="0"' not in line)
    [keys, others] = [
        {s.key: s.value for s in KNOWN["sglang"].series(prometheus_text.parse_page(text))}
        for text in (REALTIME, without_a_rank)
    ]
    assert keys == others


def test_sglang_s_names_have_an_underscore_on_its_gateway_s_page() -> None:
    totals = KNOWN["sglang"].served(prometheus_text.parse_page(SGLANG + REALTIME))
    gateway = prometheus_text.parse_page((SGLANG + REALTIME).replace("sglang:", "sglang_"))
    assert KNOWN["sglang"].served(gateway) == totals


def test_the_decode_half_of_a_prefill_decode_deployment_is_reported_once() -> None:
    def page(n: int) -> str:
        return (
            f"vllm:prompt_tokens_total {1_000 * n}\nvllm:prompt_tokens_cached_total {999 * n}\n"
            f"vllm:request_success_total {n}\nprocess_start_time_seconds {T0 / 1000 - 99.5}\n"
        )

    pages = iter([page(n) for n in (10, 30, 31)])
    server = ServerSource(KNOWN["vllm"], "gpu-1:8000", CHAT, 10_000, lambda: next(pages))
    checkpoint, notes = None, []
    for t in range(3):
        result = server.collect(checkpoint, clock_at(T0 + 10_000 * t))
        checkpoint, notes = result.checkpoint, [*notes, *result.notes]
    [note] = notes
    assert "all but one token of each prompt" in note


def test_a_page_of_another_server_is_named() -> None:
    server = ServerSource(KNOWN["vllm"], "gpu-1:8000", CHAT, 10_000, lambda: SGLANG)
    with pytest.raises(BadInput, match=r"no counters of vllm: .* It looks like sglang"):
        server.collect(None, clock_at(T0))
    server = ServerSource(KNOWN["vllm"], "gpu-1:8000", CHAT, 10_000, lambda: "node_cpu_seconds_total 3\n")
    with pytest.raises(BadInput, match="It begins with node_cpu_seconds_total"):
        server.collect(None, clock_at(T0))


def test_a_name_that_stands_for_several_addresses_counts_nothing_from_then_on() -> None:
    addresses = [("10.0.0.1",), ("10.0.0.1", "10.0.0.2"), ("10.0.0.1",)]
    server = ServerSource(
        KNOWN["tgi"], "http://vllm:8000", CHAT, 10_000, lambda: TGI, addresses=lambda: addresses.pop(0)
    )
    first = server.collect(None, clock_at(T0))
    several = server.collect(first.checkpoint, clock_at(T0 + 10_000))
    [text] = several.refused
    assert "stands for 2 addresses (10.0.0.1, 10.0.0.2): this is a Service in front of several pods" in text
    after = server.collect(several.checkpoint, clock_at(T0 + 20_000))
    assert (after.batches, len(after.refused)) == ([], 1)


def test_counters_for_comparison_are_usage_and_no_requests() -> None:
    pages = iter([TGI, TGI.replace(" 120", " 150").replace('generate"} 3', 'generate"} 5')])
    serves = ServedWorkload("east", "chat", "acme", "compare")
    server = ServerSource(KNOWN["tgi"], "gpu-1:8000", serves, 10_000, lambda: next(pages))
    first = server.collect(None, clock_at(T0))
    assert first.batches == []
    [message] = server.collect(first.checkpoint, clock_at(T0 + 10_000)).batches
    b = message.batch
    assert isinstance(b, UsageBatch)
    b.check()
    assert dict(zip(b.meter, b.quantity, strict=True)) == {"server_prompt_tokens": "30", "server_requests": "2"}
    assert (message.workload, set(b.tenant), b.dimensions[0]) == (
        "chat", {"acme"}, {"model": "unknown", "status": "ok"},
    )  # fmt: skip


# Presets: what each page's counters are


PRESETS = {
    "llamacpp": ("llamacpp:prompt_tokens_total 9\nllamacpp:tokens_predicted_total 5\n", "", ServedTotals(9, 0, 5)),
    "lmdeploy": (
        'lmdeploy:prompt_tokens_total{model_name="m"} 9\nlmdeploy:generation_tokens_total{model_name="m"} 5\n'
        'lmdeploy:request_success_total{model_name="m",finished_reason="stop"} 2\n',
        "m", ServedTotals(9, 0, 5, 2),
    ),
    "nim": (
        'prompt_tokens_total{model_name="m"} 9\ngeneration_tokens_total{model_name="m"} 5\n'
        'request_success_total{model_name="m"} 2\nrequest_failure_total{model_name="m"} 1\n'
        'request_finish_total{model_name="m",finished_reason="stop"} 3\n',
        "m", ServedTotals(9, 0, 5, 2, 1),
    ),
    "dynamo": (
        'dynamo_frontend_input_sequence_tokens_sum{model="m"} 9\ndynamo_frontend_cached_tokens_sum{model="m"} 4\n'
        'dynamo_frontend_output_tokens_total{model="m"} 5\ndynamo_frontend_output_sequence_tokens_sum{model="m"} 5\n'
        'dynamo_frontend_requests_total{model="m",status="success"} 2\n'
        'dynamo_frontend_requests_total{model="m",status="error"} 1\n',
        "m", ServedTotals(9, 4, 5, 2, 1),
    ),
    "ray": (
        'ray_vllm_prompt_tokens_total{model_name="m",WorkerId="a"} 4\n'
        'ray_vllm_prompt_tokens_total{model_name="m",WorkerId="b"} 5\n'
        'ray_vllm_prefix_cache_hits_total{model_name="m"} 2\n'
        'ray_vllm_external_prefix_cache_hits_total{model_name="m"} 1\n'
        'ray_vllm_generation_tokens_total{model_name="m"} 5\n',
        "m", ServedTotals(9, 3, 5),
    ),
    "llmd": (
        'llm_d_epp_request_input_tokens_sum{model_name="m",fairness_id="blue"} 9\n'
        'inference_objective_input_tokens_sum{model_name="m"} 9\n'
        'llm_d_epp_request_cached_tokens_sum{model_name="m"} 4\n'
        'llm_d_epp_request_output_tokens_sum{model_name="m"} 5\n',
        "m", ServedTotals(9, 4, 5),
    ),
    "litellm": (
        'litellm_input_tokens_metric_total{model="m",team="t1",team_alias="blue"} 9\n'
        'litellm_input_cached_tokens_metric_total{model="m",team_alias="blue"} 4\n'
        'litellm_output_tokens_metric_total{model="m",team_alias="blue"} 5\n',
        "m", ServedTotals(9, 4, 5),
    ),
    "kong": (
        'kong_ai_llm_tokens_total{ai_model="m",token_type="prompt_tokens",consumer="blue"} 9\n'
        'kong_ai_llm_tokens_total{ai_model="m",token_type="completion_tokens",consumer="blue"} 5\n'
        'kong_ai_llm_tokens_total{ai_model="m",token_type="total_tokens",consumer="blue"} 14\n'
        'kong_ai_llm_tokens_total{ai_model="m",token_type="prompt_tokens",cache_status="hit",consumer="blue"} 90\n'
        'kong_ai_llm_tokens_total{ai_model="m",token_type="completion_tokens",cache_status="Hit",consumer="blue"} 9\n'
        'kong_ai_llm_requests_total{ai_model="m",consumer="blue"} 2\n',
        "m", ServedTotals(9, 0, 5, 2),
    ),
    "apisix": (
        'apisix_llm_prompt_tokens{llm_model="m",consumer="blue"} 9\n'
        'apisix_llm_completion_tokens{llm_model="m",consumer="blue"} 5\n'
        'apisix_llm_latency_count{llm_model="m",consumer="blue",type="total"} 2\n'
        'apisix_llm_latency_count{llm_model="m",consumer="blue",type="ttft"} 2\n',
        "m", ServedTotals(9, 0, 5, 2),
    ),
    "agentgateway": (
        "".join(
            f'agentgateway_gen_ai_client_token_usage_sum{{gen_ai_token_type="{kind}",gen_ai_request_model="m"}} {n}\n'
            for kind, n in (("input", 9), ("output", 5), ("input_cache_read", 4))
        ),
        "m", ServedTotals(9, 4, 5),
    ),
    "envoyaigateway": (
        "".join(
            f'gen_ai_client_token_usage_token_sum{{gen_ai_token_type="{kind}",gen_ai_request_model="m"}} {n}\n'
            for kind, n in (("input", 9), ("output", 5), ("cached_input", 4))
        ),
        "m", ServedTotals(9, 4, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("server", "case"), PRESETS.items(), ids=PRESETS)
def test_a_preset_gives_the_totals_of_its_page_and_is_recognised(
    server: str, case: tuple[str, str, ServedTotals]
) -> None:
    text, model, totals = case
    page = prometheus_text.parse_page(text)
    assert KNOWN[server].served(page) == {model: totals}
    assert [name for name, other in KNOWN.items() if other.served(page)] == [server]
    assert {s.tenant for s in KNOWN[server].series(page)} <= {"", "blue"}


def test_an_address_counts_for_several_workloads_each_with_its_models() -> None:
    page = 'vllm:prompt_tokens_total{model_name="llama-8b"} %d\nvllm:prompt_tokens_total{model_name="qwen"} %d\n'
    pages = iter([page % (5, 7), page % (6, 9)])
    server = ServerSource(KNOWN["vllm"], "a#chat", CHAT, 10_000, lambda: next(pages), models=("llama*",))
    first = server.collect(None, clock_at(T0))
    [message] = server.collect(first.checkpoint, clock_at(T0 + 10_000)).batches
    assert isinstance(message.batch, TokenBatch)
    assert (message.batch.models, message.batch.prompt_tokens.tolist()) == (("llama-8b",), [1])
