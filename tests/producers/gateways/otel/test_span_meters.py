"""Calls of APIs, databases and MCP servers become meters by endpoint, tied to session, trace and step."""

from __future__ import annotations

from typing import Any

import pytest

from producers.gateways.calls import AgentUsage
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.gateways.otel.span_meters import MAX_ENDPOINTS, OTHER, EndpointNames
from producers.runtime.batching import UsageRow
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import CHAT, SECRET, T0, TRACE, as_json, span

NOW = T0 + 60_000
A, B, C = "aa" * 8, "bb" * 8, "cc" * 8
PLAIN = {**dict.fromkeys(CHAT, ...), "wattlog.tenant": "acme"}
SESSION = {"session.id": "s-1"}
HTTP = {
    "http.request.method": "GET",
    "server.address": "api.example.com",
    "url.full": f"https://x/v1/items/42?q={SECRET}",
}
AGENT = span({"gen_ai.operation.name": "invoke_agent"}, id=A)


def call(attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return span(PLAIN | attributes, **{"id": B, "kind": 3} | more)


def usage(*spans: dict[str, Any], endpoints: EndpointNames | None = None, **rules: Any) -> list[UsageRow]:
    reader = GenAIReader(SpanRules(**rules), endpoints=endpoints)
    result = reader.read_message(as_json(list(spans)), DeduplicationWindow(), NOW, json=True)
    assert not result.refused
    return [one.row for one in result.calls if isinstance(one, AgentUsage)]


def amounts(*spans: dict[str, Any], **rules: Any) -> dict[str, str]:
    """Return quantities by meter, but those of agents."""
    return {row.meter: row.quantity for row in usage(*spans, **rules) if row.meter != "agent_calls"}


def endpoint(attributes: dict[str, Any]) -> str:
    return usage(call(SESSION | attributes))[0].dimensions["endpoint"]


def test_a_call_of_an_api_is_metered_with_its_session_trace_and_step() -> None:
    tool = span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}, id=A)
    sizes = {"http.request.body.size": 120, "http.response.body.size": "4000", "http.response.status_code": 200}
    rows = {row.meter: row for row in usage(tool, call(SESSION | HTTP | sizes, parent=A))}
    assert {meter: (row.quantity, row.unit) for meter, row in rows.items()} == {
        "tool_calls": ("1", "1"), "api_calls": ("1", "1"), "api_seconds": ("3", "s"),
        "api_sent_bytes": ("120", "bytes"), "api_received_bytes": ("4000", "bytes"),
    }  # fmt: skip
    row = rows["api_calls"]
    assert (row.tenant, row.session_id, row.trace_id, row.step) == ("acme", "conv-1", TRACE, "search")
    assert (row.t0_ms, row.t1_ms, row.event_id) == (T0, T0 + 3_000, f"{TRACE}/{B}")
    assert row.dimensions == {
        "endpoint": "api.example.com/v1/items/{more}",
        "method": "GET",
        "code": "200",
        "status": "ok",
    }


@pytest.mark.parametrize(
    ("attributes", "more"),
    [({"http.response.status_code": 503}, {}), ({"error.type": "timeout"}, {}), ({}, {"status": 2})],
)
def test_a_failed_call_is_metered_as_a_failure_too(attributes: dict[str, Any], more: dict[str, Any]) -> None:
    rows = usage(call(SESSION | HTTP | attributes, **more))
    assert {row.meter for row in rows} == {"api_calls", "api_failures", "api_seconds"}
    assert {row.dimensions["status"] for row in rows} == {"error"}


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"url.template": "/v1/items/{id}"}, "api.example.com/v1/items/{id}"),
        ({"http.route": "/users/:id?x=1"}, "api.example.com/users/:id"),
        ({"url.full": "https://x/users/7f3a9c/orders"}, "api.example.com/users/{id}/{more}"),
        ({"url.full": "https://x"}, "api.example.com"), ({"url.full": "https://[x"}, "api.example.com"),
        ({"server.address": ..., "url.full": "http://user:key@host:80/a"}, "host/a"),
        ({"server.address": ..., "http.host": "old", "http.target": "/a?b", "url.full": ...}, "old/a"),
    ],
)  # fmt: skip
def test_an_endpoint_is_a_template_without_ids_queries_and_passwords(attributes: dict[str, Any], name: str) -> None:
    assert endpoint(HTTP | attributes) == name


