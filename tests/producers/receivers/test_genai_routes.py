"""Spans and payloads over HTTP: the answers to their senders, and repeated ones count once."""

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
from producers.runtime.receiver.sender_memories import SenderMemories, SenderMemory
from producers.runtime.receiver.server import RequestLimits
from producers.runtime.series_totals import SeriesTotals
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET, as_json, as_protobuf, payload, span
from tests.producers.runtime.receiver.listener import NOW_MS, SENDS, Listener, UsageBroker, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY
from tests.support.clocks import FixedWallClock
from tests.support.waiting import HANG_S

pytestmark = [  # Of schemathesis' dependencies, not of this project.
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
        routes = [
            r for r in open_routes(environment(Settings(cluster="east", data=tmp_path))) if r.kind != "cloudevents"
        ]
        with listening(tmp_path, intakes=routes, recent=recent, **more) as listener:
            yield listener

    return listen


def post(listener: Listener, path: str, body: bytes, content_type: str = JSON, **headers: str) -> Any:
    return listener.client.post(path, content=body, headers={"content-type": content_type, **headers})


def requests(broker: UsageBroker) -> list[tuple[str, str, str]]:
    """(place, tenant, id) of each request on the log."""
    return [
        (f"{event.cluster}/{event.workload}", event.batch.tenants[event.batch.tenant[n]], event.batch.request_id[n])
        for event in broker.stored
        if isinstance(event.batch, TokenBatch)
        for n in range(len(event.batch))
    ]


USER = "ada@example.com"
ID = "5b8efff798038103d269b633813fc60c/eee19b7ec3c1b174"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("content_type", "encode"), [(JSON, as_json), (PROTOBUF, as_protobuf)])
def test_spans_are_accepted_in_the_form_of_an_exporter(
    listen: Listen, content_type: str, encode: Callable[..., bytes], packed: bool
) -> None:
    body, headers = encode([span()]), {"content-encoding": "gzip"} if packed else {}
    with listen() as listener:
        answer = post(listener, "/v1/traces", gzip.compress(body) if packed else body, content_type, **headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
        assert answer.content == (b"{}" if content_type == JSON else b"")
        assert requests(listener.broker) == [("east/chat", "acme", ID)]


def test_the_answer_to_an_exporter_counts_the_refused_spans(listen: Listen) -> None:
    spans = [span(), span({"gen_ai.usage.input_tokens": -1}, id="bb" * 8), span(id="cc" * 8, kind=2)]
    with listen() as listener:
        answer = post(listener, "/v1/traces", as_json(spans)).json()["partialSuccess"]
        assert answer["rejectedSpans"] == "1"
        assert "prompt_tokens" in answer["errorMessage"]
        binary = post(listener, "/v1/traces", as_protobuf(spans), PROTOBUF)
        response = ExportTraceServiceResponse.FromString(binary.content).partial_success
        assert (response.rejected_spans, "prompt_tokens" in response.error_message) == (1, True)
        assert len(requests(listener.broker)) == 1
        assert listener.count("skipped_rows_total", route="/v1/traces", why="kind") == 2
        assert listener.count("skipped_rows_total", route="/v1/traces", why="double") == 1
        assert listener.count("left_out_rows_total", route="/v1/traces") == 2


def test_an_invalid_body_is_refused_so_that_it_is_not_sent_again(listen: Listen) -> None:
    with listen() as listener:
        assert post(listener, "/v1/traces", b"{").status_code == 422
        assert post(listener, "/v1/traces", b"\xff", PROTOBUF).status_code == 422
        assert post(listener, "/v1/traces", b"{}", "text/plain").status_code == 415
        assert post(listener, "/litellm", b"[{}]").status_code == 422
        assert post(listener, "/litellm", b"").status_code == 422


def test_a_repeated_batch_without_an_acknowledgement_counts_once(listen: Listen) -> None:
    body = as_protobuf([span(), span(id="bb" * 8)])
    with listen(limits=RequestLimits(ack_s=0.05)) as listener:
        listener.broker.silent = True
        answers = [post(listener, "/v1/traces", body, PROTOBUF) for _ in range(3)]
        # It is stored on disk; but accepted means acknowledged.
        assert [(answer.status_code, "retry-after" in answer.headers) for answer in answers] == [(503, True)] * 3
        listener.broker.silent = False
        listener.be_patient()
        assert post(listener, "/v1/traces", body, PROTOBUF).status_code == 200
        assert len(requests(listener.broker)) == 2
    assert len(requests(listener.broker)) == 2


def test_a_batch_repeated_to_the_next_run_counts_once(listen: Listen) -> None:
    body = json.dumps([payload(id="a"), payload(id="b")]).encode()
    with listen(limits=RequestLimits(ack_s=0.05)) as listener:
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
def test_payloads_are_accepted_in_the_form_of_generic_api(listen: Listen, body: str) -> None:
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
    [
        ({"role": "gateway"}, 200, "acme"),
        ({"tenant": "acme", "scope": SENDS}, 200, "acme"),
        ({"tenant": "globex", "scope": SENDS}, 403, ""),
        ({"tenant": "acme"}, 403, ""),
    ],
)
def test_a_tenants_token_sends_only_its_own_calls(listen: Listen, claims: Any, status: int, tenant: str) -> None:
    with listen(key=KEY) as listener:
        answer = post(listener, "/v1/traces", as_json([span()]), authorization=token(**claims))
        assert answer.status_code == status
        assert [t for _, t, _ in requests(listener.broker)] == ([tenant] if tenant else [])


