"""Inference servers' counters: recorded pages, and the use between two snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.events import MAX_TOKENS, TokenBatch
from contracts.settings import Settings
from producers import registry
from producers.api import Kind, TokenCounters
from producers.common import prometheus_text
from producers.servers import counter_snapshots
from producers.servers.scrape import ServedWorkload, ServerSource
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


def _snapshot(
    t: int, started: int | None = None, **models: ServedTotals
) -> tuple[int, int | None, dict[str, ServedTotals]]:
    return T0 + 1_000 * t, started, models


def _steps(*snapshots: tuple[int, int | None, dict[str, ServedTotals]]) -> list[counter_snapshots.ServedRow]:
    state: counter_snapshots.ServerCounterSnapshot | None = None
    rows: list[counter_snapshots.ServedRow] = []
    for t_ms, started, now in snapshots:
        state, more = counter_snapshots.served_since(state, t_ms, started, now)
        rows += more
    return rows


def test_the_first_snapshot_counts_nothing() -> None:
    assert _steps(_snapshot(0, m=ServedTotals(100, 10, 50, 3))) == []


def test_the_use_between_two_snapshots_is_the_growth_of_the_counters() -> None:
    [row] = _steps(_snapshot(0, m=ServedTotals(100, 10, 50, 3)), _snapshot(10, m=ServedTotals(160, 30, 90, 5)))
    assert row == counter_snapshots.ServedRow("m", "ok", T0, T0 + 10_000, ServedTotals(60, 20, 40, 2))


def test_failures_have_a_row_of_their_own() -> None:
    rows = _steps(_snapshot(0, m=ServedTotals()), _snapshot(10, m=ServedTotals(6, 0, 4, 2, 3)))
    assert [(r.status, r.served.requests, r.served.completion_tokens) for r in rows] == [("ok", 2, 4), ("error", 3, 0)]


def test_requests_counted_at_their_end_began_a_mean_duration_before() -> None:
    [row] = _steps(_snapshot(0, m=ServedTotals()), _snapshot(10, m=ServedTotals(6, 0, 4, requests=2, life_ms=50_000)))
    assert (row.t0_ms, row.t1_ms) == (T0 - 25_000, T0 + 10_000)


def test_a_restarted_server_has_counted_since_its_start() -> None:
    [row] = _steps(
        _snapshot(0, T0 - 9_000, m=ServedTotals(100, 0, 50, 3)),
        _snapshot(10, T0 + 4_000, m=ServedTotals(120, 0, 60, 4)),
    )
    assert row == counter_snapshots.ServedRow("m", "ok", T0 + 4_000, T0 + 10_000, ServedTotals(120, 0, 60, 4))


def test_a_counter_that_went_back_is_a_restart_where_no_start_time_is_given() -> None:
    [row] = _steps(_snapshot(0, m=ServedTotals(100, 0, 50, 3)), _snapshot(10, m=ServedTotals(20, 0, 10, 1)))
    assert row.served == ServedTotals(20, 0, 10, 1)


def test_a_model_missing_for_one_snapshot_is_not_counted_again() -> None:
    rows = _steps(_snapshot(0, m=ServedTotals(100)), _snapshot(10), _snapshot(20, m=ServedTotals(130)))
    assert [r.served.prompt_tokens for r in rows] == [30]


def test_cached_tokens_ahead_of_their_prompts_count_when_those_follow() -> None:
    rows = _steps(
        _snapshot(0, m=ServedTotals()),
        _snapshot(10, m=ServedTotals(10, 14, 1)),
        _snapshot(20, m=ServedTotals(30, 16, 1)),
    )
    assert [(r.served.prompt_tokens, r.served.cached_tokens) for r in rows] == [(10, 10), (20, 6)]


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 5), st.booleans()),
        max_size=20,
    )
)
def test_everything_on_a_page_counts_once_through_any_restarts(steps: list[tuple[int, int, int, int, bool]]) -> None:
    snapshots, now, began, totals = [_snapshot(0, T0, m=ServedTotals())], ServedTotals(), T0, np.zeros(3, int)
    for t, (prompt, cached, completion, requests, restarts) in enumerate(steps, 1):
        if restarts:
            now, began = ServedTotals(), T0 + 10_000 * t - 5_000
        grown = (prompt, min(cached, prompt), completion)
        totals += grown
        now = ServedTotals(now[0] + grown[0], now[1] + grown[1], now[2] + grown[2], now[3] + requests)
        snapshots.append(_snapshot(10 * t, began, m=now))
    rows = _steps(*snapshots)
    assert [sum(r.served[i] for r in rows) for i in range(3)] == totals.tolist()
    assert all(r.t0_ms <= r.t1_ms for r in rows)


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
    rows = [counter_snapshots.ServedRow("m", "ok", T0, T0 + 1, ServedTotals(5 * MAX_TOKENS, 0, 3, 9))]
    b = counter_snapshots.served_batch(rows, "acme", "vllm", T0 + 1)
    b.check()
    assert len(b) > 5
    assert int(b.prompt_tokens.sum()) == 5 * MAX_TOKENS
    assert b.requests is not None
    assert int(b.requests.sum()) == 9
