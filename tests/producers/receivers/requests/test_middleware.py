"""The middleware on the route's page, run as it is printed there."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.callers import ANYBODY
from contracts.settings import Settings
from producers.api import ReceivedRequest
from producers.receivers.request_options import RequestsConfig
from producers.receivers.requests.plugin import build
from producers.runtime.deduplication import DeduplicationTrial, DeduplicationWindow
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET
from tests.project.fences import blocks
from tests.project.tree import ROOT
from tests.support.waiting import HANG_S

PAGE = (ROOT / "producers" / "receivers" / "requests" / "README.md").read_text("utf-8")
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
ANSWER = {"id": "c1", "model": "llama", "choices": [{"message": {"content": SECRET}}], "usage": USAGE}
STREAM = b"".join(
    b"data: %s\n\n" % part
    for part in (
        json.dumps(ANSWER | {"usage": None}).encode(),
        json.dumps(ANSWER | {"choices": []}).encode(),
        b"[DONE]",
    )
)


def code(language: str) -> str:
    return next(block.body for block in blocks(PAGE) if block.info[:1] == (language,))


def accepted(body: bytes) -> tuple[int, int]:
    """Return the tokens of the one request in a body that the middleware sent."""
    assert SECRET.encode() not in body
    route = build(RequestsConfig(), environment(Settings()))
    sent = ReceivedRequest(body, "application/json", {}, ANYBODY, round(time.time() * 1000))
    parsed = route.parse(sent, DeduplicationTrial(DeduplicationWindow()))
    [item] = parsed.batches
    return int(item.batch.prompt_tokens[0]), int(item.batch.completion_tokens[0])  # type: ignore[union-attr]


@pytest.mark.parametrize("answer", [json.dumps(ANSWER).encode(), STREAM], ids=["whole", "streamed"])
def test_the_middleware_in_python_sends_counts_and_no_text(answer: bytes) -> None:
    names: dict[str, Any] = {"json": json, "time": time}
    exec(code("python"), names)
    posted: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for part in (answer[:40], answer[40:]):
            await send({"type": "http.response.body", "body": part})

    async def call() -> list[Any]:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        def receive_post(request: httpx.Request) -> httpx.Response:
            posted.append(request.content)
            return httpx.Response(202)

        async with httpx.AsyncClient(transport=httpx.MockTransport(receive_post), base_url="http://x") as client:
            await names["Wattlog"](app, client, lambda scope: "acme")({"type": "http"}, None, send)
        return messages

    assert len(asyncio.run(call())) == 3
    assert [accepted(body) for body in posted] == [(100, 20)]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("answer", [json.dumps(ANSWER).encode(), STREAM], ids=["whole", "streamed"])
def test_the_middleware_for_node_sends_counts_and_no_text(tmp_path: Path, answer: bytes) -> None:
    posted: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            if self.path == "/v1/requests":
                posted.append(body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    script = tmp_path / "call.mjs"
    call = f"""
        const call = wattlog(fetch, "{url}/v1/requests", "acme");
        await (await call("{url}/v1/chat/completions", {{ method: "POST", body: "{{}}" }})).text();
    """
    script.write_text(code("js") + textwrap.dedent(call))
    subprocess.run(["node", script], check=True, timeout=HANG_S, capture_output=True)
    server.shutdown()
    thread.join()
    server.server_close()
    assert [accepted(body) for body in posted] == [(100, 20)]
