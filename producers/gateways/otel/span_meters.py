"""Meters of what agents call beside models: HTTP APIs, databases, vector databases and MCP servers.

A caller's span of `http.*`, `db.*` or `mcp.*` is one call of an endpoint: its number, failures, duration and bytes are
rows of usage, with session, trace and step. Names of endpoints are templates, without queries and ids, and bounded in
number. Neither a query's text nor an argument is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from contracts.events import MAX_TEXT
from producers.gateways.calls import text_or_empty
from producers.gateways.otel.spans import AttributeValue, Span
from producers.gateways.token_names import whole_number

MCP_METHOD = "mcp.method.name"
_HTTP_METHOD = ("http.request.method", "http.method")
_HTTP_STATUS = ("http.response.status_code", "http.status_code")
_TEMPLATE = ("url.template", "http.route")
_URL = ("url.full", "http.url")
_PATH = ("url.path", "http.target")
_HOST = ("server.address", "net.peer.name", "http.host")
_SENT = ("http.request.body.size", "http.request_content_length", "http.request.size")
_RECEIVED = ("http.response.body.size", "http.response_content_length", "http.response.size")
_DB_SYSTEM = ("db.system.name", "db.system", "vector_db.vendor")
_DB_OPERATION = ("db.operation.name", "db.operation")
_DB_COLLECTION = ("db.collection.name", "db.sql.table", "db.mongodb.collection", "db.namespace", "db.name")
_DB_ROWS = ("db.response.returned_rows",)
_MCP_TOOL = ("gen_ai.tool.name", "mcp.tool.name")
_ERROR = "error.type"
ATTRIBUTES = frozenset({
    MCP_METHOD, *_HTTP_METHOD, *_HTTP_STATUS, *_TEMPLATE, *_URL, *_PATH, *_HOST, *_SENT, *_RECEIVED, *_DB_SYSTEM,
    *_DB_OPERATION, *_DB_COLLECTION, *_DB_ROWS, *_MCP_TOOL, _ERROR,
})  # fmt: skip
_VECTOR = re.compile(r"(?i)chroma|pinecone|weaviate|qdrant|milvus|lancedb|marqo|vespa|turbopuffer|pgvector|vectorize")
_INSERTS = re.compile(r"(?i)upsert|insert|add|update|delete|create|write|import|put")
_MODELS = re.compile(
    r"(?i)/(chat/completions|completions|responses|messages|embeddings?|rerank|api/(chat|generate))/?$"
    r"|:(stream)?generatecontent|/(converse|invoke)(-(with-response-)?stream)?$"
)
"""Paths of models' APIs: their calls are counted by their tokens."""
CALLS: Mapping[str, str] = {
    "api": "api_calls", "db": "db_calls", "mcp": "mcp_calls", "vector_query": "vector_queries",
    "vector_insert": "vector_inserts",
}  # fmt: skip
"""Meters of calls by kind."""
MAX_ENDPOINTS = 1_000
"""Names of endpoints in one process; further ones share the name `OTHER`."""
MAX_SEGMENTS = 2
"""Segments of a path without a template that stay in the endpoint's name."""
_SEGMENT = re.compile(r"[A-Za-z][A-Za-z_-]{0,23}|v[0-9]{1,2}")
OTHER = "{other}"


class EndpointNames:
    """The names of endpoints so far. Several threads may add to it; then it may hold a few more than its bound."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def bounded(self, endpoint: str) -> str:
        """Return the name of an endpoint, beyond the bound `OTHER`."""
        endpoint = endpoint[:MAX_TEXT]
        if endpoint in self._names or len(self._names) < MAX_ENDPOINTS:
            self._names.add(endpoint)
            return endpoint
        return OTHER


class EndpointCall(NamedTuple):
    """One call of an endpoint: its meter, the beginning of its other meters' names, dimensions and amounts."""

    meter: str
    kind: str
    dimensions: Mapping[str, str]
    failed: bool
    amounts: Sequence[tuple[str, str, str]]
    """(end of the meter's name, unit, quantity as decimal text)."""


