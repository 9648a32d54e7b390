"""Attacks of senders on the bills of others: each is refused by name, and nothing of it is on the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.events import TokenBatch, UsageBatch
from contracts.settings import Settings
from producers.runtime.receiver.door import SenderRule, SenderRules, origin_of
from producers.runtime.receiver.routes import open_routes
from tests.producers.frame import environment
from tests.producers.gateways.payloads import as_json, payload, span
from tests.producers.runtime.receiver.listener import NOW_MS, SENDS, Listener, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY

CONFIG = """
[[produce.otel.deployments]]
model = "llama*"
workload = "chat"
[[produce.litellm.deployments]]
model = "llama*"
workload = "chat"
[[produce.requests.deployments]]
model = "llama*"
workload = "chat"
[[produce.otlp.deployments]]
model = "llama*"
workload = "chat"
[[produce.http.requests]]
event_type = "call"
fields = { model = "$.model", prompt_tokens = "$.prompt", completion_tokens = "$.completion" }
[produce.otlp]
metrics = ["gen_ai.client.token.usage"]
logs = ["codex.sse_event"]
[produce.otlp.rules]
otherwise = "acme"
"""
DAY_MS = 86_400_000
TENANT = {"tenant": "acme"}
TENANT_GATEWAY = {"tenant": "acme", "scope": SENDS}
GATEWAY = {"role": "gateway", "iss": "idp", "sub": "gateway-1"}
OTHER_GATEWAY = {"role": "gateway", "iss": "idp", "sub": "gateway-2"}
DOOR = SenderRules(max_age_ms=2 * DAY_MS)
Listen = Callable[..., Any]
Body = Callable[..., tuple[str, bytes]]


@pytest.fixture
def listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listen:
    (tmp_path / "wattlog.toml").write_text(CONFIG)
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))

    @contextmanager
    def listen(door: SenderRules = DOOR, **more: Any) -> Iterator[Listener]:
        routes = {route.path: route for route in open_routes(environment(Settings(cluster="east", data=tmp_path)))}
        events = routes.pop("/api/v1/events")
        with listening(
            tmp_path, key=KEY, intakes=list(routes.values()), events_route=events, door=door, **more
        ) as listener:
            yield listener

    return listen


def post(listener: Listener, claims: Mapping[str, object], path: str, body: bytes) -> Any:
    kind = "application/cloudevents+json" if path == "/api/v1/events" else "application/json"
    return listener.client.post(path, content=body, headers={"content-type": kind, "authorization": token(**claims)})


def litellm(end_ms: int = NOW_MS, model: str = "llama-3", id: str = "call-1", **more: Any) -> tuple[str, bytes]:
    times = {"startTime": end_ms / 1000 - 1, "completionStartTime": end_ms / 1000, "endTime": end_ms / 1000}
    body = payload(id=id, model=model, metadata={"user_api_key_team_id": "acme"}, **times, **more)
    return "/litellm", json.dumps(body).encode()


def traces(end_ms: int = NOW_MS, model: str = "llama-3", completion_tokens: int = 5) -> tuple[str, bytes]:
    names = {"gen_ai.response.model": model, "gen_ai.request.model": model,
             "gen_ai.usage.output_tokens": completion_tokens}  # fmt: skip
    times = {"start": (end_ms - 1000) * 10**6, "end": end_ms * 10**6}
    return "/v1/traces", as_json([span(names) | times])


def requests(end_ms: int = NOW_MS, model: str = "llama-3", **more: Any) -> tuple[str, bytes]:
    item = {"request_id": "call-1", "tenant": "acme", "model": model, "prompt_tokens": 5, "completion_tokens": 5,
            "start": (end_ms - 1000) / 1000, "end": end_ms / 1000}  # fmt: skip
    return "/v1/requests", json.dumps([item | more]).encode()


def metrics(end_ms: int = NOW_MS, model: str = "llama-3", tokens: int = 7) -> tuple[str, bytes]:
    attributes = [{"key": "gen_ai.token.type", "value": {"stringValue": "input"}},
                  {"key": "gen_ai.request.model", "value": {"stringValue": model}}]  # fmt: skip
    point = {"attributes": attributes, "asInt": str(tokens), "startTimeUnixNano": str((end_ms - 1000) * 10**6),
             "timeUnixNano": str(end_ms * 10**6)}  # fmt: skip
    counter = {"name": "gen_ai.client.token.usage",
               "sum": {"dataPoints": [point], "aggregationTemporality": 1, "isMonotonic": True}}  # fmt: skip
    return "/v1/metrics", json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [counter]}]}]}).encode()


def logs(end_ms: int = NOW_MS, model: str = "llama-3", tokens: int = 7) -> tuple[str, bytes]:
    texts = {"event.name": "codex.sse_event", "event.kind": "response.completed", "input_token_count": "7",
             "output_token_count": str(tokens), "model": model}  # fmt: skip
    attributes = [{"key": name, "value": {"stringValue": text}} for name, text in texts.items()]
    record = {"timeUnixNano": str(end_ms * 10**6), "attributes": attributes}
    return "/v1/logs", json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


def event_request(end_ms: int = NOW_MS, model: str = "llama-3", tokens: int = 7) -> tuple[str, bytes]:
    return _event(end_ms, "call", {"model": model, "prompt": 7, "completion": tokens})


def usage(end_ms: int = NOW_MS, model: str = "llama-3") -> tuple[str, bytes]:
    return _event(end_ms, "api-call", {})


def _event(end_ms: int, kind: str, data: Any) -> tuple[str, bytes]:
    from contracts.units import rfc3339

    event = {"id": "1", "source": "app", "type": kind, "time": rfc3339(end_ms), "tenant": "acme", "data": data}
    return "/api/v1/events", json.dumps(event).encode()


REQUESTS: list[Body] = [litellm, traces, requests, metrics, logs, event_request]
"""Every way to send a request."""


def places(listener: Listener) -> list[str]:
    """The workload of each event of requests on the log."""
    return [f"{e.cluster}/{e.workload}".removeprefix("east/") for e in listener.broker.stored
            if isinstance(e.batch, TokenBatch)]  # fmt: skip


# -- the scope ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", REQUESTS)
@pytest.mark.parametrize(
    ("claims", "may"),
    [(TENANT, False), (TENANT_GATEWAY, True), (GATEWAY, True), (TENANT | {"scope": "send:usage"}, False)],
)
def test_requests_that_share_energy_need_the_scope(
    listen: Listen, body: Body, claims: Mapping[str, object], may: bool
) -> None:
    with listen() as listener:
        answer = post(listener, claims, *body())
        assert (answer.status_code < 300) is may, answer.text
        assert places(listener) == (["chat"] if may else [])
        if not may:
            assert (answer.status_code, "send:requests" in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("body", "workload"),
    [(lambda: litellm(model="gpt-9", custom_llm_provider="openai", response_cost=0.25), "external/openai"),
     (lambda: traces(model="unknown-1"), "unmatched/unknown-1"), (lambda: requests(model="x"), "unmatched/x")],
)  # fmt: skip
def test_a_tenant_may_send_requests_that_share_no_energy(listen: Listen, body: Body, workload: str) -> None:
    with listen() as listener:
        assert post(listener, TENANT, *body()).status_code < 300
        assert places(listener) == [workload]


def test_a_tenants_own_usage_is_taken_and_a_sender_of_requests_alone_sends_none(listen: Listen) -> None:
    with listen() as listener:
        assert post(listener, TENANT, *usage()).status_code == 202
        refused = post(listener, TENANT | {"scope": "send:requests"}, *usage())
        assert (refused.status_code, "send:usage" in refused.json()["detail"]) == (403, True)
        [event] = listener.broker.stored
        assert isinstance(event.batch, UsageBatch)


def test_a_call_of_another_tenant_does_not_take_its_batch_along(listen: Listen) -> None:
    one, other = (json.loads(litellm(id=id)[1]) for id in ("call-1", "call-2"))
    other["metadata"] = {"user_api_key_team_id": "globex"}
    spans = [span({"wattlog.tenant": tenant}, id=id * 8) | {"start": (NOW_MS - 9) * 10**6, "end": NOW_MS * 10**6}
             for tenant, id in (("acme", "aa"), ("globex", "bb"))]  # fmt: skip
    for path, body in (("/litellm", json.dumps([one, other]).encode()), ("/v1/traces", as_json(spans))):
        with listen() as listener:
            assert post(listener, TENANT | {"scope": SENDS}, path, body).status_code < 300
            assert [event.batch.tenants for event in listener.broker.stored] == [("acme",)]
            assert listener.count("left_out_rows_total", route=path) == 1


@pytest.mark.parametrize("body", REQUESTS)
def test_a_gateway_of_other_tenants_sends_nothing_for_this_one(listen: Listen, body: Body) -> None:
    with listen() as listener:
        post(listener, {"tenants": ["globex", "initech"], "scope": SENDS}, *body())
        assert places(listener) == []


# -- the workloads that an operator lists ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", REQUESTS)
@pytest.mark.parametrize(
    ("listed", "workload"),
    [(("east/chat",), "chat"), (("east/c*", "west/x"), "chat"), (("east/embed",), "unmatched/llama-3"),
     ((), "unmatched/llama-3")],
)  # fmt: skip
def test_a_rule_places_requests_on_what_is_listed_for_their_sender(
    listen: Listen, body: Body, listed: tuple[str, ...], workload: str
) -> None:
    with listen(SenderRules([SenderRule(name="idp|gateway-1", workloads=listed)])) as listener:
        assert post(listener, GATEWAY, *body()).status_code < 300
        # Calls in logs of coding agents run at their makers, unless a rule places them here.
        assert places(listener) == ["external/openai" if body is logs and workload != "chat" else workload]


@pytest.mark.parametrize(
    ("claims", "workload", "may"),
    [(GATEWAY, "chat", True), (GATEWAY, "embed", True), (GATEWAY, "victim", False), (GATEWAY, "external/x", True),
     (OTHER_GATEWAY, "chat", True), (OTHER_GATEWAY, "embed", False)],
)  # fmt: skip
def test_a_sender_names_only_workloads_that_the_configuration_names(
    listen: Listen, claims: Mapping[str, object], workload: str, may: bool
) -> None:
    rules = [SenderRule(name="idp|gateway-1", workloads=("east/chat",)),
             SenderRule(name="idp|gateway-1", workloads=("east/embed",))]  # fmt: skip
    with listen(SenderRules(rules)) as listener:
        answer = post(listener, claims, *requests(workload=workload))
        assert places(listener) == ([workload] if may else [])
        assert may or answer.json()["errors"][0]["field"] == "workload"


# -- the age -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [*REQUESTS, usage])
@pytest.mark.parametrize(("age_ms", "counts"), [(DAY_MS, True), (2 * DAY_MS + 60_000, False), (90 * DAY_MS, False)])
def test_an_event_older_than_the_setting_is_refused_by_name(
    listen: Listen, body: Body, age_ms: int, counts: bool
) -> None:
    with listen() as listener:
        answer = post(listener, GATEWAY, *body(NOW_MS - age_ms))
        assert bool(listener.broker.stored) is counts
        assert counts or "max_age_ms" in answer.text


def test_an_old_request_is_refused_alone(listen: Listen) -> None:
    (_, old), (path, new) = requests(NOW_MS - 90 * DAY_MS, request_id="old"), requests()
    with listen() as listener:
        answer = post(listener, GATEWAY, path, json.dumps(json.loads(old) + json.loads(new)).encode()).json()
        assert (answer["accepted"], answer["errors"][0]["index"]) == (1, 0)


# -- A suppresses B ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", REQUESTS)
@pytest.mark.parametrize("attacker", [OTHER_GATEWAY, TENANT_GATEWAY, TENANT])
def test_a_call_that_another_sender_posted_first_counts_for_its_gateway(
    listen: Listen, body: Body, attacker: Mapping[str, object]
) -> None:
    with listen() as listener:
        post(listener, attacker, *body())
        before = len(places(listener))
        for _ in range(2):  # A copy of the same sender counts once.
            assert post(listener, GATEWAY, *body()).status_code < 300
        assert len(places(listener)) == before + 1
    with listen() as listener:  # And in the next run.
        assert post(listener, GATEWAY, *body()).status_code < 300
        assert len(places(listener)) == 0


def test_a_tenant_that_knows_the_ids_of_its_usage_takes_none_of_it_off_its_bill(listen: Listen) -> None:
    from streams.core.usage_batch import identities

    with listen() as listener:
        for claims in (TENANT, GATEWAY, GATEWAY):
            assert post(listener, claims, *usage()).status_code == 202
        rows = [identities(event) for event in listener.broker.stored]
        assert (rows[0] == rows[1], rows[1] == rows[2]) == (False, True)


# -- tracing back ------------------------------------------------------------------------------------------------------


def test_every_row_on_the_log_says_who_sent_it(listen: Listen) -> None:
    with listen() as listener:
        for body in (*REQUESTS, usage):
            assert post(listener, GATEWAY, *body()).status_code < 300
        batches = [event.batch for event in listener.broker.stored]
        assert {sender for b in batches if isinstance(b, TokenBatch) for sender in b.sender} == {"idp|gateway-1"}
        assert {origin for b in batches if isinstance(b, UsageBatch) for origin in b.origin} == {"idp|gateway-1 app"}


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b c"), ("a b", "c")), (("a", "x" * 253), ("a", "x" * 252)), (("n" * 253, "x"), ("n" * 252, "x")),
     (("a%20b", "c"), ("a b", "c"))],
)  # fmt: skip
def test_no_two_senders_make_the_same_origin(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert origin_of(*one) != origin_of(*other)
    assert max(map(len, (origin_of(*one), origin_of(*other)))) <= 253


# -- plausibility ------------------------------------------------------------------------------------------------------

FLOOD = 2**31 - 1


@pytest.mark.parametrize(
    "body",
    [lambda: litellm(prompt_tokens=0, completion_tokens=FLOOD, total_tokens=FLOOD),
     lambda: traces(completion_tokens=FLOOD), lambda: requests(completion_tokens=FLOOD), lambda: metrics(tokens=FLOOD),
     lambda: logs(tokens=FLOOD), lambda: event_request(tokens=FLOOD)],
)  # fmt: skip
def test_more_tokens_than_a_second_can_hold_are_refused_by_name(listen: Listen, body: Body) -> None:
    with listen(SenderRules(max_tokens_per_s=3_200_000)) as listener:
        answer = post(listener, GATEWAY, *body())
        assert listener.broker.stored == []
        assert "max_tokens_per_s" in answer.text
        assert "prompt_tokens" in answer.text or "completion_tokens" in answer.text


def test_an_exporter_of_otlp_that_must_wait_gets_503(listen: Listen) -> None:
    """OpenTelemetry's exporter for Python drops what gets 429."""
    with listen(SenderRules(max_tokens_per_s=100)) as listener:
        counts = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.cache_read.input_tokens": 0,
                  "gen_ai.usage.output_tokens": 95, "gen_ai.response.model": "llama-3"}  # fmt: skip
        times = {"start": (NOW_MS - 1_000) * 10**6, "end": NOW_MS * 10**6}
        many = [span(counts, id=f"{n + 1:016x}", **times) for n in range(700)]
        refused = post(listener, GATEWAY, "/v1/traces", as_json(many))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert listener.broker.stored == []


def test_a_sender_with_more_than_a_node_can_make_is_held_back_and_others_go_on(
    listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    with listen(SenderRules(max_tokens_per_s=100)) as listener:
        many = [json.loads(requests(request_id=f"{n}", completion_tokens=95)[1])[0] for n in range(700)]
        refused = post(listener, GATEWAY, "/v1/requests", json.dumps(many).encode())
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert "idp|gateway-1" in caplog.text
        assert listener.broker.stored == []
        assert post(listener, GATEWAY, "/v1/requests", json.dumps(many[:500]).encode()).json()["accepted"] == 500
        assert post(listener, OTHER_GATEWAY, *requests()).status_code == 202
