"""A thin ClickHouse-HTTP endpoint in front of chdb, so that one test suite runs over both kinds of DSN.

It implements what clickhouse-connect's HTTP client needs. Statements are in the body or in the `query` parameter, with
bound parameters, settings, and multipart forms for long parameters. Inserts may have any format, chunked or compressed.
Answers may be compressed; errors have their code; authentication is basic. It has no sessions, no progress headers and
no protocol versions, and opens one chdb handle per request.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import sys
import tempfile
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

PASSWORD = "correct horse"

_OWN = frozenset(
    {
        "query", "database", "session_id", "query_id", "wait_end_of_query", "compress", "decompress", "buffer_size",
        "quota_key", "role", "default_format", "client_protocol_version", "enable_http_compression",
        "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
    }
)  # fmt: skip
_SETTING = re.compile(r"[a-z][a-z0-9_]*")
_INSERT = re.compile(
    rb"\s*((?:/\*.*?\*/\s*)?INSERT\s+INTO\s+.*?)\s+FORMAT\s+(\w+)(?:\s*\n|\s*$)", re.IGNORECASE | re.DOTALL
)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)\.")
_STATUS = {516: 403, 60: 404, 81: 404}
_WRITES = re.compile(r"^\s*INSERT\s", re.IGNORECASE | re.MULTILINE)
_INFLATE = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress, "lz4": lz4.frame.decompress}


@dataclass(frozen=True)
class Fault:
    """The failure of one write.

    With a `code`, ClickHouse refuses it with `text`. With a `status` alone, a proxy answers. With neither, the
    connection is cut. `applied`: the write takes effect first.
    """

    code: int = 0
    text: str = "simulated"
    status: int = 0
    applied: bool = False


@dataclass
class Faults:
    """Queued failures: each applies to one write, in order; `away` cuts every connection."""

    queue: deque[Fault] = field(default_factory=deque)
    away: bool = False
    met: list[Fault] = field(default_factory=list)

    def take(self, sql: str) -> Fault | None:
        if not self.queue or not _WRITES.search(sql):
            return None
        self.met.append(self.queue.popleft())
        return self.met[-1]


class _Cut(Exception):
    """Cuts the connection without an answer."""


class Refused(Exception):
    """An error of ClickHouse: its code and text."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(f"Code: {code}. DB::Exception: {text}")


