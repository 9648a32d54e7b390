"""The client libraries that are run, their environments, and the calls that each must be counted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

Counts = tuple[int, int, int]
"""Prompt, cached and completion tokens of one call."""
FIRST, SECOND, EMBEDDING = (100, 30, 20), (150, 96, 7), (8, 0, 0)
UNCACHED, SECOND_UNCACHED = (100, 0, 20), (150, 0, 7)
ESTIMATE = (8, 0, 4)
"""LiteLLM's own count of a stream without usage."""
_SDK = ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")
ENVIRONMENTS: Mapping[str, Sequence[str]] = {
    "openai": (
        *_SDK, "openai==3.57.0", "aiohttp==3.14.5", "litellm==1.110.2", "pydantic-ai-slim[openai]==2.68.0",
        "openinference-instrumentation-openai==0.1.66", "opentelemetry-instrumentation-openai==0.62.4",
    ),
    "openai_v2": (
        *_SDK, "openai==3.57.0", "httpx==0.28.1", "opentelemetry-instrumentation-openai-v2==2.4b0",
        "opentelemetry-util-genai==0.4b0",
    ),
    "pydantic_old": (*_SDK, "openai==2.54.0", "pydantic-ai-slim[openai]==1.39.0"),
    "semantic_kernel": (*_SDK, "semantic-kernel==1.45.0"),
    "agent_framework": (*_SDK, "agent-framework-core==1.23.0", "agent-framework-openai==1.17.0"),
    "strands": ("strands-agents[openai,otel]==1.62.0", "openai==2.54.0"),
    "google_adk": ("opentelemetry-exporter-otlp-proto-http==1.44.0", "google-adk==2.13.0", "litellm==1.110.2"),
    "langfuse": (*_SDK, "langfuse==5.0.4", "openai==3.57.0"),
    "langchain": (
        *_SDK, "langchain==1.5.2", "langchain-openai==1.7.4", "langsmith==0.15.1",
        "openinference-instrumentation-langchain==0.1.80", "opentelemetry-instrumentation-langchain==0.62.4",
    ),
    "mlflow": (*_SDK, "mlflow-skinny==3.17.2", "openai==3.57.0", "numpy==2.4.6", "pandas"),
}  # fmt: skip
"""Requirements by the name of a virtual environment."""
NODE: Mapping[str, str] = {
    "ai4": "npm:ai@4.3.6", "ai5": "npm:ai@5.0.277", "ai6": "npm:ai@6.0.325", "ai7": "npm:ai@7.0.173",
    "@ai-sdk/otel": "1.0.173", "zod": "3.25.76", "@opentelemetry/api": "1.9.0",
    "@opentelemetry/sdk-trace-node": "2.2.0", "@opentelemetry/exporter-trace-otlp-http": "0.208.0",
    "@opentelemetry/resources": "2.2.0",
}  # fmt: skip
"""Packages of npm, all in one folder."""


class Client(NamedTuple):
    """A client library.

    `calls` are the calls that must count, `usage` other rows by meter, `refused` spans without a count. The emitter of
    a client with `kind` is in ../shared/cases/tokens, others are in `emitter.py`.
    """

    environment: str
    calls: Sequence[Counts]
    usage: Mapping[str, int] = {}
    refused: int = 0
    kind: str = ""


_AGENT = {"tool_calls": 1, "agent_calls": 1}
CLIENTS: Mapping[str, Client] = {
    "litellm": Client("openai", [FIRST, FIRST, ESTIMATE], kind="litellm"),
    "openinference": Client("openai", [FIRST, FIRST, FIRST, EMBEDDING], refused=1, kind="openinference"),
    "traceloop": Client("openai", [FIRST, FIRST, FIRST, EMBEDDING], refused=1, kind="traceloop"),
    "openai_v2": Client("openai_v2", [UNCACHED, UNCACHED, EMBEDDING], refused=1, kind="openai_v2"),
    "pydantic": Client("openai", [FIRST, SECOND], _AGENT, kind="pydantic"),
    "pydantic_old": Client("pydantic_old", [FIRST, SECOND], _AGENT, kind="pydantic"),
    "vercel_4": Client("node", [UNCACHED, SECOND_UNCACHED], {"tool_calls": 1}, kind="4"),
    "vercel_5": Client("node", [UNCACHED, SECOND_UNCACHED], {"tool_calls": 1}, kind="5"),
    "vercel_6": Client("node", [FIRST, SECOND], {"tool_calls": 1}, kind="6"),
    "vercel_7": Client("node", [FIRST, SECOND], _AGENT, kind="7"),
    "semantic_kernel": Client("semantic_kernel", [UNCACHED, SECOND_UNCACHED], _AGENT),
    "agent_framework": Client("agent_framework", [FIRST, SECOND], _AGENT),
    "strands": Client("strands", [FIRST, SECOND], _AGENT),
    "google_adk": Client("google_adk", [FIRST, SECOND], _AGENT),
    "langfuse": Client("langfuse", [FIRST, FIRST, EMBEDDING]),
    "langchain_openinference": Client("langchain", [FIRST, FIRST]),
    "langchain_traceloop": Client("langchain", [FIRST, FIRST]),
    "langsmith": Client("langchain", [FIRST, FIRST]),
    "mlflow": Client("mlflow", [FIRST, FIRST], refused=1),
}
"""By name. openai_v2, Semantic Kernel and Vercel 4 and 5 report no cached tokens, MLflow none of an embedding."""
