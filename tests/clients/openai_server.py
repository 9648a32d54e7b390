"""A stand-in for an OpenAI server, with usage that is known: no model, one tool call, then a short answer.

A call uses 100 prompt tokens, of them 30 cached, and 20 completion tokens; one that answers a tool 150, 96 and 7. An
embedding uses 8; a call of the Responses API 100, 30 and 20, of them 5 reasoning. It needs nothing but Python.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def chat_usage(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


FIRST, SECOND = chat_usage(100, 30, 20), chat_usage(150, 96, 7)
EMBEDDING = {"prompt_tokens": 8, "total_tokens": 8}
RESPONSE = {
    "input_tokens": 100, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120,
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        now, model = int(time.time()), body.get("model")
        if "embeddings" in self.path:
            data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
            self.answer({"object": "list", "data": data, "model": model, "usage": EMBEDDING})
        elif "responses" in self.path:
            content = [{"type": "output_text", "text": "dummy", "annotations": []}]
            output = [{"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}]
            self.answer({
                "id": "resp_1", "object": "response", "created_at": now, "status": "completed", "model": model,
                "output": output, "usage": RESPONSE, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
            })  # fmt: skip
        else:
            self.chat(body, {"id": f"chatcmpl-{time.time_ns()}", "created": now, "model": model})

    def chat(self, body: dict[str, Any], names: dict[str, Any]) -> None:
        has_answer = any(message.get("role") == "tool" for message in body.get("messages", []))
        message: dict[str, Any] = {"role": "assistant", "content": "dummy"}
        reason, usage = "stop", SECOND if has_answer else FIRST
        if body.get("tools") and not has_answer:
            function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
            calls = [{"index": 0, "id": "c1", "type": "function", "function": function}]
            message, reason = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            self.answer({**names, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for delta, finish in ((message, None), ({}, reason)):
            self.event({**names, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self.event({**names, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"object": "chat.completion.chunk", **chunk}).encode() + b"\n\n")

    def answer(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def start() -> str:
    """Start the server in a thread. Return the base URL of its API."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1"
