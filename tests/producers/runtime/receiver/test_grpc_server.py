"""OTLP over gRPC: the same routes, senders, bounds and answers as over HTTP, for exporters that speak only that."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Any_
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from contracts.errors import Unavailable
from contracts.settings import Settings
from producers.receivers.otlp_signals.plugin import OtlpConfig, build_logs, build_metrics
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.receiver.grpc_server import OtlpGrpcServer
from producers.runtime.receiver.routes import open_routes
from producers.runtime.receiver.sender_quotas import Quota
from producers.runtime.receiver.server import RequestLimits
from producers.runtime.runner import run
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET, as_protobuf, span
from tests.producers.receivers.otlp_signals.messages import CLAUDE, counter, logs, metrics, record
from tests.producers.runtime.receiver.listener import SECRET as KEY
from tests.producers.runtime.receiver.listener import Listener, listening, token
from tests.support.waiting import HANG_S

Call = Callable[[Any], Any]
RETRY_INFO = "google.rpc.RetryInfo"


@pytest.fixture
def listen(tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def listen(**more: Any) -> Iterator[Listener]:
        here = environment(Settings(cluster="east"))
        options = OtlpConfig(metrics=(CLAUDE,), logs=("codex.sse_event",))
        routes = [build_metrics(options, here), build_logs(options, here)]
        routes += [route for route in open_routes(here) if route.path == "/v1/traces"]
        with listening(tmp_path, intakes=routes, recent=DeduplicationWindow(), **more) as listener:
            yield listener

    return listen


def _answers(port: int, many: Sequence[Call]) -> list[Any]:
    answers: list[Any] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        for call in many:
            try:
                answers.append(call(channel))
            except grpc.RpcError as error:
                answers.append((error.code().name, error.details()))
    return answers


def calls(listener: Any, *many: Call) -> list[Any]:
    """Return the answer to each call, or its code and details."""

    async def run_all() -> list[Any]:
        server = OtlpGrpcServer(listener._handler, listener.grpc_routes, "127.0.0.1", 0)
        port = await server.start()
        answers = await asyncio.to_thread(_answers, port, many)
        await server.stop(0)
        return answers

    return asyncio.run(run_all())


def traces(body: bytes, **options: Any) -> Call:
    request = ExportTraceServiceRequest.FromString(body)
    return lambda channel: TraceServiceStub(channel).Export(request, **options)


def rows(listener: Listener) -> list[int]:
    return [len(event.batch) for event in listener.broker.stored]


def test_spans_metrics_and_logs_are_taken_and_answered_as_over_http(listen: Callable[..., Any]) -> None:
    bad = span({"gen_ai.usage.input_tokens": -1}, id="bb" * 8)
    metric = ExportMetricsServiceRequest.FromString(metrics(counter({"input": 5, "x": 1})))
    records = ExportLogsServiceRequest.FromString(logs(record()))
    with listen() as listener:
        spans, points, events = calls(
            listener,
            traces(as_protobuf([span(), bad]), compression=grpc.Compression.Gzip),
            lambda channel: MetricsServiceStub(channel).Export(metric),
            lambda channel: LogsServiceStub(channel).Export(records),
        )
        assert spans.partial_success.rejected_spans == 1
        assert points.partial_success.error_message == "not counted: 1 (unknown_kind)"
        assert "claude_code.api_request can count" in events.partial_success.error_message
        assert rows(listener) == [1, 1]
        assert listener.count("requests_total", route="/v1/traces", status="200") == 1


def test_the_answer_to_a_sender_beyond_its_quota_gives_the_time_to_try_again(listen: Callable[..., Any]) -> None:
    details: list[bytes] = []

    def refused(channel: Any) -> Any:
        try:
            return TraceServiceStub(channel).Export(ExportTraceServiceRequest())
        except grpc.RpcError as error:
            details.extend(value for name, value in error.trailing_metadata() if name == "grpc-status-details-bin")
            raise

    with listen(quota=Quota(rows_per_s=1)) as listener:
        many = as_protobuf([span(id=f"{n:016x}") for n in range(1, 213)])
        _, (code, text) = calls(listener, traces(many), refused)
    assert (code, "More than 1 rows per second" in text) == ("UNAVAILABLE", True)
    delays = [Duration(seconds=seconds).SerializeToString() for seconds in range(1, 204)]
    infos = [Any_(type_url=f"type.googleapis.com/{RETRY_INFO}", value=b"\n%c%s" % (len(one), one)) for one in delays]
    endings = [b"\x1a%c%s" % (len(one), one) for one in (info.SerializeToString() for info in infos)]
    assert [details[0].startswith(b"\x08\x0e\x12%c%s\x1a" % (len(text), text.encode()))] == [True]
    assert sum(details[0].endswith(ending) for ending in endings) == 1


def test_a_call_that_is_sent_again_counts_once(listen: Callable[..., Any]) -> None:
    with listen() as listener:
        calls(listener, *[traces(as_protobuf([span()]))] * 2)
        assert rows(listener) == [1]


def test_a_token_in_the_metadata_says_who_sends(listen: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    def sent_by(*metadata: tuple[str, str]) -> Call:
        return traces(as_protobuf([span()]), metadata=metadata)

    with listen(key=KEY) as listener:
        answers = calls(
            listener, sent_by(), sent_by(("authorization", token(tenant="globex"))),
            sent_by(("authorization", token(tenant="acme"))),
        )  # fmt: skip
        assert [answer[0] for answer in answers[:2]] == ["UNAUTHENTICATED", "PERMISSION_DENIED"]
        assert rows(listener) == [1]
    assert "/v1/traces: refused with 401" in caplog.text


@pytest.mark.parametrize(
    ("limits", "body", "code"),
    [
        (RequestLimits(ack_s=0.05), as_protobuf([span()]), "UNAVAILABLE"),
        (RequestLimits(requests=0), as_protobuf([span()]), "UNAVAILABLE"),
        (RequestLimits(body_bytes=10), as_protobuf([span()]), "INVALID_ARGUMENT"),
    ],
)
def test_a_call_that_may_be_accepted_later_is_unavailable_and_another_is_invalid(
    listen: Callable[..., Any], limits: RequestLimits, body: bytes, code: str
) -> None:
    with listen(limits=limits) as listener:
        listener.broker.silent = True
        [answer] = calls(listener, traces(body))
        assert answer[0] == code


def test_a_malformed_message_is_refused_without_a_quote(
    listen: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def send(body: bytes) -> Call:
        return lambda channel: channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        )(body)  # fmt: skip

    with listen() as listener:
        answers = calls(listener, send(b"\xff" + SECRET.encode()), send(SECRET.encode()), send(b"\x0a\xff"))
        assert [answer[0] for answer in answers] == ["INVALID_ARGUMENT"] * 3
        [unknown] = calls(listener, lambda channel: channel.unary_unary("/x.Y/Z")(b""))
        assert unknown[0] == "UNIMPLEMENTED"
        assert SECRET not in repr(answers) + caplog.text
        assert rows(listener) == []


def test_the_listener_opens_the_port_that_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: str
) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_HTTP_PORT", "0")
    monkeypatch.setenv("WATTLOG_HTTP_GRPC_PORT", "0")
    settings = Settings(kafka_bootstrap=broker, data=tmp_path, cluster="c1", node="n1")
    stop, up, ports = threading.Event(), threading.Event(), list[int]()

    def listening_at(port: int) -> None:
        ports.append(port)
        up.set()

    options = {"on_listening_grpc": listening_at}
    producing = threading.Thread(target=run, args=("http", settings, stop), kwargs=options)
    producing.start()
    try:
        assert up.wait(HANG_S)
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            now_ns = time.time_ns()
            new = span(start=now_ns - 10**9, end=now_ns)
            request = ExportTraceServiceRequest.FromString(as_protobuf([new]))
            assert not TraceServiceStub(channel).Export(request, timeout=HANG_S).partial_success.rejected_spans
        monkeypatch.setenv("WATTLOG_HTTP_GRPC_PORT", str(ports[0]))
        settings = settings.model_copy(update={"data": tmp_path / "other"})
        with pytest.raises(Unavailable, match="for gRPC"):
            run("http", settings, threading.Event())
    finally:
        stop.set()
        producing.join(HANG_S)
    assert not producing.is_alive()


def names(routes: Sequence[Any]) -> set[str]:
    return {route.path for route in routes if route.grpc_method}


def test_each_signal_of_otlp_has_its_method() -> None:
    assert names(open_routes(environment(Settings(cluster="c")))) == {"/v1/traces", "/v1/metrics", "/v1/logs"}
