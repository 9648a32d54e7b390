"""One request of a line of JSON, by the names that its fields have there. Nothing else of the line is looked at, so a
prompt that stands in it goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, MAX_TOKENS
from producers.runtime.batching import RequestRow

FieldPaths = tuple[str, ...]
_MS_ABOVE = 1e11
"""Epoch seconds are below it until the year 5138, epoch milliseconds above it since 1973."""
_OK = {"ok", "success", "200", "true"}


class RequestFields(BaseModel):
    """Where a line says what: names, or paths with dots (`usage.prompt_tokens`); of several, the first that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: FieldPaths = Field(
        ("tenant",), description="Who pays: what the gateway has verified, never what a client sent."
    )
    model: FieldPaths = Field(("model",), description="The model.")
    request_id: FieldPaths = Field(("request_id", "id"), description="Its id; without one, file and offset.")
    start: FieldPaths = Field(("start", "t_start", "startTime"), description="When the server took it.")
    first: FieldPaths = Field(("first", "t_first", "completionStartTime"), description="When its first token was out.")
    end: FieldPaths = Field(("end", "t_end", "endTime"), description="When its last token was out.")
    duration_ms: FieldPaths = Field(("duration_ms",), description="How long it took; in place of start or end.")
    prompt_tokens: FieldPaths = Field(
        ("prompt_tokens", "input_tokens", "usage.prompt_tokens", "usage.input_tokens"),
        description="Tokens of the prompt, cached ones included.",
    )
    cached_tokens: FieldPaths = Field(
        ("cached_tokens", "usage.prompt_tokens_details.cached_tokens"), description="Those of them from a cache."
    )
    completion_tokens: FieldPaths = Field(
        ("completion_tokens", "output_tokens", "usage.completion_tokens", "usage.output_tokens"),
        description="Tokens of the answer.",
    )
    status: FieldPaths = Field(("status",), description="ok, success, 200 or true; any other is a failure.")
    session_id: FieldPaths = Field(("session_id",), description="Session that it belongs to.")
    trace_id: FieldPaths = Field(("trace_id",), description="Trace that it belongs to.")
    api_base: FieldPaths = Field(("api_base", "upstream"), description="Where the gateway sent it.")
    route: FieldPaths = Field(("route", "model_group"), description="Its route or deployment.")


class RequestReader:
    """Requests of lines. `otherwise_id` names one that says no id."""

    def __init__(self, fields: RequestFields) -> None:
        self._paths = {name: [path.split(".") for path in paths] for name, paths in fields}

    def read(self, line: bytes, otherwise_id: str) -> RequestRow:
        """Raises BadInput naming the field, its value and what would be right."""
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput("line", line[:60], f"is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise BadInput("line", line[:60], "is no JSON object")
        return self.row(found, otherwise_id)

    def row(self, found: dict[str, Any], otherwise_id: str) -> RequestRow:
        """The request that an object says. Raises BadInput like `read`."""
        start_ms, first_ms, end_ms = self._times(found)
        prompt, completion = self._count(found, "prompt_tokens"), self._count(found, "completion_tokens")
        cached = self._count(found, "cached_tokens", 0)
        if cached > prompt:
            raise BadInput("cached_tokens", cached, "cached tokens are a subset of prompt_tokens")
        tenant = self._text(found, "tenant")
        if tenant.startswith("__"):
            raise BadInput("tenant", tenant, "names that begin with '__' are Wattlog's own")
        status = self._text(found, "status", "ok")
        return RequestRow(
            tenant, self._text(found, "model"), self._clients(found, "request_id", otherwise_id), start_ms, first_ms,
            end_ms, prompt, cached, completion, "ok" if status.lower() in _OK else status,
            self._clients(found, "session_id", ""), self._clients(found, "trace_id", ""),
            self._text(found, "api_base", ""), self._text(found, "route", ""),
        )  # fmt: skip

    def _times(self, found: dict[str, Any]) -> tuple[int, int, int]:
        start, end = self._get(found, "start"), self._get(found, "end")
        took = self._get(found, "duration_ms")
        if isinstance(took, bool) or not isinstance(took, int | float | None) or (took is not None and not took >= 0):
            raise BadInput("duration_ms", took, "give milliseconds, 0 or more")
        if start is None and (end is None or took is None):
            raise BadInput("start", start, "give start and end, or one of them and duration_ms")
        if end is None and took is None:
            raise BadInput("end", end, "give start and end, or one of them and duration_ms")
        end_ms = _time("end", end) if end is not None else _time("start", start) + round(took or 0)
        start_ms = _time("start", start) if start is not None else end_ms - round(took or 0)
        if not 0 <= start_ms <= end_ms <= start_ms + MAX_SPAN_MS:
            raise BadInput("end", end_ms, "must be 0 to 6 hours after start")
        first = self._get(found, "first")
        first_ms = _time("first", first) if first is not None else 0
        # A gateway may stamp the first token of an answer that is no stream with its end, or not at all.
        return start_ms, first_ms if start_ms <= first_ms <= end_ms else 0, end_ms

    def _get(self, found: dict[str, Any], name: str) -> Any:
        for path in self._paths[name]:
            value = _at(found, path)
            if value is not None:
                return value
        return None

    def _text(self, found: dict[str, Any], name: str, otherwise: str | None = None) -> str:
        value = self._get(found, name)
        if value is None or value == "":
            if otherwise is None:
                raise BadInput(name, value, "is needed")
            return otherwise
        if isinstance(value, dict | list):
            raise BadInput(name, value, "give a text")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if len(text) > MAX_TEXT or not text.isprintable():
            raise BadInput(name, text, f"give 1 to {MAX_TEXT} printable characters")
        return text

    def _clients(self, found: dict[str, Any], name: str, otherwise: str) -> str:
        """A text that clients may set: one that cannot be kept is left out, lest it keep a request off the bill."""
        try:
            return self._text(found, name, otherwise)
        except BadInput:
            return otherwise

    def _count(self, found: dict[str, Any], name: str, otherwise: int | None = None) -> int:
        value = self._get(found, name)
        if value is None:
            if otherwise is None:
                raise BadInput(name, value, "is needed")
            return otherwise
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
            raise BadInput(name, value, "give a whole number of tokens, 0 to 2^31-1")
        return value


def _at(found: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _time(name: str, value: Any) -> int:
    """Epoch seconds or milliseconds, or RFC 3339; one without a zone is UTC."""
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise BadInput(name, value, "give RFC 3339, or epoch seconds or milliseconds") from None
        ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        ms = round(value if value > _MS_ABOVE else value * 1000)
    else:
        raise BadInput(name, value, "give RFC 3339, or epoch seconds or milliseconds")
    if not 0 <= ms <= MAX_TIME_MS:
        raise BadInput(name, value, "lies outside of 1970 to 9999")
    return ms
