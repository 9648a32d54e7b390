"""Servers and clients that are slow without end: each is given up within a bound, and costs its neighbours no more.

Every limit here is far below the time that the other side takes, which is for ever. So no outcome depends on speed.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from contracts.connection_bounds import ConnectionBounds
from contracts.errors import Unavailable
from contracts.events import TokenBatch
from producers.bindings.kubernetes.api_server import ApiServer
from producers.common import http_client
from producers.common.http_client import Pages
from producers.common.time_limit import OverTimeError, TimeLimit
from producers.meters.sql import sql_query
from producers.meters.windows import MeterWindow
from producers.runai.client import RunAiClient, RunAiCredentials
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.receiver.runner import _serve
from producers.runtime.spool import Spool
from producers.servers.scrape import ServedWorkload, ServerSource
from tests.producers.frame import token_counters
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock
from tests.support.waiting import HANG_S, wait_until

LIMIT_S = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
TRICKLES = {
    "no answer": (b"", b""),
    "a head without end": (HEAD, b"X: y\r\n"),
    "a body without end": (HEAD + b"Content-Length: 100000000\r\n\r\n", b"x"),
    "chunks without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}
"""What a server sends at once, and then again and again, in less than each timeout of a read."""


@pytest.fixture(params=TRICKLES.values(), ids=TRICKLES)
def trickle(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that answers without end."""
    at_once, again = request.param
    end = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(at_once)
                while not end.wait(LIMIT_S / 10):
                    connection.sendall(again)
            except OSError:
                return  # The client has given up.

    def accept() -> None:
        while not end.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        end.set()
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def _api_server(port: int, folder: Path) -> object:
    (folder / "token").write_text("token")
    return ApiServer(f"http://127.0.0.1:{port}", "n1", folder / "token", folder / "ca", timeout_s=LIMIT_S).pods()


def _runai(port: int, folder: Path) -> object:
    credentials, clock = RunAiCredentials("app_token", "a", "s"), FakeClock()
    with RunAiClient(f"http://127.0.0.1:{port}", credentials, clock, lambda: 1.0, timeout_s=LIMIT_S) as client:
        return client.get("/api/v1/clusters")


def _database(scheme: str, port: int, folder: Path) -> object:
    fetch = sql_query.opener(f"{scheme}://u@127.0.0.1:{port}/d", "", total_s=LIMIT_S)
    return fetch("SELECT 1 AS quantity", MeterWindow(0, 60_000))


def _page(port: int, folder: Path) -> object:
    with Pages(timeout_s=LIMIT_S) as pages:
        return pages.text(f"http://127.0.0.1:{port}/metrics")


CLIENTS: dict[str, Callable[[int, Path], object]] = {
    "page": _page,
    "API server": _api_server,
    "Run:ai": _runai,
    "PostgreSQL": partial(_database, "postgresql"),
    "ClickHouse": partial(_database, "http"),
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_an_answer_without_end_is_given_up(client: Callable[[int, Path], object], trickle: int, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        client(trickle, tmp_path)


def test_a_page_that_is_too_large_is_given_up(trickle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_BYTES", 0)
    with Pages(timeout_s=LIMIT_S) as pages, pytest.raises(Unavailable):
        pages.text(f"http://127.0.0.1:{trickle}/metrics")


def test_a_server_that_trickles_loses_no_count_of_its_neighbour(trickle: int, tmp_path: Path) -> None:
    log, metrics, clock, requests = FakeBroker(), CollectorRegistry(), FakeClock(4_500), [0]

    def good() -> str:
        requests[0] += 1
        return f"vllm:prompt_tokens_total {10 * requests[0]}\nvllm:generation_tokens_total {10 * requests[0]}\n"

    url = f"http://127.0.0.1:{trickle}/metrics"
    with closing(Spool(tmp_path / "spool.db")) as spool, Pages(timeout_s=LIMIT_S) as pages:
        sources = [
            ServerSource(token_counters("vllm"), name, ServedWorkload("c", "w", "acme"), 1_000, fetch)
            for name, fetch in ((url, partial(pages.text, url)), ("good", good))
        ]
        PollLoop(sources, Delivery(spool, log), clock, {}, PollLoopMetrics(metrics)).run()
    assert sum(int(e.batch.prompt_tokens.sum()) for e in log.stored if isinstance(e.batch, TokenBatch)) == 40
    assert metrics.get_sample_value("wattlog_producer_source_up", {"source": url}) == 0


def test_a_call_over_time_holds_up_no_other_and_begins_no_second_of_its_name() -> None:
    limit, hold, calls = TimeLimit(LIMIT_S), threading.Event(), [0]

    def hang() -> None:
        calls[0] += 1
        hold.wait(HANG_S)

    for _ in range(3):
        with pytest.raises(OverTimeError):
            limit.run("a", hang)
    assert calls == [1]
    hold.set()
    wait_until(lambda: not limit._late["a"].is_alive())
    assert TimeLimit(HANG_S).run("a", lambda: 1) == 1


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RecursionError()])
def test_an_error_of_a_call_is_raised_as_it_is(error: Exception) -> None:
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        TimeLimit(HANG_S).run("a", call)


class _Cycle:
    """A request of a connection, and whether it is answered."""

    def __init__(self, *, response_complete: bool) -> None:
        self.response_complete = response_complete


class _Connection:
    """The part of uvicorn's connection that the limit reads."""

    def __init__(self) -> None:
        self.cycle: _Cycle | None = None
        self.closed = False
        self.transport = self

    def abort(self) -> None:
        self.closed = True


def test_a_client_that_sends_no_whole_head_is_closed_and_no_other() -> None:
    slow, served, served_then_slow = _Connection(), _Connection(), _Connection()
    heads = ConnectionBounds(10.0)
    served.cycle = _Cycle(response_complete=False)
    for now_s in (0.0, 5.0, 10.0):
        heads.close_slow({slow, served}, now_s)
    assert not slow.closed
    heads.close_slow({slow, served}, 10.1)
    assert slow.closed
    served_then_slow.cycle = _Cycle(response_complete=True)
    heads.close_slow({served, served_then_slow}, 20.0)
    served_then_slow.cycle = _Cycle(response_complete=True)  # Another request came and went in between.
    heads.close_slow({served, served_then_slow}, 30.1)
    assert not served_then_slow.closed
    heads.close_slow({served, served_then_slow}, 40.2)
    assert served_then_slow.closed
    assert not served.closed


async def _ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_listener_closes_the_connection_of_a_client_that_sends_no_whole_head() -> None:
    stop, queue = threading.Event(), SimpleNamespace(failed=None)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        place = SimpleNamespace(stop=stop)
        serve = partial(_serve, _ok, server, place, queue, None, read_s=LIMIT_S, ack_s=LIMIT_S)  # type: ignore[arg-type]
        thread = threading.Thread(target=serve)
        thread.start()
        with closing(socket.create_connection(server.getsockname(), HANG_S)) as client:
            client.sendall(b"POST / HTTP/1.1\r\nX: y")
            assert client.recv(1) == b""
        stop.set()
        thread.join()
