"""Roles of spans: a call of a model, an agent (or another wrapper around calls), a tool, or none of these. Pure.

A span that carries token counts is a call of a model, whatever its operation is called, unless a convention says that
it is an agent's or a tool's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from producers.gateways.litellm_call_types import BATCHES, INFERENCE
from producers.gateways.otel.spans import Span
from producers.gateways.otel.token_names import has_counts

OPERATION = "gen_ai.operation.name"
OPENINFERENCE, TRACELOOP, LANGFUSE = "openinference.span.kind", "traceloop.span.kind", "langfuse.observation.type"
GENAI_KIND, MLFLOW, CLAUDE_CODE = "gen_ai.span.kind", "mlflow.spanType", "span.type"
VERCEL, REQUEST_TYPE = "ai.operationId", "llm.request.type"
TOOL_NAMES = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "traceloop.entity.name", "tool_name")
AGENT_NAMES = ("gen_ai.agent.name", "agent_name", "agent.name")
MODELS = (
    "gen_ai.response.model", "gen_ai.request.model", "llm.response.model", "llm.request.model", "llm.model_name",
    "embedding.model_name", "reranker.model_name", "ai.response.model", "ai.model.id",
    "langfuse.observation.model.name", "model_name", "mlflow.llm.model", "decision.response.model_name",
    "decision.model_name", "model",
)  # fmt: skip
ATTRIBUTES = frozenset({
    OPERATION, OPENINFERENCE, TRACELOOP, LANGFUSE, GENAI_KIND, MLFLOW, CLAUDE_CODE, VERCEL, REQUEST_TYPE, *TOOL_NAMES,
    *AGENT_NAMES, *MODELS, "gen_ai.tool.call.id",
})  # fmt: skip
"""Attributes that tell a role."""


class Role(Enum):
    """Role of a span."""

    CALL = "call"
    AGENT = "agent"
    """An agent's run: one agent call. Tokens that it carries are the sum of its calls'."""
    WRAPPER = "wrapper"
    """A chain, step or workflow around calls, whose tokens are their sum."""
    TOOL = "tool"
    NONE = "none"


class SpanRole(NamedTuple):
    """Role, kind of endpoint ("" if unknown), and the name of the operation if no convention knows it."""

    role: Role
    endpoint: str = ""
    unknown: str = ""


_CALLS: Mapping[str, str] = {
    "chat": "chat", "generate_content": "chat", "response": "chat", "responses": "chat",
    "text_completion": "completion", "completion": "completion", "chat.completions": "chat",
    "text.completions": "completion",
    "embeddings": "embedding", "embedding": "embedding", "rerank": "rerank",
    "image_generation": "image", "speech": "audio", "transcription": "audio", **INFERENCE,
}  # fmt: skip
_OPERATIONS: Mapping[str, Role] = {
    "invoke_agent": Role.AGENT, "execute_tool": Role.TOOL, "create_agent": Role.NONE, **dict.fromkeys(
        ("invoke_workflow", "agent_step", "plan", "execute_event_loop_cycle", "execute_task", "agent",
         "workflow", "chain", "task", "step", "retrieval", "handoff"), Role.WRAPPER),
}  # fmt: skip
_KINDS: Mapping[str, SpanRole] = {
    "llm_request": SpanRole(Role.CALL, "chat"), "interaction": SpanRole(Role.AGENT),
    "llm": SpanRole(Role.CALL), "chat_model": SpanRole(Role.CALL, "chat"), "generation": SpanRole(Role.CALL),
    "embedding": SpanRole(Role.CALL, "embedding"),
    "reranker": SpanRole(Role.CALL, "rerank"), "agent": SpanRole(Role.AGENT), "tool": SpanRole(Role.TOOL),
    **dict.fromkeys(
        ("chain", "workflow", "task", "retriever", "guardrail", "evaluator", "prompt", "span", "event", "decision",
         "step", "entry", "parser", "memory"),
        SpanRole(Role.WRAPPER)),
}  # fmt: skip
"""Kinds of OpenInference, traceloop, Langfuse, MLflow and Claude Code, in small letters."""

_NO_ROLE = SpanRole(Role.NONE)


def role_of(span: Span) -> SpanRole:
    """Return the role of a span."""
    attributes = span.attributes
    if not attributes:
        return _NO_ROLE
    operation = str(attributes.get(OPERATION, ""))
    request = str(attributes.get(REQUEST_TYPE, ""))
    if request in BATCHES or operation in BATCHES:
        return SpanRole(Role.NONE, unknown=operation or request)
    if operation in _OPERATIONS:
        return SpanRole(_OPERATIONS[operation])
    if operation in _CALLS:
        return SpanRole(Role.CALL, _CALLS[operation])
    for name in (OPENINFERENCE, GENAI_KIND, TRACELOOP, LANGFUSE, MLFLOW, CLAUDE_CODE):
        kind = str(attributes.get(name, "")).strip('"').lower()
        if kind in _KINDS:
            return _KINDS[kind]._replace(endpoint=_KINDS[kind].endpoint or _CALLS.get(request, ""))
    if (vercel := str(attributes.get(VERCEL, ""))).startswith("ai."):
        return _vercel_role(vercel)
    if "litellm.call_id" in attributes and operation:
        # Its other types (retrieves, polls, MCP) carry counts of calls that are reported elsewhere.
        return SpanRole(Role.NONE, unknown=operation)
    if not operation and not any(name in attributes for name in MODELS[:4]):
        if "gen_ai.tool.name" in attributes or "gen_ai.tool.call.id" in attributes:
            return SpanRole(Role.TOOL)
        if any(name in attributes for name in AGENT_NAMES):
            return SpanRole(Role.AGENT)
    if any(name.startswith("gen_ai.aggregated_usage.") for name in attributes):
        return SpanRole(Role.WRAPPER)
    if has_counts(attributes):
        return SpanRole(Role.CALL, _CALLS.get(request, ""), unknown=operation)
    return SpanRole(Role.NONE, unknown=operation)


def _vercel_role(operation: str) -> SpanRole:
    """Return the role of a span of Vercel's AI SDK 4 to 6, such as `ai.streamText.doStream`."""
    if operation == "ai.toolCall":
        return SpanRole(Role.TOOL)
    _, _, step = operation.removeprefix("ai.").partition(".")
    if step.startswith("do"):
        return SpanRole(Role.CALL, "embedding" if "embed" in operation else "chat")
    return SpanRole(Role.WRAPPER)
