"""Makes calls with a real client library and exports its spans: `python emitter.py CLIENT ENDPOINT`.

It runs in an environment that has the library, against the stand-in of `openai_server`, and imports nothing of Wattlog.
All texts are "dummy".
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import openai_server
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

TEXT = "dummy"


def weather() -> str:
    """Return the weather."""
    return TEXT


def semantic_kernel(base: str) -> None:
    os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS"] = "true"
    from openai import AsyncOpenAI
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
    from semantic_kernel.functions import kernel_function

    client = AsyncOpenAI(base_url=base, api_key="x")
    tool = kernel_function(name="weather", description="Return the weather.")(weather)
    agent = ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id="llama", async_client=client), name="helper", plugins=[]
    )
    agent.kernel.add_function("tools", tool)
    asyncio.run(agent.get_response(TEXT))


def strands(base: str) -> None:
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    model = OpenAIModel(client_args={"base_url": base, "api_key": "x"}, model_id="llama")
    Agent(model=model, tools=[tool(weather)], callback_handler=None)(TEXT)


def google_adk(base: str) -> None:
    from google.adk.agents import LlmAgent
    from google.adk.models.lite_llm import LiteLlm
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    agent = LlmAgent(
        name="helper", model=LiteLlm(model="openai/llama", api_base=base, api_key="x"), tools=[weather],
        instruction=TEXT,
    )  # fmt: skip
    runner = InMemoryRunner(agent=agent, app_name="app")

    async def run() -> None:
        session = await runner.session_service.create_session(app_name="app", user_id="u")
        message = types.Content(role="user", parts=[types.Part(text=TEXT)])
        async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=message):
            pass

    asyncio.run(run())


def agent_framework(base: str) -> None:
    from agent_framework import Agent
    from agent_framework.observability import enable_instrumentation
    from agent_framework.openai import OpenAIChatCompletionClient

    enable_instrumentation()
    client = OpenAIChatCompletionClient(model="llama", base_url=base, api_key="x")
    agent = Agent(client=client, name="helper", instructions=TEXT, tools=[weather])
    asyncio.run(agent.run(TEXT))


def langfuse(base: str) -> None:
    from langfuse import Langfuse
    from langfuse.openai import OpenAI

    # Its own exporter is of no use here; the spans go to the provider of all.
    Langfuse(public_key="x", secret_key="x", host="http://127.0.0.1:9", tracer_provider=trace.get_tracer_provider())
    calls(OpenAI(base_url=base, api_key="x"))


def mlflow(base: str) -> None:
    os.environ["MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT"] = "false"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = sys.argv[2]
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = "wattlog.tenant=acme,service.name=app"
    import mlflow
    import openai

    mlflow.openai.autolog()
    calls(openai.OpenAI(base_url=base, api_key="x"))
    mlflow.flush_trace_async_logging()


def langchain(base: str) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="llama", base_url=base, api_key="x", stream_usage=True)
    model.invoke(TEXT)
    list(model.stream(TEXT))


def langchain_openinference(base: str) -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=trace.get_tracer_provider())
    langchain(base)


def langchain_traceloop(base: str) -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=trace.get_tracer_provider())
    langchain(base)


def langsmith(base: str) -> None:
    os.environ |= {"LANGSMITH_TRACING": "true", "LANGSMITH_OTEL_ENABLED": "true", "LANGSMITH_OTEL_ONLY": "true",
                   "LANGSMITH_API_KEY": "x", "LANGSMITH_ENDPOINT": "http://127.0.0.1:9"}  # fmt: skip
    langchain(base)
    from langchain_core.tracers.langchain import wait_for_all_tracers

    wait_for_all_tracers()


def calls(client: object) -> None:
    """Make a call, a stream with usage and an embedding."""
    messages = [{"role": "user", "content": TEXT}]
    chat = client.chat.completions
    chat.create(model="llama", messages=messages)
    list(chat.create(model="llama", messages=messages, stream=True, stream_options={"include_usage": True}))
    client.embeddings.create(model="emb", input=TEXT)


def main() -> None:
    client, endpoint = sys.argv[1:]
    provider = TracerProvider(resource=Resource({"service.name": "app", "wattlog.tenant": "acme"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    globals()[client](openai_server.start())
    provider.force_flush()
    provider.shutdown()


main()
