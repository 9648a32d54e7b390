"""Prompts and answers pass no way in: marked texts are searched in everything that a way in writes.

Each way in gets bodies with the mark in every place that may hold a prompt, good ones and malformed ones. Searched are
the messages on the log, the answers to the sender, the log of the process, and every file on its disk: the spool, and
what LiteLLM's callback writes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from contracts.settings import Settings
from producers.gateways.deployments import Deployments
from producers.gateways.litellm.callback import WattlogLogger
from producers.gateways.litellm.callback_folder import CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.gateways.otel.kafka_topic import SpansTopic
from producers.runtime.receiver.routes import open_routes
from tests.producers.conformance import poll
from tests.producers.frame import environment
from tests.producers.gateways.payloads import SECRET, T0, as_json, as_protobuf, payload, span
from tests.producers.runtime.receiver.listener import listening
from tests.support.clocks import FakeClock
from tests.support.event_log import in_process_broker

LATER_MS = T0 + 60_000
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.model_name": "llama", "llm.token_count.prompt": 7, "input.value": SECRET,
    "output.value": SECRET, "llm.input_messages.0.message.content": SECRET, "llm.prompt_template.template": SECRET,
}  # fmt: skip
VERCEL = {"ai.operationId": "ai.generateText.doGenerate", "ai.usage.promptTokens": 7, "ai.prompt": SECRET,
          "ai.response.text": SECRET, "ai.prompt.messages": SECRET, "ai.toolCall.args": SECRET}  # fmt: skip
OTHERS = {
    "metadata.usage_object": repr({"prompt_tokens": 7, "note": SECRET}),
    "langfuse.observation.usage_details": json.dumps({"input": 7, "note": SECRET}), "mlflow.chat.tokenUsage": SECRET,
    "langfuse.observation.input": SECRET, "llm.hosted_vllm.messages": SECRET, "traceloop.entity.input": SECRET,
    "db.query.text": SECRET, "url.full": f"http://x/?q={SECRET}", "http.request.body": SECRET,
}  # fmt: skip


def spans() -> list[dict[str, Any]]:
    """Return spans with the mark wherever a convention has text of a prompt, some of them malformed."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": SECRET, "gen_ai.tool.name": "t"}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.system_instructions": SECRET, "final_result": SECRET}
    refused = [{"gen_ai.usage.input_tokens": -1}, {"gen_ai.usage.output_tokens": SECRET}]
    attributes = [{}, tool, agent, OPENINFERENCE, VERCEL, OTHERS, *refused]
    marked = [span({"wattlog.tenant": SECRET * 20}, id="b" * 16)]
    return [*(span(one, id=f"{n:016x}") for n, one in enumerate(attributes, 1)), *marked]


def payloads() -> list[dict[str, Any]]:
    """Return LiteLLM's payloads with the mark wherever it has text of a prompt, some of them malformed."""
    error = {"error_class": "BadRequestError", "error_message": SECRET, "traceback": SECRET}
    return [
        payload(id="1"), payload(id="2", status="failure", error_information=error, error_str=SECRET),
        payload(id="3", endTime=SECRET), payload(id="4", model=None), payload(id="5", call_type="call_mcp_tool"),
        payload(id="7", prompt_tokens=SECRET, metadata={}, response=None),
        payload(id="6", messages=SECRET, response=SECRET, guardrail_information=[SECRET], response_cost="x"),
    ]  # fmt: skip


def written(folder: Path) -> Iterator[bytes]:
    """Yield the contents of every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


def search(folder: Path, log: str, stored: object, answers: Sequence[str] = ()) -> None:
    mark = SECRET.encode()
    assert not [content for content in written(folder) if mark in content]
    assert SECRET not in log
    assert SECRET not in repr(stored)
    assert SECRET not in "".join(answers)


BAD_BODIES = {
    "/v1/traces": [
        as_json([span(trace=SECRET * 20)]),
        as_json(spans())[:-40],
        b'{"resourceSpans": "%s"}' % SECRET.encode(),
        SECRET.encode(),
    ],
    "/litellm": [json.dumps(payload())[:-40].encode(), SECRET.encode(), b'["%s"]' % SECRET.encode()],
}


@pytest.mark.parametrize(
    ("path", "content_type", "good"),
    [
        ("/v1/traces", "application/json", as_json(spans(), {"process.command_args": SECRET, "service.name": "shop"})),
        ("/v1/traces", "application/x-protobuf", as_protobuf(spans(), {"process.command_args": SECRET})),
        ("/litellm", "application/json", json.dumps(payloads()).encode()),
        ("/litellm", "application/x-ndjson", "\n".join(map(json.dumps, payloads())).encode()),
    ],
    ids=["spans in JSON", "spans in protobuf", "LiteLLM's array", "LiteLLM's lines"],
)  # fmt: skip
def test_no_text_of_a_prompt_passes_a_route(
    path: str, content_type: str, good: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    routes = [
        route for route in open_routes(environment(Settings(cluster="east", data=tmp_path))) if route.path == path
    ]
    with listening(tmp_path, intakes=routes) as listener:
        answers = [
            listener.client.post(path, content=body, headers={"content-type": content_type})
            for body in (good, *BAD_BODIES[path])
        ]
        assert answers[0].status_code < 300
        assert all(answer.status_code in (200, 422) for answer in answers[1:])
        assert sum(len(event.batch) for event in listener.broker.stored) > 2
        search(tmp_path, caplog.text, listener.broker.stored, [answer.text for answer in answers])


def test_no_text_of_a_prompt_passes_litellms_callback_and_its_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "calls"
    with closing(WattlogLogger(folder)) as logger:
        for one in payloads():
            asyncio.run(logger.async_log_success_event({"standard_logging_object": one, "messages": SECRET}, 0, 0, 1))
    (folder / "broken.jsonl").write_text('{"id": "9", "model": "\ud7ff')
    source = CallbackFolder(folder, LiteLLMReader(LiteLLMRules()), Deployments([], "c"))
    log, _ = poll([source], tmp_path, FakeClock(end_ms=LATER_MS + 2_000, now_ms=LATER_MS, epoch_ms=0))
    assert sum(len(event.batch) for event in log.stored) > 2
    search(tmp_path, caplog.text, log.stored)


@pytest.mark.parametrize("encode", [as_json, as_protobuf])
def test_no_text_of_a_prompt_passes_a_topic_of_spans(
    encode: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with in_process_broker() as broker:
        producer = Producer({"bootstrap.servers": broker, "log_level": 0})
        for body in (encode(spans()), encode(spans())[:-40], SECRET.encode()):
            producer.produce("otlp_spans", body, partition=0)
        assert producer.flush(10) == 0
        config = {"bootstrap.servers": broker, "group.id": "x", "log_level": 0, "enable.auto.commit": False}
        topic = SpansTopic("otlp_spans", GenAIReader(SpanRules()), Deployments([], "c"), lambda: Consumer(config),
                           begin="start", every_ms=200)  # fmt: skip
        with closing(topic):
            log, _ = poll([topic], tmp_path, FakeClock(end_ms=LATER_MS + 2_000, now_ms=LATER_MS, epoch_ms=0))
    assert sum(len(event.batch) for event in log.stored) > 2
    search(tmp_path, caplog.text, log.stored)