def test_a_name_of_an_endpoint_that_is_too_long_is_cut() -> None:
    rows = usage(call(SESSION | HTTP | {"server.address": "h" * 250, "url.template": "/t" * 100}))
    assert len(rows[0].dimensions["endpoint"]) == 253


def test_names_of_endpoints_are_bounded() -> None:
    endpoints = EndpointNames()
    names = [
        usage(call(SESSION | HTTP | {"server.address": f"h{n}"}), endpoints=endpoints)[0].dimensions["endpoint"]
        for n in range(MAX_ENDPOINTS + 5)
    ]
    assert len(set(names)) == MAX_ENDPOINTS + 1
    assert names[-1] == OTHER


@pytest.mark.parametrize(
    ("attributes", "meters", "dimensions"),
    [
        ({"db.system.name": "postgresql", "db.operation.name": "SELECT", "db.collection.name": "orders",
          "db.response.returned_rows": 12, "db.query.text": SECRET},
         ["db_calls", "db_seconds", "db_returned_rows"], {"endpoint": "postgresql/orders", "operation": "select"}),
        ({"db.system": "redis", "db.operation": "GET"}, ["db_calls", "db_seconds"],
         {"endpoint": "redis", "operation": "get"}),
        ({"db.system": "chroma", "db.operation": "query"}, ["vector_queries", "vector_query_seconds"],
         {"endpoint": "chroma"}),
        ({"db.system": "pinecone", "db.operation": "upsert"}, ["vector_inserts", "vector_insert_seconds"], {}),
        ({"vector_db.vendor": "Qdrant", "db.operation": "search"}, ["vector_queries", "vector_query_seconds"], {}),
        ({"mcp.method.name": "resources/read"}, ["mcp_calls", "mcp_seconds"], {"method": "resources/read"}),
        ({"mcp.method.name": "tools/call", "gen_ai.tool.name": "weather", "gen_ai.operation.name": "execute_tool"},
         ["mcp_calls", "mcp_seconds", "tool_calls"], {"method": "tools/call", "tool": "weather"}),
    ],
    ids=str,
)  # fmt: skip
def test_databases_vector_databases_and_mcp_have_meters_of_their_own(
    attributes: dict[str, Any], meters: list[str], dimensions: dict[str, str]
) -> None:
    rows = usage(call(SESSION | attributes))
    assert {row.meter for row in rows} == set(meters)
    assert dimensions.items() <= rows[0].dimensions.items()
    assert SECRET not in repr(rows)


def test_a_tool_that_calls_an_mcp_server_is_one_tool_call() -> None:
    mcp = {"mcp.method.name": "tools/call", "gen_ai.tool.name": "weather", "gen_ai.operation.name": "execute_tool"}
    tool = span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"}, id=A)
    assert amounts(tool, call(mcp, parent=A)) == {"tool_calls": "1", "mcp_calls": "1", "mcp_seconds": "3"}


def test_calls_of_other_traces_are_not_metered_unless_configured() -> None:
    assert amounts(call(HTTP)) == {}
    assert amounts(call(HTTP), other_calls="all").keys() == {"api_calls", "api_seconds"}
    assert amounts(AGENT, call(HTTP)).keys() == {"api_calls", "api_seconds"}
    assert amounts(AGENT, call(HTTP), other_calls="none") == {}
    recent = DeduplicationWindow()
    reader = GenAIReader(SpanRules())
    reader.read_message(as_json([span(id=C)]), recent, NOW, json=True)
    assert len(reader.read_message(as_json([call(HTTP)]), recent, NOW, json=True).calls) == 2


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/api/chat", "/models/x:streamGenerateContent"]
)
def test_the_transport_of_a_models_call_is_not_metered(path: str) -> None:
    assert amounts(call(SESSION | HTTP | {"url.full": f"https://x{path}"})) == {}
    assert amounts(span(id=A), call(SESSION | HTTP, parent=A)) == {}


def test_a_servers_span_of_the_same_call_is_not_metered() -> None:
    assert amounts(call(SESSION | HTTP, kind=2)) == {}


def test_a_repeated_call_counts_once() -> None:
    recent = DeduplicationWindow()
    reader = GenAIReader(SpanRules())
    body = as_json([call(SESSION | HTTP)])
    assert len(reader.read_message(body, recent, NOW, json=True).calls) == 2
    again = reader.read_message(body, recent, NOW, json=True)
    assert (again.calls, again.skipped) == ([], {"double": 1})
