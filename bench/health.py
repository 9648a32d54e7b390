"""Times of a receiver's health checks while others send what costs most. The real process, a mock broker.

`python -m bench.health [--seconds 10] [--quick]`. For each kind of body, eight connections of another process post one
after the other, and /healthz is asked every 20 ms on connections of its own. Prints p50, p99 and the greatest time.
Attackers, receiver and broker share the machine's cores, as they would not elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness.broker import ROOT
from bench.harness.progress import console

PROTOBUF, JSON, EVENTS = "application/x-protobuf", "application/json", "application/cloudevents-batch+json"
CONNECTIONS = 8
EVERY_S = 0.02
SPANS = 16_384


def spans(count: int = SPANS, prefix: str = "") -> bytes:
    """Return an export of calls of a model, whose ids differ."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    now_ns = time.time_ns()
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for n in range(count):
        span = scope.spans.add(
            trace_id=os.urandom(16), span_id=os.urandom(8), name="chat llama", start_time_unix_nano=now_ns - 10**9,
            end_time_unix_nano=now_ns,
        )  # fmt: skip
        for name, value in (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "llama"),
                            ("gen_ai.response.id", f"{prefix}{n}-{os.urandom(8).hex()}")):  # fmt: skip
            span.attributes.add(key=name).value.string_value = value
        for name, tokens in (("gen_ai.usage.input_tokens", 90), ("gen_ai.usage.output_tokens", 9)):
            span.attributes.add(key=name).value.int_value = tokens
    return bytes(request.SerializeToString())


def spans_as_json() -> bytes:
    from google.protobuf.json_format import MessageToJson
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return str(MessageToJson(ExportTraceServiceRequest.FromString(spans(SPANS // 4)), indent=None)).encode()


def requests() -> bytes:
    end = time.time()
    return json.dumps([
        {"request_id": os.urandom(8).hex(), "model": "llama", "tenant": "acme", "prompt_tokens": 90, "end": end,
         "completion_tokens": 9, "duration_ms": 900} for _ in range(5_000)
    ]).encode()  # fmt: skip


def events() -> bytes:
    return json.dumps([
        {"specversion": "1.0", "type": "call", "id": os.urandom(8).hex(), "source": "app", "subject": "acme"}
        for _ in range(5_000)
    ]).encode()  # fmt: skip


def empty_spans() -> bytes:
    return b"\x0a\x80\x80\x80\x03\x12\xfc\xff\xff\x02".ljust(10, b"\0") + b"\x12\x00" * 3_000_000


BODIES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "nothing": ("", "", bytes),
    "16,384 spans, protobuf": ("/v1/traces", PROTOBUF, spans),
    "4,096 spans, JSON": ("/v1/traces", JSON, spans_as_json),
    "5,000 requests": ("/v1/requests", JSON, requests),
    "5,000 CloudEvents": ("/api/v1/events", EVENTS, events),
    "3,000,000 empty spans": ("/v1/traces", PROTOBUF, empty_spans),
}


def attack(port: int, kind: str) -> None:
    """Post bodies of a kind on several connections, until the process is killed."""
    path, content_type, body_of = BODIES[kind]
    bodies = [body_of() for _ in range(CONNECTIONS)]

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            for body in bodies:
                try:
                    connection.request("POST", path, body, {"content-type": content_type})
                    answer = connection.getresponse()
                    answer.read()
                    print(answer.status, flush=True)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    time.sleep(0.01)

    threads = [threading.Thread(target=post, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    print("posting", flush=True)
    threading.Event().wait()


@contextlib.contextmanager
def program(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this repository, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def receiver(folder: Path, **variables: str) -> Iterator[int]:
    """Run `wattlog produce http` with a mock broker, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with program("-m", "bench.harness.mock_broker") as broker:
        assert broker.stdout is not None
        settings = {"WATTLOG_KAFKA_BOOTSTRAP": broker.stdout.readline().strip(), "WATTLOG_DATA": str(folder),
                    "WATTLOG_CLUSTER": "east", "WATTLOG_HTTP_PORT": str(port)} | variables  # fmt: skip
        with program("-c", "from cli.main import main; main()", "produce", "http", **settings):
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield port


def times_ms(port: int, seconds: float) -> list[float]:
    """Return how long health checks took, least first. Each has a connection of its own, as a kubelet's has."""
    result: list[float] = []
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        result.append((time.monotonic() - begun) * 1000)
        time.sleep(max(0.0, begun + EVERY_S - time.monotonic()))
    return sorted(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="two seconds of each")
    parser.add_argument("--only", help="one kind of body")
    parser.add_argument("--attack", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        attack(options.attack, options.only)
    seconds = 2.0 if options.quick else options.seconds
    answers = Counter[str]()
    for kind in [options.only] if options.only else list(BODIES):
        with (
            tempfile.TemporaryDirectory() as folder,
            receiver(Path(folder), WATTLOG_HTTP_MAX_ROWS_PER_S="1000000000") as port,
            contextlib.ExitStack() as stack,
        ):
            if BODIES[kind][0]:
                attacker = stack.enter_context(program("-m", "bench.health", "--only", kind, "--attack", str(port)))
                assert attacker.stdout is not None
                attacker.stdout.readline()  # "posting"
                time.sleep(seconds / 5)
            checks = times_ms(port, seconds)
            if BODIES[kind][0]:
                attacker.kill()
                assert attacker.stdout is not None
                answers = Counter(attacker.stdout.read().split())
        p50, p99 = (checks[int(share * (len(checks) - 1))] for share in (0.5, 0.99))
        console.print(
            f"{kind:24} {len(checks):5} checks: p50 {p50:6.1f}, p99 {p99:6.1f}, most {checks[-1]:6.1f} ms; "
            f"answers {dict(answers)}"
        )


if __name__ == "__main__":
    main()
