"""Access to the receiver: senders, tenants and limits."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import schemathesis
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from access.api_keys import key_text, new_key, with_key
from access.keys_file import changing_keys
from contracts.errors import AccessDenied, BadSetting, Unavailable
from contracts.settings import Settings
from producers.api import ParsedRequest, ReceivedRequest, Reply, Route, WorkloadBatch
from producers.receivers.cloudevents.meter_rules import MeterRule
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.receiver.auth import Verifier, check_exposure
from producers.runtime.receiver.server import RequestLimits, gunzip
from tests.producers.runtime.receiver.listener import EVENTS, JSON, MANY, SECRET, Listener, event, listening, token
from tests.support.waiting import HANG_S

pytestmark = [  # Of schemathesis' dependencies, not of this project.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
BY_PATH = MeterRule(slug="calls", event_type="call", aggregation="count", tenant="$.tenant")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Listener]:
    """A receiver that has a key, reached by its name on a network."""
    with listening(
        tmp_path, rules=[BY_PATH], key=SECRET, host="0.0.0.0", base_url="http://ingest.example:8788"
    ) as listener:
        yield listener


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        ("Bearer ", 401),
        ("Bearer nonsense", 401),
        ("Basic dXNlcjpwYXNz", 401),
        (token(key="another secret of at least 32 bytes..", tenant="acme"), 401),
        (token(tenant="acme", exp=1), 401),
        (token(tenant="acme", exp=None), 401),
        (token(role="viewer"), 403),
        (token(), 403),
        (token(tenant=""), 403),
        (token(tenant=["acme"]), 403),
        (token(tenant="__idle__"), 403),
        (token(tenant="x" * 254), 403),
        (token(tenant="acme"), 202),
        (token(tenant="acme", role="operator"), 202),
        (token(role="gateway"), 202),
        (token(role="operator"), 202),
    ],
)
def test_only_a_valid_token_with_a_grant_may_send_events(guarded: Listener, authorization: str, status: int) -> None:
    answer = guarded.post(event(), **({"authorization": authorization} if authorization else {}))
    assert answer.status_code == status
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
    assert bool(guarded.broker.rows) == (status == 202)


def test_public_keys_verify_and_a_public_key_is_no_secret(tmp_path: Path) -> None:
    for private, algorithm in (
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    ):
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        verifier = Verifier(public)
        assert verifier.caller({"authorization": token(pem, algorithm, tenant="acme")}).tenant == "acme"


def test_events_with_a_tenants_token_belong_to_that_tenant_for_any_subject(guarded: Listener) -> None:
    guarded.post(
        [event("1"), event("2", subject="globex"), event("3", tenant="acme")], MANY, authorization=token(tenant="acme")
    )
    assert [row["tenant"] for row in guarded.broker.rows] == ["acme"] * 3


@pytest.mark.parametrize(
    "body", [event(tenant="globex"), event(type="call", data={"tenant": "globex"})], ids=["attribute", "path"]
)
def test_a_tenants_token_for_another_tenant_is_refused(guarded: Listener, body: Any) -> None:
    answer = guarded.post([body], MANY, authorization=token(tenant="acme"))
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:wattlog:problem:forbidden")
    assert guarded.broker.rows == []


def test_a_token_of_several_tenants_names_one_of_them(guarded: Listener) -> None:
    both = token(tenants=["acme", "globex"])
    assert guarded.post(event("1", tenant="globex"), authorization=both).status_code == 202
    assert [row["tenant"] for row in guarded.broker.rows] == ["globex"]
    for other in (event("2"), event("3", tenant="initech"), event("4", subject="acme")):
        assert guarded.post(other, authorization=both).status_code == 403


def test_a_token_to_read_sends_nothing(guarded: Listener) -> None:
    for claims in ({"scope": "read:tenant"}, {"role": "tenant"}, {"role": "engineer"}):
        assert guarded.post(event(), authorization=token(tenant="acme", **claims)).status_code == 403


def test_a_gateway_names_tenants_by_attribute_path_or_subject(guarded: Listener) -> None:
    sent = [
        event("1"),
        event("2", tenant="globex"),
        event("3", type="call", data={"tenant": "initech"}),
        event("4", subject=""),
    ]
    guarded.post(sent, MANY, authorization=token(role="gateway"))
    assert [row["tenant"] for row in guarded.broker.rows] == ["customer-1", "globex", "initech", ""]


def test_no_answer_and_no_log_contains_a_token(guarded: Listener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for claims in ({"tenant": "acme"}, {"role": "viewer"}, {"tenant": "acme", "exp": 1}):
        sent = token(**claims)  # type: ignore[arg-type]
        answer = guarded.post(event(tenant="globex"), authorization=sent)
        assert sent.split()[1] not in answer.text + caplog.text


def test_a_provider_that_is_away_is_503_and_refused_senders_are_in_the_audit_log(tmp_path: Path) -> None:
    settings = Settings(oidc_issuer="http://127.0.0.1:9", oidc_audience="w", audit_log=tmp_path / "audit.jsonl")
    verifier = Verifier(SECRET, settings=settings)
    sent = jwt.encode({"iss": "http://127.0.0.1:9"}, SECRET, "HS256", {"kid": "k1"})
    with pytest.raises(Unavailable):
        asyncio.run(verifier.admitted({"authorization": f"Bearer {sent}"}, EVENTS))
    with pytest.raises(AccessDenied):
        asyncio.run(verifier.admitted({"authorization": token(role="viewer")}, EVENTS))
    [line] = (tmp_path / "audit.jsonl").read_text().splitlines()
    denial = json.loads(line)
    assert (denial["actor"], denial["action"], denial["subject"], denial["status"]) == (
        "role:viewer",
        "send",
        EVENTS,
        403,
    )


def test_an_api_key_to_send_sends_and_one_to_read_does_not(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for number, scopes, tenants in ((1, ["send:usage"], ["acme"]), (2, ["read:tenant"], ["acme"])):
        fresh = new_key(f"k{number}", scopes, tenants, 1, round(time.time() * 1000), number.to_bytes(32))
        with changing_keys(path) as (keys, replace):
            replace(with_key(keys, fresh))
    verifier = Verifier(None, settings=Settings(keys_file=path))
    check_exposure("0.0.0.0", verifier)
    sender = verifier.caller({"authorization": f"Bearer {key_text((1).to_bytes(32))}"})
    assert (sender.name, sender.tenant) == ("k1", "acme")
    for authorization, status in ((f"Bearer {key_text((2).to_bytes(32))}", 403), ("", 401), ("Bearer wl_x", 401)):
        with pytest.raises(AccessDenied) as refused:
            verifier.caller({"authorization": authorization})
        assert refused.value.status == status


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "ingest.example"])
def test_without_a_key_the_receiver_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(BadSetting, match="loopback"):
        check_exposure(host, Verifier(None))
    check_exposure(host, Verifier(SECRET))
    check_exposure("127.0.0.1", Verifier(None))


def test_a_short_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(BadSetting) as refused:
        Verifier("short")
    assert "short" not in str(refused.value)


def test_a_page_of_another_host_may_not_send_to_loopback(tmp_path: Path) -> None:
    with listening(tmp_path, base_url="http://evil.example:8788") as listener:
        assert listener.post(event()).status_code == 421
        assert listener.broker.tries == 0


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/xml", "application/cloudevents+xml"])
def test_other_media_types_are_refused(tmp_path: Path, content_type: str) -> None:
    with listening(tmp_path) as listener:
        answer = listener.post(b"{}", content_type)
        assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
        assert "application/cloudevents+json" in answer.json()["detail"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    with listening(tmp_path) as listener:
        assert listener.post(b"{}", content_encoding=encoding).status_code == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_bound_is_refused(tmp_path: Path, chunked: bool) -> None:
    with listening(tmp_path, limits=RequestLimits(body_bytes=2_000)) as listener:
        body = json.dumps(event(data={"x": "y" * 2_000})).encode()
        sent: Any = iter([body]) if chunked else body
        answer = listener.client.post(EVENTS, content=sent, headers={"Content-Type": JSON})
        assert answer.status_code == 413
        assert listener.count("rejected_total", route=EVENTS, reason="too-large") == 1


def test_a_compressed_body_is_bounded_by_its_decompressed_size(tmp_path: Path) -> None:
    with listening(tmp_path, limits=RequestLimits(body_bytes=100_000)) as listener:
        assert listener.post(gzip.compress(b" " * 50_000_000), content_encoding="gzip").status_code == 413


@pytest.mark.parametrize(
    "body", [b"{}", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") * 2], ids=["not packed", "cut short", "two streams"]
)
def test_a_truncated_gzip_is_refused(tmp_path: Path, body: bytes) -> None:
    with listening(tmp_path) as listener:
        assert listener.post(body, content_encoding="gzip").status_code == 400


def test_gzip_is_decompressed() -> None:
    assert gunzip(gzip.compress(b"abc"), 3) == b"abc"


def test_the_number_of_concurrent_requests_is_bounded(tmp_path: Path) -> None:
    with listening(tmp_path, limits=RequestLimits(requests=1)) as listener:
        listener.broker.silent = True
        answers: list[int] = []
        first = threading.Thread(target=lambda: answers.append(listener.post(event("1")).status_code))
        first.start()
        while listener.broker.tries == 0:
            threading.Event().wait(0.005)
        second = listener.post(event("2"))
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert listener.count("rejected_total", route=EVENTS, reason="too-many-requests") == 1
        listener.broker.silent = False
        first.join()
        assert answers == [202]
        assert listener.post(event("2")).status_code == 202


def test_a_body_that_does_not_arrive_times_out(tmp_path: Path) -> None:
    """Directly on the application, because a client library would send the body."""
    with listening(tmp_path, limits=RequestLimits(read_s=0.05)) as listener:
        messages: list[Any] = []
        headers = [(b"host", b"127.0.0.1"), (b"content-type", JSON.encode())]
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": EVENTS, "raw_path": EVENTS.encode(),
                 "query_string": b"", "headers": headers, "scheme": "http", "root_path": ""}  # fmt: skip

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            messages.append(message)

        asyncio.run(listener.client.app(scope, receive, send))
        assert messages[0]["status"] == 408


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", EVENTS, 405)])
def test_every_refusal_is_a_problem(tmp_path: Path, method: str, path: str, status: int) -> None:
    with listening(tmp_path) as listener:
        answer = listener.client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["instance"] == path


def test_a_route_is_a_path_its_bodies_and_a_function(tmp_path: Path) -> None:
    def parse(sent: ReceivedRequest, trial: DeduplicationTrial) -> ParsedRequest:
        row = UsageRow(
            meter="m",
            unit="1",
            quantity=sent.body.decode(),
            t0_ms=sent.now_ms,
            t1_ms=sent.now_ms,
            tenant=sent.caller.payer("acme"),
        )
        return ParsedRequest([WorkloadBatch("c1", "w", usage_batch([row], 0))], ["line 2: is none"])

    def reply(sent: ReceivedRequest, parsed: ParsedRequest) -> Reply:
        return Reply(200, b"%d" % len(parsed.refused), "text/plain")

    mine = Route("/mine", "mine", {"text/plain": {}}, parse, reply)
    with listening(tmp_path, intakes=[mine]) as listener:
        answer = listener.client.post("/mine", content=b"42", headers={"Content-Type": "text/plain"})
        assert (answer.status_code, answer.text) == (200, "1")
        assert [e.source for e in listener.broker.stored] == ["mine-usage://c1/n1/w"]
        assert listener.count("left_out_rows_total", route="/mine") == 1


def test_an_unexpected_error_refuses_the_body_and_reveals_no_internals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(sent: ReceivedRequest, trial: DeduplicationTrial) -> ParsedRequest:
        raise ZeroDivisionError("inside")

    with listening(tmp_path, intakes=[Route("/mine", "mine", {"text/plain": {}}, parse)]) as listener:
        answer = listener.client.post("/mine", content=b"", headers={"Content-Type": "text/plain"})
        assert (answer.status_code, "inside" in answer.text) == (400, False)
        assert answer.json()["type"] == "urn:wattlog:problem:unreadable"
        assert "ZeroDivisionError" in caplog.text
        assert listener.count("rejected_total", route="/mine", reason="unreadable") == 1


def test_every_route_conforms_to_its_document(tmp_path: Path) -> None:
    with listening(tmp_path, base_url="http://localhost") as listener:
        document = schemathesis.openapi.from_asgi("/openapi.json", listener.client.app, headers={"Host": "localhost"})
        document.config.base_url = "http://localhost"
        assert list(document) == [EVENTS]

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=document[EVENTS]["POST"].as_strategy())
        def conforms(case: schemathesis.Case) -> None:
            case.call_and_validate(
                checks=[not_a_server_error, status_code_conformance, content_type_conformance],
                headers={"Host": "localhost"},
                timeout=HANG_S,
            )

        conforms()
