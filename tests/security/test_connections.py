"""Slow and idle clients hold no connection that another client needs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from contracts import connection_bounds
from contracts.connection_bounds import HEAD_BYTES, ConnectionBounds, bounded_protocol, connection_limit
from tests.support.waiting import HANG_S, wait_until

SLOW_HEAD = b"POST / HTTP/1.1\r\nX: y"
SLOW_BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx"


@dataclass(eq=False)
class _Cycle:
    response_complete: bool = False
    more_body: bool = False


@dataclass(eq=False)
class _Connection:
    """The part of uvicorn's connection that the bounds read."""

    address: str = "10.0.0.1"
    cycle: _Cycle | None = None
    closed: bool = field(default=False, init=False)

    @property
    def client(self) -> tuple[str, int]:
        return self.address, 1

    @property
    def transport(self) -> Any:
        return self

    def abort(self) -> None:
        self.closed = True


def _opened(bounds: ConnectionBounds, *connections: _Connection) -> list[bool]:
    for connection in connections:
        bounds.add(connection)
    return [connection.closed for connection in connections]


def test_the_oldest_of_too_many_connections_without_a_request_is_closed() -> None:
    busy, answered, silent = _Connection("a", _Cycle()), _Connection("b", _Cycle(True)), _Connection("c")
    assert _opened(ConnectionBounds(limit=3), busy, answered, silent, _Connection("d")) == [False, True, False, False]


def test_the_oldest_request_that_still_arrives_is_closed_where_all_have_one_or_else_the_newest() -> None:
    busy, arriving = _Connection("a", _Cycle()), _Connection("b", _Cycle(more_body=True))
    bounds = ConnectionBounds(limit=2)
    assert _opened(bounds, busy, arriving, _Connection("c", _Cycle())) == [False, True, False]
    assert _opened(bounds, _Connection("d", _Cycle())) == [True]


def test_an_address_has_half_of_the_connections() -> None:
    bounds = ConnectionBounds(limit=4)
    assert _opened(bounds, *(_Connection("a") for _ in range(4)), _Connection("b")) == [True, True, False, False, False]


def test_a_connection_that_has_closed_takes_no_place() -> None:
    bounds, gone = ConnectionBounds(limit=1), _Connection()
    bounds.add(gone)
    bounds.remove(gone)
    assert _opened(bounds, _Connection()) == [False]
    assert not gone.closed


def test_a_process_that_may_open_few_files_takes_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_bounds.resource, "getrlimit", lambda _: (1_024, 4_096))
    assert connection_limit() == 512


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if message["type"] == "http.request":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextmanager
def _server(limit: int) -> Iterator[int]:
    bounds = ConnectionBounds(HANG_S, limit)
    config = uvicorn.Config(
        _answer, port=0, log_level="error", lifespan="off", http=bounded_protocol(H11Protocol, bounds),
        h11_max_incomplete_event_size=HEAD_BYTES, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("beginning", [b"", SLOW_HEAD, SLOW_BODY], ids=["silent", "slow head", "slow body"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_many_slow_clients_keep_no_other_from_its_answer(beginning: bytes) -> None:
    with _server(limit=20) as port, ExitStack() as slow:
        for _ in range(60):
            client = slow.enter_context(closing(socket.create_connection(("127.0.0.1", port), HANG_S)))
            client.sendall(beginning)
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=HANG_S, trust_env=False).status_code == 204


def test_a_head_without_end_is_refused() -> None:
    with _server(limit=20) as port, closing(socket.create_connection(("127.0.0.1", port), HANG_S)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(2 * HEAD_BYTES // 1_024):
            try:
                client.sendall(b"y" * 1_024)
            except OSError:
                return
        assert b"400" in client.recv(100)
