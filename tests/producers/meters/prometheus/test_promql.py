"""Meters by PromQL: each window is queried once and stored whole, through all failures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from contracts.errors import BadInput, Unavailable
from contracts.events import UsageBatch
from contracts.settings import Settings
from producers.meters.prometheus.config import PrometheusConfig
from producers.meters.prometheus.plugin import build
from producers.meters.query_config import QueryConfig
from producers.meters.window_query import WindowQuery
from producers.runtime.runner import open_environment
from tests.producers.meters.collected_rows import MINUTE, NOW, T0, row_values
from tests.support.clocks import clock_at
from tests.support.http_server import Request, Response, serving


class Prometheus:
    """Its query API, as documented. It gives the test's answers and records the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.answers: list[tuple[int, object]] = []

    def vector(self, *series: tuple[dict[str, str], str]) -> None:
        result = [{"metric": metric, "value": [T0 / 1000, value]} for metric, value in series]
        self.answers.append((200, {"status": "success", "data": {"resultType": "vector", "result": result}}))


@pytest.fixture
def prometheus() -> Prometheus:
    return Prometheus()


@pytest.fixture
def url(prometheus: Prometheus) -> Iterator[str]:
    def answer(request: Request) -> Response:
        form = parse_qs(request.body.decode())
        prometheus.requests.append({"path": request.path} | {name: values[0] for name, values in form.items()})
        status, body = prometheus.answers.pop(0)
        return Response(status, (body if isinstance(body, str) else json.dumps(body)).encode())

    with serving(answer) as url:
        yield url


@pytest.fixture
def ask(url: str) -> Iterator[Callable[..., WindowQuery]]:
    with open_environment(Settings(cluster="c1"), threading.Event(), {}) as environment:

        def ask(**options: Any) -> WindowQuery:
            values: dict[str, Any] = {
                "meter": "egress_bytes",
                "unit": "By",
                "query": "increase(x[$window])",
                "offset_s": 0,
            }
            config = PrometheusConfig(url=url, queries=(QueryConfig(**values | options),))
            (question,) = build(config, environment)
            return question

        yield ask


def test_a_query_is_evaluated_at_the_end_of_its_window(prometheus: Prometheus, ask: Callable[..., WindowQuery]) -> None:
    prometheus.vector()
    ask().collect(None, NOW)
    assert prometheus.requests == [
        {"path": "/api/v1/query", "query": "increase(x[60s])", "time": f"{(T0 + MINUTE) / 1000:.3f}"}
    ]


def test_labels_give_workload_and_tenant_and_the_others_are_dimensions(
    prometheus: Prometheus, ask: Callable[..., WindowQuery]
) -> None:
    prometheus.vector(
        ({"__name__": "x", "deployment": "chat", "team": "acme", "zone": "a"}, "1024"), ({"zone": "b"}, "0.5")
    )
    assert row_values(ask(columns={"workload": "deployment", "tenant": "team"}, tenant="lab")) == [
        ("chat", "acme", "1024", {"zone": "a"}),
        ("unassigned", "lab", "0.5", {"zone": "b"}),
    ]


def test_a_non_numeric_value_is_left_out_alone(prometheus: Prometheus, ask: Callable[..., WindowQuery]) -> None:
    prometheus.vector(({"zone": "a"}, "NaN"), ({"zone": "b"}, "+Inf"), ({"zone": "c"}, "3"), ({"zone": "d" * 300}, "1"))
    result = ask().collect(None, NOW)
    assert sum(len(batch.batch) for batch in result.batches) == 1
    assert ["zone=a" in result.refused[0], "zone=b" in result.refused[1], "253" in result.refused[2]] == [True] * 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, {"status": "error", "errorType": "bad_data", "error": "parse error at char 3"}), BadInput),
        ((503, {"status": "error", "errorType": "unavailable", "error": "starting"}), Unavailable),
        ((422, {"status": "error", "errorType": "timeout", "error": "query timed out"}), Unavailable),
        ((200, "<html>a proxy</html>"), Unavailable),
        ((200, {"status": "success", "data": {"resultType": "matrix", "result": []}}), BadInput),
    ],
)
def test_an_invalid_answer_is_reported_and_the_window_is_queried_again(
    prometheus: Prometheus, ask: Callable[..., WindowQuery], answer: tuple[int, object], error: type[Exception]
) -> None:
    question = ask()
    prometheus.vector(({}, "1"))
    mark = question.collect(None, NOW).checkpoint
    prometheus.answers.append(answer)
    with pytest.raises(error):
        question.collect(mark, clock_at(T0 + 2 * MINUTE))
    prometheus.vector(({}, "2"))
    assert row_values(question, mark, clock_at(T0 + 2 * MINUTE)) == [("unassigned", "", "2", {})]
    assert prometheus.requests[1] == prometheus.requests[2]


def test_a_repeated_query_for_a_window_gives_the_same_rows(
    prometheus: Prometheus, ask: Callable[..., WindowQuery]
) -> None:
    ids = []
    for order in (1, -1):
        prometheus.vector(*[({"zone": "a"}, "1"), ({"zone": "b"}, "2")][::order])
        (batch,) = ask().collect(None, NOW).batches
        assert isinstance(batch.batch, UsageBatch)
        ids.append(set(zip(batch.batch.origin, batch.batch.event_id, strict=True)))
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


def test_missed_windows_follow_one_by_one(prometheus: Prometheus, ask: Callable[..., WindowQuery]) -> None:
    question = ask()
    prometheus.vector(({}, "1"))
    result = question.collect(None, NOW)
    for quantity in ("2", "3"):
        prometheus.vector(({}, quantity))
        result = question.collect(result.checkpoint, clock_at(T0 + 3 * MINUTE))
        assert result.more is (quantity == "2")
    assert [a["time"] for a in prometheus.requests] == [f"{(T0 + n * MINUTE) / 1000:.3f}" for n in (1, 2, 3)]
    assert question.collect(result.checkpoint, clock_at(T0 + 3 * MINUTE)).batches == []


def test_a_query_without_results_is_reported_once(prometheus: Prometheus, ask: Callable[..., WindowQuery]) -> None:
    question, mark, notes = ask(), None, []
    for n in range(1, 5):
        prometheus.vector(*[({}, "1")] * (n == 4))
        result = question.collect(mark, clock_at(T0 + n * MINUTE))
        mark = result.checkpoint
        notes += result.notes
    assert notes == ["answers no row: do the names in it exist?", "answers rows again"]