def test_a_tenants_token_pays_for_calls_without_a_tenant(listen: Listen) -> None:
    with listen(key=KEY) as listener:
        post(
            listener,
            "/v1/traces",
            as_json([span({"wattlog.tenant": ...})]),
            authorization=token(tenant="globex", scope=SENDS),
        )
        assert [t for _, t, _ in requests(listener.broker)] == ["globex"]


def test_a_sender_of_calls_without_a_tenant_is_named_once(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    with listen(key=KEY) as listener:
        for n, name in enumerate(["shop", "shop", "desk"]):
            body = as_json([span({"wattlog.tenant": ...}, id=f"{n:016x}")], {"service.name": name})
            answer = post(listener, "/v1/traces", body, authorization=token(role="gateway", sub="gw"))
            assert ("name no tenant" in answer.text) == (n != 1)
        assert [t for _, t, _ in requests(listener.broker)] == ["unknown"] * 3
        assert listener.count("corrected_rows_total", route="/v1/traces", why="no_tenant") == 3
    assert caplog.text.count("name no tenant") == 2


def test_no_part_of_prompts_and_answers_is_answered_or_logged(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
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


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/traces", as_json([span({"user.id": USER})])),
        ("/litellm", json.dumps(payload(metadata={"user_api_key_user_id": USER})).encode()),
        ("/litellm", json.dumps(
            payload(metadata={"user_api_key_user_id": USER}, custom_llm_provider="openai", response_cost=1.0)
        ).encode()),
    ],
    ids=["span", "payload", "external"],
)  # fmt: skip
def test_a_user_is_a_keyed_hash_on_the_log(listen: Listen, path: str, body: bytes) -> None:
    with listen() as listener:
        assert post(listener, path, body).status_code < 300
        [batch] = [event.batch for event in listener.broker.stored if isinstance(event.batch, TokenBatch)]
        [user] = batch.user
        assert len(user) == 32
        assert user != USER


def test_three_nested_spans_of_one_call_count_once_in_any_messages(listen: Listen) -> None:
    inner, middle, outer = span(id="cc" * 8, parent="bb" * 8), span(id="bb" * 8, parent="aa" * 8), span(id="aa" * 8)
    with listen() as listener:
        for one in (inner, middle, outer):
            assert post(listener, "/v1/traces", as_json([one])).status_code == 200
        assert len(requests(listener.broker)) == 1


