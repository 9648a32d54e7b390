"""Malformed parts of a Prometheus page are refused by name, and their neighbours are read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.events import TokenBatch
from producers.common.prometheus_text import (
    MAX_KEPT_CHARS,
    MAX_LINE_CHARS,
    MAX_REFUSED,
    MAX_SAMPLES,
    PrometheusPage,
    parse_page,
)
from producers.gpu.exporter.sensor import ExporterSensor
from producers.gpu.exporter_formats import DCGM
from producers.servers.scrape import ServedWorkload, ServerSource
from producers.servers.token_counters import ServedTotals
from tests.producers.frame import token_counters
from tests.support.clocks import clock_at

T0 = 1_700_000_000_000

GOOD = 'before_total{a="1"} 1\n{}\nafter_total{a="2"} 2\n'

MALFORMED = {
    "no value": 'x_total{a="1"}',
    "no number": 'x_total{a="1"} twelve',
    "cut in a label": 'x_total{a="1',
    "a label without quotes": "x_total{a=1} 5",
    "a label twice": 'x_total{a="1",a="2"} 5',
    "a label without an end": 'x_total{a="1", 5',
    "no name": "{} 5",
    "only braces": "}{",
    "a number too large for a float": "x_total " + "9" * 400,
    "markup": "<html>502 Bad Gateway</html>",
    "wrong encoding": "x_total\ufffd\ufffd 5",
    "longer than a line may be": 'x_total{a="' + "b" * MAX_LINE_CHARS + '"} 5',
    "thousands of escaped quotes, cut": 'x_total{a="' + '\\"' * 8_000,
    "nested braces": "x_total" + "{" * 10_000,
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_line_is_refused_and_its_neighbours_are_read(line: str) -> None:
    page = parse_page(GOOD.replace("{}", line))
    assert list(page.samples) == ["before_total", "after_total"]
    assert [bad.text for bad in page.malformed] == [line[:MAX_KEPT_CHARS]]
    assert len(page.refused[0]) < 300


@pytest.mark.parametrize(
    ("line", "label"),
    [(r'x{a="a\qb"} 5', r"a\qb"), (r'x{a="a\\b\"c\n"} 5', 'a\\b"c\n'), ('x{a="\x00\x1b"} 5', "\x00\x1b")],
)
def test_an_unknown_escape_in_a_label_is_unchanged(line: str, label: str) -> None:
    assert parse_page(line).get("x") == [({"a": label}, 5)]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e400", "-3"])
def test_an_invalid_counter_value_is_refused_by_name_and_others_are_read(value: str) -> None:
    page = parse_page(f'c_total{{m="a"}} {value}\nc_total{{m="b"}} 4\n')
    assert list(page.counter(("c_total",))) == [({"m": "a"}, None), ({"m": "b"}, 4)]
    [refused] = page.refused
    assert refused.startswith("'c_total ")


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e400", "1e300", "-3"])
def test_an_invalid_start_time_is_refused_and_unknown(value: str) -> None:
    page = parse_page(f"process_start_time_seconds {value}\n")
    assert page.timestamp_ms("process_start_time_seconds", 10**15) is None
    assert "process_start_time_seconds" in page.refused[0]


def test_a_page_of_garbage_and_an_endless_page_are_refused_as_a_whole() -> None:
    with pytest.raises(BadInput, match="Prometheus"):
        parse_page("x 1\n" + "garbage\n" * (MAX_REFUSED + 1))
    with pytest.raises(BadInput, match="samples"):
        parse_page("x 1\n" * (MAX_SAMPLES + 1))


@given(st.text(max_size=200))
def test_any_text_is_read_or_raises_bad_input(text: str) -> None:
    try:
        page = parse_page(text + "\nx_total 5")
    except BadInput:
        return
    assert page.get("x_total")[-1] == ({}, 5)


# An exporter's page


def counter(gpu: str, value: object) -> str:
    return f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="{gpu}",modelName="H100"}} {value}\n'


@pytest.mark.parametrize(
    "bad",
    [
        counter("GPU-b", "x"),
        counter("GPU-b", "1")[:-20] + "\n",
        counter("G" * 300, 5),
        counter("GPU-\\n", 5),
        "garbage\n",
    ],
    ids=["no number", "cut", "a UUID that is too long", "a UUID that cannot be printed", "garbage"],
)
def test_a_malformed_line_of_an_exporter_affects_no_other_gpu(bad: str) -> None:
    page = counter("GPU-a", 7) + bad + counter("GPU-c", 9)
    sensor = ExporterSensor(DCGM, lambda: page)
    readings = sensor.readings(clock_at(1_000))
    assert [(r.gpu_uuid, r.counter_mj) for r in readings] == [("GPU-a", 7), ("GPU-c", 9)]
    assert [len(sensor.drain_refused()) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e400", "-1", "9.3e18"])
def test_a_non_number_of_an_exporter_is_unknown_for_its_gpu_alone(value: str) -> None:
    page = counter("GPU-a", value) + counter("GPU-b", 9)
    readings = ExporterSensor(DCGM, lambda: page).readings(clock_at(1_000))
    assert [(r.gpu_uuid, r.counter_mj) for r in readings] == [("GPU-a", None), ("GPU-b", 9)]


# A server's page


def vllm(a: object, b: object, *, extra: str = "") -> str:
    return (
        f'vllm:prompt_tokens_total{{engine="0",model_name="a"}} {a}\n'
        f'vllm:prompt_tokens_total{{engine="0",model_name="b"}} {b}\n{extra}'
    )


class Pages:
    """Scrapes of a server with one page after another."""

    def __init__(self) -> None:
        self.page, self.t_ms, self.checkpoint = "", T0, None
        self.source = ServerSource(
            token_counters("vllm"), "http://a", ServedWorkload("east", "chat", "acme"), 10_000, lambda: self.page
        )

    def scrape(self, page: str) -> tuple[dict[str, int], int]:
        """Return prompt tokens by model, and the number of refused parts of the page."""
        self.page, self.t_ms = page, self.t_ms + 10_000
        result = self.source.collect(self.checkpoint, clock_at(self.t_ms))
        self.checkpoint = result.checkpoint
        [tokens] = result.batches
        assert isinstance(tokens.batch, TokenBatch)
        batch = tokens.batch
        batch.check()
        counts = {batch.models[m]: int(n) for m, n in zip(batch.model, batch.prompt_tokens, strict=True)}
        return counts, len(result.refused)


BAD_B = [
    vllm(110, "NaN"), vllm(110, "1e400"), vllm(110, "x"), vllm(110, "-5"),
    vllm(110, "5").replace('b"} 5', 'b",'),
]  # fmt: skip


@pytest.mark.parametrize("page", BAD_B)
def test_a_model_with_a_malformed_counter_waits_and_its_neighbours_count(page: str) -> None:
    pages = Pages()
    pages.scrape(vllm(100, 40))
    assert pages.scrape(page) == ({"a": 10}, 1)
    assert pages.scrape(vllm(115, 60)) == ({"a": 5, "b": 20}, 0)


@pytest.mark.parametrize("page", BAD_B)
def test_a_model_that_is_malformed_at_first_begins_later(page: str) -> None:
    pages = Pages()
    assert pages.scrape(page) == ({}, 1)
    assert pages.scrape(vllm(115, 1_000_000)) == ({"a": 5}, 0)
    assert pages.scrape(vllm(115, 1_000_007)) == ({"b": 7}, 0)


@pytest.mark.parametrize("start", ["NaN", "+Inf", "1e400", "-1", "soon"])
def test_an_invalid_start_time_loses_no_tokens(start: str) -> None:
    pages = Pages()
    pages.scrape(vllm(100, 40, extra=f"process_start_time_seconds {T0 / 1000 - 60}\n"))
    assert pages.scrape(vllm(110, 40, extra=f"process_start_time_seconds {start}\n")) == ({"a": 10}, 1)
    restarted = vllm(500, 40, extra=f"process_start_time_seconds {T0 / 1000 + 25}\n")
    assert pages.scrape(restarted) == ({"a": 500, "b": 40}, 0)


def test_a_malformed_line_of_another_metric_changes_nothing() -> None:
    pages = Pages()
    pages.scrape(vllm(100, 40))
    assert pages.scrape(vllm(110, 50, extra='vllm:time_seconds_sum{model_name="a\ngarbage\n')) == (
        {"a": 10, "b": 10}, 2,
    )  # fmt: skip


def test_a_malformed_counter_of_an_unknown_model_refuses_the_page() -> None:
    pages = Pages()
    pages.scrape(vllm(100, 40))
    with pytest.raises(BadInput, match="names no model"):
        pages.scrape(vllm(110, 50).replace('model_name="b"} 50', 'model_name="b'))
    assert pages.scrape(vllm(120, 60)) == ({"a": 20, "b": 20}, 0)


def test_the_name_of_a_model_is_made_printable() -> None:
    page = parse_page('vllm:prompt_tokens_total{model_name="a\\nb"} 5\n')
    assert token_counters("vllm").served(page) == {"a?b": ServedTotals(5)}


def test_a_malformed_value_of_triton_affects_only_its_model() -> None:
    page = parse_page('nv_inference_request_success{model="a"} NaN\nnv_inference_request_success{model="b"} 3\n')
    assert token_counters("triton").served(page) == {"a": None, "b": ServedTotals(requests=3)}
    assert math.isnan(page.get("nv_inference_request_success")[0][1])
    assert isinstance(page, PrometheusPage)


def test_a_byte_order_mark_before_a_page_is_passed_over() -> None:
    page = parse_page("\ufeffa_total 1\nb_total 2\n")
    assert (page.get("a_total"), list(page.malformed)) == ([({}, 1.0)], [])