def endpoint_call(span: Span, names: EndpointNames) -> EndpointCall | None:
    """Return the call that a span of a caller describes, or None if it is no call of an endpoint."""
    attributes = span.attributes
    if (method := _text(attributes, (MCP_METHOD,))) and method != "initialize":
        return _call_of("mcp", {"method": method, "tool": _text(attributes, _MCP_TOOL)}, span, [])
    if system := _text(attributes, _DB_SYSTEM):
        return _database_call(span, system, names)
    if method := _text(attributes, _HTTP_METHOD):
        host, path = _address(attributes)
        if (not host and not path) or _MODELS.search(_raw_path(attributes)):
            return None
        endpoint = names.bounded(f"{host}{path}")
        amounts = [
            (end, "bytes", str(size)) for end, keys in (("sent_bytes", _SENT), ("received_bytes", _RECEIVED))
            if (size := _size(attributes, keys)) is not None
        ]  # fmt: skip
        status = _text(attributes, _HTTP_STATUS)
        return _call_of("api", {"endpoint": endpoint, "method": method.upper(), "code": status}, span, amounts)
    return None


def _database_call(span: Span, system: str, names: EndpointNames) -> EndpointCall:
    operation = _text(span.attributes, _DB_OPERATION)
    collection = _text(span.attributes, _DB_COLLECTION)
    endpoint = names.bounded(f"{system}/{collection}" if collection else system)
    kind = "db"
    if _VECTOR.search(system):
        kind = "vector_insert" if _INSERTS.search(operation) else "vector_query"
    rows = _size(span.attributes, _DB_ROWS)
    amounts = [("returned_rows", "rows", str(rows))] if rows is not None else []
    return _call_of(kind, {"endpoint": endpoint, "operation": operation.lower()}, span, amounts)


def _call_of(
    kind: str, dimensions: Mapping[str, str], span: Span, amounts: Sequence[tuple[str, str, str]]
) -> EndpointCall:  # fmt: skip
    code = whole_number(dimensions.get("code", ""))
    failed = span.failed or _ERROR in span.attributes or (code is not None and code >= 400)
    texts = {name: text for name, text in dimensions.items() if text} | {"status": "error" if failed else "ok"}
    return EndpointCall(CALLS[kind], kind, texts, failed, amounts)


def _address(attributes: Mapping[str, AttributeValue]) -> tuple[str, str]:
    """Return host and path of an HTTP call: the path's template, or its first segments that are no ids."""
    try:
        url_host = urlsplit(_url(attributes)).hostname or ""
    except ValueError:
        url_host = ""
    host = _text(attributes, _HOST) or text_or_empty(url_host)
    if template := _text(attributes, _TEMPLATE):
        return host, template.partition("?")[0]
    segments = [segment for segment in _raw_path(attributes).split("/") if segment]
    kept = [segment if _SEGMENT.fullmatch(segment) else "{id}" for segment in segments[:MAX_SEGMENTS]]
    more = ["{more}"] if len(segments) > MAX_SEGMENTS else []
    return host, "".join(f"/{segment}" for segment in (*kept, *more))


def _url(attributes: Mapping[str, AttributeValue]) -> str:
    return str(next((attributes[name] for name in _URL if name in attributes), ""))


def _raw_path(attributes: Mapping[str, AttributeValue]) -> str:
    """Return the path of an HTTP call without its query."""
    path = str(next((attributes[name] for name in _PATH if name in attributes), ""))
    try:
        return (path or urlsplit(_url(attributes)).path).partition("?")[0]
    except ValueError:
        return ""


def _size(attributes: Mapping[str, AttributeValue], names: Sequence[str]) -> int | None:
    """Return the first of these attributes that is a size, or None."""
    sizes = (whole_number(attributes[name]) for name in names if name in attributes)
    return next((size for size in sizes if size is not None and 0 <= size < 2**53), None)


def _text(attributes: Mapping[str, AttributeValue], names: Sequence[str]) -> str:
    texts = (text_or_empty(str(attributes[name])) for name in names if name in attributes)
    return next((text for text in texts if text), "")