def test_every_route_conforms_to_its_document(listen: Listen) -> None:
    with listen(base_url="http://localhost") as listener:
        document = schemathesis.openapi.from_asgi("/openapi.json", listener.client.app, headers={"Host": "localhost"})
        document.config.base_url = "http://localhost"
        cases = document["/v1/traces"]["POST"].as_strategy() | document["/litellm"]["POST"].as_strategy()

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def conforms(case: schemathesis.Case) -> None:
            case.call_and_validate(
                checks=[not_a_server_error, status_code_conformance], headers={"Host": "localhost"}, timeout=HANG_S
            )

        conforms()


# -- only stored calls are known ---------------------------------------------------------------------------------------


class FakeQueue:
    """A queue that stores each offer, unless its disk is full."""

    waiting = failures = delivered = newest = 0
    oldest: int | None = None

    def __init__(self) -> None:
        self.full, self.stored, self.marks = False, 0, dict[str, bytes]()

    def offer(self, events: Sequence[Any], checkpoints: Any = None) -> range:
        if self.full:
            raise Unavailable("The spool is full", "free space")
        self.stored += len(events)
        self.marks |= checkpoints or {}
        return range(self.stored - len(events), self.stored)

    def waiting_for(self, topic: str) -> int:
        return 0

    def check_room(self, sizes: Any) -> None: ...
    def pump(self, timeout_s: float = 0.0) -> None: ...
    def heed_claims(self, numbers: Any, now_ms: int) -> None: ...


def test_calls_that_the_full_disk_refused_may_be_sent_again(listen: Listen) -> None:
    recent, queue, outcomes = DeduplicationWindow(), FakeQueue(), list[WattlogError | None]()
    line = DeliveryQueue(
        FixedWallClock(NOW_MS), max_waiting=10, memories=SenderMemories(SenderMemory(recent, SeriesTotals()))
    )
    line.start(queue, threaded=False)
    recent.add(["a"])
    queue.full = True
    line._inbox.put(PendingRequest(build(), outcomes.append, ["b"]))
    line.step()
    assert (queue.stored, recent.has("a"), recent.has("b")) == (0, True, False)
    queue.full = False
    line._inbox.put(PendingRequest(build(), outcomes.append, ["b"]))
    line.step()
    assert (queue.stored, recent.has("b")) == (1, True)
    assert "full" in str(outcomes[0])


def test_the_same_call_in_two_requests_at_once_counts_once(listen: Listen) -> None:
    recent, queue, outcomes = DeduplicationWindow(), FakeQueue(), list[WattlogError | None]()
    line = DeliveryQueue(
        FixedWallClock(NOW_MS), max_waiting=10, memories=SenderMemories(SenderMemory(recent, SeriesTotals()))
    )
    line.start(queue, threaded=False)
    for _ in range(2):
        line._inbox.put(PendingRequest(build(), outcomes.append, ["a"]))
    line.step()
    assert queue.stored == 1
    assert "it counts once" in str(outcomes[0])
    again = DeduplicationWindow()
    again.load(queue.marks)
    assert again.has("a")


def test_a_repeated_call_is_accepted_when_the_stored_one_is_acknowledged(listen: Listen) -> None:
    queue, outcomes, again = FakeQueue(), list[WattlogError | None](), list[WattlogError | None]()
    queue.newest = 7  # An earlier run's, on disk.
    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=10)
    line.start(queue, threaded=False)
    line._inbox.put(PendingRequest((), again.append, has_repeats=True))
    queue.oldest = 5
    line.step()
    assert again == []
    queue.oldest = 8
    line._inbox.put(PendingRequest(build(), outcomes.append, has_repeats=True))
    line.step()
    assert (again, outcomes) == ([None], [])
    line.acknowledge(0)
    assert outcomes == [None]


def build() -> list[Any]:
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


def test_both_routes_are_registered_receivers(listen: Listen) -> None:
    assert {route.path for route in open_routes(environment(Settings()))} >= {"/v1/traces", "/litellm"}
