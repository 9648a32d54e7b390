"""A receiver under attack: it answers health checks, leaves room for other senders, and loses no honest event."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from contracts import topics
from contracts.settings import Settings
from producers.api import ParsedRequest, ReceivedRequest, Route, WorkloadBatch
from producers.receivers.plugin import HttpConfig
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.delivery import Delivery
from producers.runtime.event_sequence import heartbeat_batch
from producers.runtime.receiver.delivery_queue import DeliveryQueue, PendingRequest
from producers.runtime.receiver.grpc_server import OtlpGrpcServer
from producers.runtime.receiver.messages import unnumbered_messages
from producers.runtime.receiver.parsers import BODIES_PER_COLLECTION, THREADS, ParserPool
from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.routes import open_routes
from producers.runtime.receiver.runner import _bind, _serve
from producers.runtime.receiver.sender_quotas import Quota
from producers.runtime.receiver.sender_shares import SenderShares
from producers.runtime.receiver.server import RequestLimits, create_app
from producers.runtime.spool import Spool, SpoolFull
from tests.producers.frame import environment
from tests.producers.gateways.payloads import as_protobuf, span
from tests.producers.runtime.receiver.listener import (
    EVENTS,
    MANY,
    NOW_MS,
    SECRET,
    Listener,
    UsageBroker,
    event,
    listening,
    token,
)  # fmt: skip
from tests.support.clocks import FakeClock
from tests.support.waiting import HANG_S, wait_until


def _ignore(_: int) -> None:
    return None


class _Serving:
    """A listener on a real socket, in a thread of its own."""

    def __init__(self, listener: Listener, routes: Sequence[Route]) -> None:
        self._stop = threading.Event()
        self.sock = _bind("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]
        app = create_app(listener._handler, listener.line, routes)
        place: Any = SimpleNamespace(stop=self._stop)
        serve = partial(_serve, app, self.sock, place, listener.line, None, read_s=HANG_S, ack_s=1.0)
        self._thread = threading.Thread(target=serve)

    def __enter__(self) -> _Serving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sock.close()


def test_health_answers_while_every_parser_is_busy(tmp_path: Path) -> None:
    hold, begun = threading.Event(), threading.Semaphore(0)

    def parse(sent: ReceivedRequest, trial: DeduplicationTrial) -> ParsedRequest:
        begun.release()
        hold.wait(HANG_S)
        return ParsedRequest(())

    slow = Route("/slow", "slow", {"text/plain": {}}, parse)
    with listening(tmp_path, intakes=[slow]) as listener, _Serving(listener, [slow]) as serving:
        url = f"http://127.0.0.1:{serving.port}"

        def post() -> None:
            answers.append(httpx.post(f"{url}/slow", content=b"x", headers={"content-type": "text/plain"},
                                      timeout=HANG_S, trust_env=False).status_code)  # fmt: skip

        answers: list[int] = []
        threads = [threading.Thread(target=post) for _ in range(THREADS + 6)]
        for thread in threads:
            thread.start()
        for _ in range(THREADS):
            begun.acquire()
        wait_until(lambda: len(listener._handler._parsers._waiting.get("", ())) == 6)
        assert httpx.get(f"{url}/healthz", timeout=HANG_S, trust_env=False).status_code == 200
        assert answers == []
        hold.set()
        for thread in threads:
            thread.join()
        assert answers == [202] * len(threads)


def test_two_hundred_posts_at_once_are_accepted_or_postponed_and_none_is_lost(tmp_path: Path) -> None:
    posts, items = 200, 25

    async def send(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        headers = {"content-type": MANY}
        async with httpx.AsyncClient(limits=limits, timeout=HANG_S, trust_env=False) as client:
            return await asyncio.gather(*(
                client.post(url, json=[event(f"{n}-{k}") for k in range(items)], headers=headers) for n in range(posts)
            ))  # fmt: skip

    quota = Quota(listener_default("max_requests_per_s"), listener_default("max_rows_per_s"))
    with listening(tmp_path, max_waiting=100_000, quota=quota) as listener:
        routes: list[Any] = [_events_route()]
        with _Serving(listener, routes) as serving:
            url = f"http://127.0.0.1:{serving.port}{EVENTS}"
            answers = asyncio.run(send(url))
    assert {answer.status_code for answer in answers} <= {202, 429, 503}
    assert all(int(a.headers["retry-after"]) > 0 for a in answers if a.status_code != 202)
    accepted = {f"{n}-{k}" for n, a in enumerate(answers) if a.status_code == 202 for k in range(items)}
    assert accepted
    assert {row["event_id"] for row in listener.broker.rows} >= accepted


def test_a_sender_beyond_its_quota_waits_before_its_body_is_read_and_others_go_on(tmp_path: Path) -> None:
    quota = Quota(requests_per_s=1, rows_per_s=50)
    with listening(tmp_path, key=SECRET, quota=quota, max_events=1_000) as listener:
        fast, other = token(tenant="acme"), token(tenant="globex")
        assert listener.post([event(f"{n}") for n in range(600)], MANY, authorization=fast).status_code == 202
        waits = [listener.post(b"no JSON", authorization=fast) for _ in range(3)]
        assert [answer.status_code for answer in waits] == [429] * 3
        assert {int(answer.headers["retry-after"]) for answer in waits} <= {1, 2, 3}
        assert listener.post(event("1"), authorization=other).status_code == 202
        assert listener.count("rejected_total", route=EVENTS, reason="too-fast") == 3


def listener_default(option: str) -> int:
    """The default of an option of `wattlog produce http`."""
    return int(HttpConfig.model_fields[option].default)


def _events_route() -> Route:
    return _route(EVENTS)


def _route(path: str) -> Route:
    return next(route for route in open_routes(environment(Settings(cluster="c1"))) if route.path == path)


def test_one_senders_bodies_wait_behind_each_other_and_not_before_another_senders() -> None:
    order: list[str] = []

    async def run() -> None:
        pool, hold = ParserPool(threads=1), threading.Event()

        def parse(sender: str) -> None:
            hold.wait(HANG_S)
            order.append(sender)

        calls = [asyncio.create_task(pool.run(sender, parse, sender)) for sender in ["a", "a", "a", "a", "b", "c"]]
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*calls)

    asyncio.run(run())
    assert order == ["a", "a", "b", "c", "a", "a"]


def test_a_request_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next() -> None:
    async def run() -> list[str]:
        pool, hold, order = ParserPool(threads=1), threading.Event(), list[str]()
        first = asyncio.create_task(pool.run("a", hold.wait, HANG_S))
        gone = asyncio.create_task(pool.run("b", order.append, "b"))
        last = asyncio.create_task(pool.run("c", order.append, "c"))
        await asyncio.sleep(0)
        gone.cancel()
        hold.set()
        await asyncio.gather(first, last)
        return order

    assert asyncio.run(run()) == ["c"]


def test_no_collection_of_garbage_runs_within_a_body() -> None:
    async def run() -> list[bool]:
        pool, hold = ParserPool(threads=2), threading.Event()
        first = asyncio.create_task(pool.run("a", hold.wait, HANG_S))
        await asyncio.sleep(0)
        states = [await pool.run("b", gc.isenabled), gc.isenabled()]
        hold.set()
        await first
        return [*states, gc.isenabled()]

    assert asyncio.run(run()) == [False, False, True]


def test_parsers_that_never_rest_pause_for_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[int] = []
    order: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collections.append(len(order)))

    async def run() -> None:
        pool, hold = ParserPool(threads=2), threading.Event()

        def parse(number: int) -> None:
            hold.wait(HANG_S)
            order.append(number)

        calls = [asyncio.create_task(pool.run("a", parse, n)) for n in range(2 * BODIES_PER_COLLECTION + 5)]
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*calls)

    asyncio.run(run())
    assert collections == [BODIES_PER_COLLECTION, 2 * BODIES_PER_COLLECTION]
    assert sorted(order) == list(range(2 * BODIES_PER_COLLECTION + 5))


def test_an_error_of_a_parser_is_the_callers_and_frees_the_thread() -> None:
    def fail() -> None:
        raise ValueError("x")

    async def run() -> int:
        pool = ParserPool(threads=1)
        for _ in range(3):
            with pytest.raises(ValueError, match="x"):
                await pool.run("a", fail)
        return await pool.run("a", lambda: 1)

    assert asyncio.run(run()) == 1


def test_a_sender_has_half_of_the_requests_and_bytes_and_leaves_the_rest_to_others() -> None:
    shares = SenderShares(4, 1_000, _ignore, alone=False)
    with shares.request("a"), shares.request("a"):
        with pytest.raises(Rejected, match="2 of this sender") as rejected, shares.request("a"):
            raise AssertionError
        assert (rejected.value.status, rejected.value.retry_s) == (429, 1)
        with shares.request("b"), shares.request("b"), pytest.raises(Rejected, match="4 requests"), shares.request("c"):
            raise AssertionError
    with shares.body("a") as hold, shares.body("b") as hold_other:
        hold(500)
        hold_other(500)
        with pytest.raises(Rejected, match="bytes are under way"):
            hold(1)
    with shares.body("a") as hold, shares.request("a"):
        hold(500)


def test_without_a_key_all_senders_are_one_and_have_all() -> None:
    shares = SenderShares(2, 10, _ignore, alone=True)
    with shares.request(""), shares.request(""), shares.body("") as hold:
        hold(10)


def test_a_tenant_that_must_wait_holds_up_no_other(tmp_path: Path) -> None:
    limits = RequestLimits(requests=2, ack_s=HANG_S)
    with listening(tmp_path, key=SECRET, limits=limits) as listener:
        listener.broker.silent = True
        acme, globex = (token(tenant=tenant) for tenant in ("acme", "globex"))
        first = threading.Thread(target=listener.post, args=(event("1"),), kwargs={"authorization": acme})
        first.start()
        wait_until(lambda: listener.broker.tries == 1)
        assert listener.post(event("2"), authorization=acme).status_code == 429
        listener.broker.silent = False
        assert listener.post(event("3", subject="globex"), authorization=globex).status_code == 202
        first.join()


def test_a_call_over_grpc_without_a_token_is_refused_before_its_message_is_read(tmp_path: Path) -> None:
    """Its message never ends, so a server that waited for it would not answer."""
    [route] = [route for route in open_routes(environment(Settings(cluster="c1"))) if route.path == "/v1/traces"]
    never = threading.Event()

    def message() -> Any:
        never.wait(HANG_S)
        yield b""

    def call(port: int) -> grpc.StatusCode:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                channel.stream_unary(route.grpc_method)(message())
            except grpc.RpcError as error:
                return error.code()
            finally:
                never.set()
        raise AssertionError

    async def run(listener: Listener) -> grpc.StatusCode:
        server = OtlpGrpcServer(listener._handler, [route], "127.0.0.1", 0)
        port = await server.start()
        code = await asyncio.to_thread(call, port)
        await server.stop(0)
        return code

    with listening(tmp_path, key=SECRET, intakes=[route]) as listener:
        assert asyncio.run(run(listener)) == grpc.StatusCode.UNAUTHENTICATED


def test_a_message_over_grpc_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    [route] = [route for route in open_routes(environment(Settings(cluster="c1"))) if route.path == "/v1/traces"]
    body = ExportTraceServiceRequest.FromString(as_protobuf([span({"x": "y" * 500_000})]))

    def call(port: int) -> grpc.StatusCode:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                TraceServiceStub(channel).Export(body, compression=grpc.Compression.Gzip)
            except grpc.RpcError as error:
                return error.code()
        raise AssertionError

    async def run(listener: Listener) -> grpc.StatusCode:
        server = OtlpGrpcServer(listener._handler, [route], "127.0.0.1", 0)
        port = await server.start()
        code = await asyncio.to_thread(call, port)
        await server.stop(0)
        return code

    with listening(tmp_path, limits=RequestLimits(body_bytes=1_000), intakes=[route]) as listener:
        assert asyncio.run(run(listener)) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_topic_that_the_brokers_refuse_does_not_keep_requests_for_others_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests = _route("/v1/requests")
    limits = RequestLimits(read_s=HANG_S, ack_s=0.01)
    with listening(tmp_path, intakes=[requests], limits=limits, max_waiting=16) as listener:
        listener.broker.missing = {topics.USAGE}
        kinds = [listener.post(event(str(n))).json()["type"].rpartition(":")[2] for n in range(14)]
        assert kinds == ["not-acknowledged"] * 12 + ["queue-full"] * 2
        assert f"12 events wait for {topics.USAGE}" in caplog.text
        listener.be_patient()
        for n in range(5):
            body = [{"request_id": str(n), "model": "m", "tenant": "acme", "prompt_tokens": 1, "completion_tokens": 0,
                     "end": NOW_MS, "duration_ms": 1}]  # fmt: skip
            assert listener.client.post("/v1/requests", json=body).json()["accepted"] == 1
        listener.broker.missing = set()
        wait_until(lambda: listener.line.waiting == 0)
        assert len(listener.broker.stored) == 17


def test_requests_that_are_stored_together_do_not_fail_with_one_whose_topic_is_full(tmp_path: Path) -> None:
    broker, answers = UsageBroker(), dict[str, Any]()
    broker.missing = {topics.USAGE}
    spool = Spool(tmp_path / "s.db", max_bytes=8_000)
    clock = FakeClock()
    line = DeliveryQueue(clock, max_waiting=100)
    line.start(Delivery(spool, broker, on_acknowledged=line.acknowledge), threaded=False)
    tokens = [WorkloadBatch("c", "w", heartbeat_batch(topics.TOKENS, NOW_MS))]
    usage = [WorkloadBatch("c", "w", usage_batch([UsageRow("m", "1", "1", NOW_MS, NOW_MS, "acme", event_id="1")], 0))]
    for n in range(20):
        for name, batches in ((f"tokens {n}", tokens), (f"usage {n}", usage)):
            answer = partial(answers.__setitem__, name)
            line._inbox.put(PendingRequest(unnumbered_messages("x", "n", batches), answer))
        line.step()
        clock.now_ms += 1_000  # Longer than the pause after a refusal.
    line.step(0)
    assert [answers[f"tokens {n}"] for n in range(20)] == [None] * 20
    full = [n for n in range(20) if isinstance(answers.get(f"usage {n}"), SpoolFull)]
    assert 0 < full[0] == 20 - len(full)
    assert [event.seq for event in broker.stored] == list(range(20))
    spool.close()
