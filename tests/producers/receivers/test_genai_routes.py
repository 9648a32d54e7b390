"""Spans and payloads over HTTP: what their senders are told, and that what they send again counts once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from contracts.errors import Unavailable, WattlogError
from contracts.events import TokenBatch, UsageBatch
from contracts.settings import Settings
from producers.api import WorkloadBatch
from producers.runtime.batching import RequestRow, token_batch
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.receiver.delivery_queue import DeliveryQueue, PendingRequest
from producers.runtime.receiver.messages import unnumbered_messages
from producers.runtime.receiver.routes import open_routes
from producers.runtime.receiver.server import Bounds
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET, as_json, as_protobuf, payload, span
from tests.producers.runtime.receiver.listener import NOW_MS, Listener, UsageBroker, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY
from tests.support.clocks import FixedWallClock

pytestmark = [  # Schemathesis' own dependencies, not ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CONFIG = """
[[produce.otel.deployments]]
model = "llama*"
workload = "chat"
[[produce.litellm.deployments]]
model = "llama*"
workload = "chat"
"""
PROTOBUF, JSON = "application/x-protobuf", "application/json"
Listen = Callable[..., Any]


@pytest.fixture
def listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listen:
    (tmp_path / "wattlog.toml").write_text(CONFIG)
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))

    @contextmanager
    def listen(**more: Any) -> Iterator[Listener]:
        recent = DeduplicationWindow()
        routes = [r for r in open_routes(environment(Settings(cluster="east"))) if r.kind != "cloudevents"]
        with listening(tmp_path, intakes=routes, recent=recent, **more) as listener:
            yield listener

    return listen


def post(listener: Listener, path: str, body: bytes, content_type: str = JSON, **headers: str) -> Any:
    return listener.client.post(path, content=body, headers={"content-type": content_type, **headers})


def requests(broker: UsageBroker) -> list[tuple[str, str, str]]:
    """(place, tenant, id) of each request that is on the log."""
    return [
        (f"{event.cluster}/{event.workload}", event.batch.tenants[event.batch.tenant[n]], event.batch.request_id[n])
        for event in broker.stored
        if isinstance(event.batch, TokenBatch)
        for n in range(len(event.batch))
    ]


ID = "5b8efff798038103d269b633813fc60c/eee19b7ec3c1b174"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("content_type", "encode"), [(JSON, as_json), (PROTOBUF, as_protobuf)])
def test_spans_are_taken_as_an_exporter_sends_them(
    listen: Listen, content_type: str, encode: Callable[..., bytes], packed: bool
) -> None:
    body, headers = encode([span()]), {"content-encoding": "gzip"} if packed else {}
    with listen() as listener:
        answer = post(listener, "/v1/traces", gzip.compress(body) if packed else body, content_type, **headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
        assert answer.content == (b"{}" if content_type == JSON else b"")
        assert requests(listener.broker) == [("east/chat", "acme", ID)]


def test_an_exporter_is_told_what_was_left_out(listen: Listen) -> None:
    told = [span(), span({"gen_ai.usage.input_tokens": -1}, id="bb" * 8), span(id="cc" * 8, kind=2)]
    with listen() as listener:
        answer = post(listener, "/v1/traces", as_json(told)).json()["partialSuccess"]
        assert answer["rejectedSpans"] == "1"
        assert "prompt_tokens" in answer["errorMessage"]
        binary = post(listener, "/v1/traces", as_protobuf(told), PROTOBUF)
        said = ExportTraceServiceResponse.FromString(binary.content).partial_success
        assert (said.rejected_spans, "prompt_tokens" in said.error_message) == (1, True)
        assert len(requests(listener.broker)) == 1
        assert listener.count("skipped_rows_total", route="/v1/traces", why="kind") == 2
        assert listener.count("skipped_rows_total", route="/v1/traces", why="double") == 1
        assert listener.count("left_out_rows_total", route="/v1/traces") == 2


def test_what_cannot_be_read_is_refused_so_that_it_is_not_sent_again(listen: Listen) -> None:
    with listen() as listener:
        assert post(listener, "/v1/traces", b"{").status_code == 422
        assert post(listener, "/v1/traces", b"\xff", PROTOBUF).status_code == 422
        assert post(listener, "/v1/traces", b"{}", "text/plain").status_code == 415
        assert post(listener, "/litellm", b"[{}]").status_code == 422
        assert post(listener, "/litellm", b"").status_code == 422


def test_a_batch_that_is_sent_again_because_nobody_acknowledged_it_counts_once(listen: Listen) -> None:
    body = as_protobuf([span(), span(id="bb" * 8)])
    with listen(bounds=Bounds(ack_s=0.05)) as listener:
        listener.broker.silent = True
        answers = [post(listener, "/v1/traces", body, PROTOBUF) for _ in range(3)]
        # It is kept on disk; but accepted means acknowledged.
        assert [(answer.status_code, "retry-after" in answer.headers) for answer in answers] == [(503, True)] * 3
        listener.broker.silent = False
        listener.be_patient()
        assert post(listener, "/v1/traces", body, PROTOBUF).status_code == 200
        assert len(requests(listener.broker)) == 2
    assert len(requests(listener.broker)) == 2


def test_a_batch_that_is_sent_again_to_the_next_run_counts_once(listen: Listen) -> None:
    body = json.dumps([payload(id="a"), payload(id="b")]).encode()
    with listen(bounds=Bounds(ack_s=0.05)) as listener:
        listener.broker.silent = True
        assert post(listener, "/litellm", body).status_code == 503
    with listen() as again:
        assert post(again, "/litellm", body).status_code == 202
        assert requests(again.broker) == []
        assert again.count("skipped_rows_total", route="/litellm", why="double") == 2
    assert [name for _, _, name in requests(listener.broker)] == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([payload(id="a"), payload(id="b")]), "\n".join(json.dumps(payload(id=i)) for i in "ab"),
    ],
    ids=["json_array", "ndjson"],
)  # fmt: skip
def test_payloads_are_taken_as_generic_api_sends_them(listen: Listen, body: str) -> None:
    with listen() as listener:
        assert post(listener, "/litellm", body.encode()).status_code == 202
        assert requests(listener.broker) == [("east/chat", "team-7", "a"), ("east/chat", "team-7", "b")]


def test_external_spend_is_a_row_of_usage_beside_its_request(listen: Listen) -> None:
    body = payload(custom_llm_provider="openai", model="gpt-4o", response_cost=0.25)
    with listen() as listener:
        assert post(listener, "/litellm", json.dumps(body).encode()).status_code == 202
        assert requests(listener.broker) == [("east/external/openai", "team-7", "chatcmpl-1")]
        [usage] = [event.batch for event in listener.broker.stored if isinstance(event.batch, UsageBatch)]
        assert (usage.meter, usage.quantity, usage.tenant) == (("external_spend",), ("0.25",), ("team-7",))


@pytest.mark.parametrize(
    ("claims", "status", "tenant"),
    [({"role": "gateway"}, 200, "acme"), ({"tenant": "acme"}, 200, "acme"), ({"tenant": "globex"}, 403, "")],
)
def test_a_tenants_token_sends_its_own_calls_only(listen: Listen, claims: Any, status: int, tenant: str) -> None:
    with listen(key=KEY) as listener:
        answer = post(listener, "/v1/traces", as_json([span()]), authorization=token(**claims))
        assert answer.status_code == status
        assert [t for _, t, _ in requests(listener.broker)] == ([tenant] if tenant else [])


def test_a_tenants_token_pays_for_calls_that_name_nobody(listen: Listen) -> None:
    with listen(key=KEY) as listener:
        post(listener, "/v1/traces", as_json([span({"wattlog.tenant": ...})]), authorization=token(tenant="globex"))
        assert [t for _, t, _ in requests(listener.broker)] == ["globex"]


def test_of_prompts_and_answers_nothing_is_told_or_logged(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    bad = span({"gen_ai.usage.input_tokens": -1, "gen_ai.prompt": SECRET}, id="bb" * 8)
    with listen() as listener:
        answers = [
            post(listener, "/v1/traces", as_json([span(), bad])),
            post(listener, "/v1/traces", as_json([span(id="cc" * 8)])[:-20]),
            post(listener, "/litellm", json.dumps([payload(), payload(endTime=0)]).encode()),
            post(listener, "/litellm", json.dumps(payload(model=None)).encode()),
        ]
        assert SECRET not in "".join(answer.text for answer in answers)
        assert SECRET not in repr(listener.broker.stored)
    assert SECRET not in caplog.text


def test_a_span_that_only_tells_again_what_one_in_it_told_passes_that_on(listen: Listen) -> None:
    inner, middle, outer = span(id="cc" * 8, parent="bb" * 8), span(id="bb" * 8, parent="aa" * 8), span(id="aa" * 8)
    with listen() as listener:
        for one in (inner, middle, outer):
            assert post(listener, "/v1/traces", as_json([one])).status_code == 200
        assert len(requests(listener.broker)) == 1


def test_the_routes_keep_their_own_promise(listen: Listen) -> None:
    with listen(base_url="http://localhost") as listener:
        document = schemathesis.openapi.from_asgi("/openapi.json", listener.client.app, headers={"Host": "localhost"})
        document.config.base_url = "http://localhost"
        cases = document["/v1/traces"]["POST"].as_strategy() | document["/litellm"]["POST"].as_strategy()

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def promise(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=[not_a_server_error, status_code_conformance], headers={"Host": "localhost"})

        promise()


# -- what is known is what was kept ------------------------------------------------------------------------------------


class Keeper:
    """Keeps, unless its disk is full."""

    waiting = failures = delivered = newest = 0
    oldest: int | None = None

    def __init__(self) -> None:
        self.full, self.kept, self.marks = False, 0, dict[str, bytes]()

    def offer(self, events: Sequence[Any], checkpoints: Any = None) -> range:
        if self.full:
            raise Unavailable("The spool is full", "free space")
        self.kept += len(events)
        self.marks |= checkpoints or {}
        return range(self.kept - len(events), self.kept)

    def pump(self, timeout_s: float = 0.0) -> None: ...


def test_what_the_disk_did_not_take_may_come_again(listen: Listen) -> None:
    recent, keeper, told = DeduplicationWindow(), Keeper(), list[WattlogError | None]()
    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=10, window=recent)
    line.start(keeper, threaded=False)
    recent.add(["a"])
    keeper.full = True
    line._inbox.put(PendingRequest(made(), told.append, ["b"]))
    line.step()
    assert (keeper.kept, recent.has("a"), recent.has("b")) == (0, True, False)
    keeper.full = False
    line._inbox.put(PendingRequest(made(), told.append, ["b"]))
    line.step()
    assert (keeper.kept, recent.has("b")) == (1, True)
    assert "full" in str(told[0])


def test_two_requests_that_bring_the_same_at_once_count_once(listen: Listen) -> None:
    recent, keeper, told = DeduplicationWindow(), Keeper(), list[WattlogError | None]()
    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=10, window=recent)
    line.start(keeper, threaded=False)
    for _ in range(2):
        line._inbox.put(PendingRequest(made(), told.append, ["a"]))
    line.step()
    assert keeper.kept == 1
    assert "it counts once" in str(told[0])
    again = DeduplicationWindow()
    again.load(keeper.marks)
    assert again.has("a")


def test_what_came_before_is_accepted_when_what_was_kept_by_then_is_acknowledged(listen: Listen) -> None:
    keeper, told, again = Keeper(), list[WattlogError | None](), list[WattlogError | None]()
    keeper.newest = 7  # An earlier run's, on disk.
    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=10)
    line.start(keeper, threaded=False)
    line._inbox.put(PendingRequest((), again.append, again=True))
    keeper.oldest = 5
    line.step()
    assert again == []
    keeper.oldest = 8
    line._inbox.put(PendingRequest(made(), told.append, again=True))
    line.step()
    assert (again, told) == ([None], [])
    line.acknowledge(0)
    assert told == [None]


def made() -> list[Any]:
    row = RequestRow(
        tenant="acme",
        model="llama",
        request_id="r",
        t_start_ms=1,
        t_first_ms=0,
        t_end_ms=2,
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
    )
    return list(unnumbered_messages("otlp", "n", [WorkloadBatch("c", "w", token_batch([row], 0))]))


def test_both_routes_are_among_the_listeners(listen: Listen) -> None:
    assert {route.path for route in open_routes(environment(Settings()))} >= {"/v1/traces", "/litellm"}