@contextmanager
def serve(path: Path, faults: Faults | None = None, port: int = 0) -> Iterator[str]:
    """Serve the chdb folder `path` on a free loopback port, or on `port`.

    Yields the address without a database, such as `http://default@127.0.0.1:40001`. The user `locked` needs PASSWORD;
    every other needs none.
    """
    handler = type("Handler", (_Handler,), {"path_of_chdb": str(path.resolve()), "faults": faults or Faults()})
    server = _Server(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://default@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """Server that stays silent about clients that are killed during a request: tests kill dozens."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    path_of_chdb: str
    faults: Faults
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/ping"):
            self._send(200, b"Ok.\n", {})
        else:
            self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, body: bytes) -> None:
        try:
            self._answer_or_cut(body)
        except _Cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer_or_cut(self, body: bytes) -> None:
        if self.faults.away:
            raise _Cut
        try:
            self._authenticate()
            body = _INFLATE[self.headers.get("Content-Encoding", "")](body)
            parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            if self.headers.get("Content-Type", "").startswith("multipart/form-data"):
                parameters.update(self._form(body))
                body = b""
            if parameters.get("client_protocol_version", "0") != "0":
                del parameters["client_protocol_version"]  # as an old server or a proxy would
            fault = self.faults.take(parameters.get("query", "") + "\n" + body[:1000].decode(errors="replace"))
            answer, headers = (b"", {}) if fault and not fault.applied else self._run(parameters, body)
            if fault is not None:
                return self._fail(fault)
        except Refused as refused:
            error = {"X-ClickHouse-Exception-Code": str(refused.code)}
            self._send(_STATUS.get(refused.code, 500), f"{refused}\n".encode(), error)
            return
        if parameters.get("enable_http_compression") == "1" and "gzip" in self.headers.get("Accept-Encoding", ""):
            answer = gzip.compress(answer, 1)
            headers["Content-Encoding"] = "gzip"
        self._send(200, answer, headers)

    def _fail(self, fault: Fault) -> None:
        if fault.code:
            raise Refused(fault.code, fault.text)
        if not fault.status:
            raise _Cut
        self._send(fault.status, fault.text.encode(), {"Content-Type": "text/plain"})

    def _authenticate(self) -> None:
        credentials = self.headers.get("Authorization", "").removeprefix("Basic ")
        user, _, password = base64.b64decode(credentials).decode().partition(":")
        if user == "locked" and password != PASSWORD:
            raise Refused(516, "locked: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)")

    def _form(self, body: bytes) -> dict[str, str]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = BytesParser(policy=HTTP).parsebytes(head + body)
        return {
            str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True)).decode()
            for part in parts.iter_parts()
        }

    def _run(self, parameters: dict[str, str], body: bytes) -> tuple[bytes, dict[str, str]]:
        """Run one statement on a handle of its own: the database, the settings (readonly last), the statement."""
        connection = chdb.connect(self.path_of_chdb)
        try:
            _query(connection, "USE `{}`".format(parameters.get("database", "default").replace("`", "")))
            settings = {k: v for k, v in parameters.items() if k not in _OWN and not k.startswith("param_")}
            for name in sorted(settings, key=lambda n: (n == "readonly", n)):
                if not _SETTING.fullmatch(name):
                    raise Refused(115, f"Unknown setting {name!r}. (UNKNOWN_SETTING)")
                _query(
                    connection, "SET {} = '{}'".format(name, settings[name].replace("\\", r"\\").replace("'", r"\'"))
                )
            timezone = _query(connection, "SELECT timezone()").bytes().decode().strip()
            sql = parameters.get("query", "").encode()
            statement = sql + (b"\n" if sql and body else b"") + body
            params = {k.removeprefix("param_"): v for k, v in parameters.items() if k.startswith("param_")}
            insert = _INSERT.match(statement)
            if insert and not insert[1].rstrip().upper().endswith(b"VALUES"):
                result, format_ = _insert(connection, insert, statement[insert.end() :], params), ""
            else:
                text = statement.decode()
                result = _query(connection, text, params)
                match = _FORMAT.search(text.rstrip())
                format_ = match[1] if match else "TabSeparated"
            summary = {"read_rows": str(result.rows_read()), "written_rows": str(result.rows_read() if insert else 0)}
            headers = {"X-ClickHouse-Timezone": timezone, "X-ClickHouse-Summary": json.dumps(summary)}
            if format_:
                headers["X-ClickHouse-Format"] = format_
            return result.bytes() or b"", headers
        finally:
            connection.close()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/octet-stream",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _insert(connection: Any, insert: re.Match[bytes], data: bytes, params: dict[str, str]) -> Any:
    """`INSERT INTO t (columns) FORMAT F`, or `INSERT INTO t SELECT ... FROM input('...') ... FORMAT F`, and its data,
    which chdb reads from a file.
    """
    into, format_ = insert[1].decode(), insert[2].decode()
    with tempfile.NamedTemporaryFile(suffix=".insert") as file:
        file.write(data)
        file.flush()
        if " input(" in into:
            return _query(connection, into.replace(" input(", f" file('{file.name}', '{format_}', "), params)
        return _query(connection, f"{into} FROM INFILE '{file.name}' FORMAT {format_}", params)


def _query(connection: Any, sql: str, params: dict[str, str] | None = None) -> Any:
    try:
        return connection.query(sql, "TabSeparated", params=params or {})
    except RuntimeError as error:
        text = str(error)
        match = _CODE.search(text)
        raise Refused(int(match[1]) if match else 1002, text.partition("DB::Exception: ")[2] or text) from error
