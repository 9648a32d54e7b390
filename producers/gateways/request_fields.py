"""Read one request from a JSON object by the configured names of its fields. No other field is looked at, so a prompt
in the object is not stored anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, MAX_TOKENS
from producers.runtime.batching import RequestRow
from producers.runtime.refusals import describe

FieldPaths = tuple[str, ...]
"""Names of one field, best first. A name may be a path with dots."""
_MS_ABOVE = 1e11
"""A greater number is epoch milliseconds (since 1973), a smaller one epoch seconds (until the year 5138)."""
_OK = {"ok", "success", "200", "true"}


class RequestFields(BaseModel):
    """Names of each field of a request, or paths with dots (`usage.prompt_tokens`). The first with a value wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: FieldPaths = Field(
        default=("tenant",), description="Who pays: what the gateway has verified, never what a client sent."
    )
    model: FieldPaths = Field(default=("model",), description="The model.")
    request_id: FieldPaths = Field(default=("request_id", "id"), description="Its id; without one, file and offset.")
    start: FieldPaths = Field(default=("start", "t_start", "startTime"), description="When the server took it.")
    first: FieldPaths = Field(
        default=("first", "t_first", "completionStartTime"), description="When its first token was out."
    )
    end: FieldPaths = Field(default=("end", "t_end", "endTime"), description="When its last token was out.")
    duration_ms: FieldPaths = Field(
        default=("duration_ms",), description="Its duration in ms; in place of start or end."
    )
    prompt_tokens: FieldPaths = Field(
        default=("prompt_tokens", "input_tokens", "usage.prompt_tokens", "usage.input_tokens"),
        description="Tokens of the prompt, cached ones included.",
    )
    cached_tokens: FieldPaths = Field(
        default=("cached_tokens", "usage.prompt_tokens_details.cached_tokens"),
        description="Tokens of the prompt that came from a cache.",
    )
    completion_tokens: FieldPaths = Field(
        default=("completion_tokens", "output_tokens", "usage.completion_tokens", "usage.output_tokens"),
        description="Tokens of the answer.",
    )
    status: FieldPaths = Field(default=("status",), description="ok, success, 200 or true; any other is a failure.")
    session_id: FieldPaths = Field(default=("session_id",), description="Session that it belongs to.")
    trace_id: FieldPaths = Field(default=("trace_id",), description="Trace that it belongs to.")
    api_base: FieldPaths = Field(default=("api_base", "upstream"), description="Address that the gateway sent it to.")
    route: FieldPaths = Field(default=("route", "model_group"), description="Its route or deployment.")


class RequestReader:
    """Reads requests by `fields`."""

    def __init__(self, fields: RequestFields) -> None:
        self._paths = {name: [path.split(".") for path in paths] for name, paths in fields}

    def read(self, line: bytes, default_id: str) -> RequestRow:
        """Return the request of a line of JSON. `default_id` is the id of one that has none.

        Raises BadInput that names the field, its value and what would be right.
        """
        try:
            payload = msgspec.json.decode(line)
        except Exception as error:
            raise BadInput("line", line[:60], f"is no JSON that can be read: {describe(error)}") from None
        if not isinstance(payload, dict):
            raise BadInput("line", line[:60], "is no JSON object")
        return self.row(payload, default_id)

    def row(self, payload: dict[str, Any], default_id: str) -> RequestRow:
        """Return the request of a JSON object. Raises BadInput like `read`."""
        start_ms, first_ms, end_ms = self._times(payload)
        prompt, completion = self._count(payload, "prompt_tokens"), self._count(payload, "completion_tokens")
        cached = self._count(payload, "cached_tokens", 0)
        if cached > prompt:
            raise BadInput("cached_tokens", cached, "cached tokens are a subset of prompt_tokens")
        tenant = self._text(payload, "tenant")
        if tenant.startswith("__"):
            raise BadInput("tenant", tenant, "names that begin with '__' are Wattlog's own")
        status = self._text(payload, "status", "ok")
        return RequestRow(
            tenant=tenant,
            model=self._text(payload, "model"),
            request_id=self._client_text(payload, "request_id", default_id),
            t_start_ms=start_ms,
            t_first_ms=first_ms,
            t_end_ms=end_ms,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            status="ok" if status.lower() in _OK else status,
            session_id=self._client_text(payload, "session_id", ""),
            trace_id=self._client_text(payload, "trace_id", ""),
            api_base=self._text(payload, "api_base", ""),
            route=self._text(payload, "route", ""),
        )

    def _times(self, payload: dict[str, Any]) -> tuple[int, int, int]:
        """Return start, first token (0 if unknown) and end in epoch ms."""
        start, end = self._get(payload, "start"), self._get(payload, "end")
        took = self._get(payload, "duration_ms")
        if took is not None and (
            isinstance(took, bool) or not isinstance(took, int | float) or not 0 <= took < math.inf
        ):
            raise BadInput("duration_ms", took, "give milliseconds, 0 or more")
        if start is None and (end is None or took is None):
            raise BadInput("start", start, "give start and end, or one of them and duration_ms")
        if end is None and took is None:
            raise BadInput("end", end, "give start and end, or one of them and duration_ms")
        end_ms = _time("end", end) if end is not None else _time("start", start) + round(took or 0)
        start_ms = _time("start", start) if start is not None else end_ms - round(took or 0)
        if not 0 <= start_ms <= end_ms <= start_ms + MAX_SPAN_MS:
            raise BadInput("end", end_ms, "must be 0 to 6 hours after start")
        first = self._get(payload, "first")
        first_ms = _time("first", first) if first is not None else 0
        # For an answer that is not streamed, a gateway may stamp the first token with the end, or not at all.
        return start_ms, first_ms if start_ms <= first_ms <= end_ms else 0, end_ms

    def _get(self, payload: dict[str, Any], field: str) -> Any:
        """Return the first value at the paths of a field that is not null, or None."""
        for path in self._paths[field]:
            value = _at(payload, path)
            if value is not None:
                return value
        return None

    def _text(self, payload: dict[str, Any], field: str, default: str | None = None) -> str:
        value = self._get(payload, field)
        if value is None or value == "":
            if default is None:
                raise BadInput(field, value, "is needed")
            return default
        if isinstance(value, dict | list):
            raise BadInput(field, value, "give a text")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if len(text) > MAX_TEXT or not text.isprintable():
            raise BadInput(field, text, f"give 1 to {MAX_TEXT} printable characters")
        return text

    def _client_text(self, payload: dict[str, Any], field: str, default: str) -> str:
        """Return a text that clients may set, or `default` if the log cannot store it.

        The request is not refused for it, or clients could keep their requests off the bill.
        """
        try:
            return self._text(payload, field, default)
        except BadInput:
            return default

    def _count(self, payload: dict[str, Any], field: str, default: int | None = None) -> int:
        value = self._get(payload, field)
        if value is None:
            if default is None:
                raise BadInput(field, value, "is needed")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
            raise BadInput(field, value, "give a whole number of tokens, 0 to 2^31-1")
        return value


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _time(field: str, value: Any) -> int:
    """Return epoch ms of epoch seconds, epoch milliseconds or RFC 3339. A time without a zone is UTC."""
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
            ms = round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
        except Exception:
            raise BadInput(field, value, "give RFC 3339, or epoch seconds or milliseconds") from None
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        ms = round(value if value > _MS_ABOVE else value * 1000)
    else:
        raise BadInput(field, value, "give RFC 3339, or epoch seconds or milliseconds")
    if not 0 <= ms <= MAX_TIME_MS:
        raise BadInput(field, value, "is outside of 1970 to 9999")
    return ms
