"""Servers of a test: real HTTP on loopback or on a Unix domain socket, answered by a function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer, ThreadingMixIn, UnixStreamServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """A received request; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """An answer; without a Content-Length in `headers`, the length of `body` is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Response | None]
"""None closes the connection without an answer. Called in a thread for each connection."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Serve on a free port of loopback; yield the URL, without a path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer))
    server.daemon_threads = True
    with _running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def serving_socket(answer: Answer, path: Path) -> Iterator[str]:
    """Serve on a Unix domain socket at `path`; yield its `unix://` address."""
    with _running(_SocketServer(str(path), _handler(answer))):
        yield f"unix://{path}"


class _SocketServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@contextmanager
def _running(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            response = answer(Request(self.command, url.path, parse_qs(url.query), headers, body))
            if response is None:
                return
            with suppress(OSError):  # The client may have given up.
                self.send_response(response.status)
                for name, value in {"Content-Length": str(len(response.body)), **response.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(response.body)

        do_GET = do_POST = _respond

        def address_string(self) -> str:
            return "client"

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
