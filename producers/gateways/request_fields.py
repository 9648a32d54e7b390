"""Read one request from a JSON object by the configured names of its fields. No other field is looked at, so a prompt
in the object is not stored anywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from contracts.events import LABELS, MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, TOKEN_COLUMNS
from producers.common.json_text import BOM
from producers.gateways.field_paths import path_steps, value_at
from producers.gateways.time_formats import duration_ms, time_ms
from producers.gateways.token_names import CountReader, Inclusion, TokenName
from producers.gateways.token_usage import ReportedUsage, check_parts, own_form, settle
from producers.runtime.batching import RequestRow
from producers.runtime.refusals import describe

MAX_USAGE_CHARS = 8_192
"""Characters of an object of counts that is a text."""
Number = TypeVar("Number", int, float, float | None)
FieldPaths = tuple[str, ...]
"""Names of one field, best first. A name may be a path with dots."""
_OK = {"ok", "success", "true"}
LEFT_OUT, BAD_COUNT = "field_left_out", "count_left_out"
"""Corrections: words that `/metrics` counts them by."""
_ATTEMPTS = re.compile(r",? : |, ")
_ABSENT = ("", "-")
"""Texts that stand for no value: nginx, Envoy and Traefik write a dash."""
_DURATIONS_MS = {"duration_ms": 1.0, "duration_s": 1e3, "duration_us": 1e-3, "duration_ns": 1e-6}
_TO_FIRST_MS = {"to_first_ms": 1.0, "to_first_s": 1e3}
_QUEUE_MS = {"queue_ms": 1.0, "queue_s": 1e3}
"""Milliseconds in a unit of each field."""
_COUNTS = tuple(c for c in TOKEN_COLUMNS if c.name in RequestRow._fields)
_OWN = (*(c.name for c in _COUNTS), "total_tokens")
_CACHE_AND_TOTAL = ("cached_tokens", "cache_write_tokens", "total_tokens")
_TEXTS = tuple(name for name in LABELS if name in RequestRow._fields)


class RequestFields(BaseModel):
    """Names of each field of a request, or paths with dots (`usage.prompt_tokens`). The first with a value wins.

    A path is also tried as one key, so `gen_ai.usage.input_tokens` names a flat key as well as nested objects.
    """

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
    duration_s: FieldPaths = Field(default=("duration_s",), description="The same in seconds.")
    duration_us: FieldPaths = Field(default=("duration_us",), description="The same in microseconds.")
    duration_ns: FieldPaths = Field(default=("duration_ns",), description="The same in nanoseconds.")
    to_first_ms: FieldPaths = Field(
        default=("to_first_ms",), description="Time from its start to its first token in ms; in place of first."
    )
    to_first_s: FieldPaths = Field(default=("to_first_s",), description="The same in seconds.")
    usage: FieldPaths = Field(
        default=("usage",), description="The model API's own object of counts; for counts that no other field has."
    )
    prompt_tokens: FieldPaths = Field(
        default=("prompt_tokens", "input_tokens"), description="Tokens of the prompt, cached ones included."
    )
    completion_tokens: FieldPaths = Field(
        default=("completion_tokens", "output_tokens"), description="Tokens of the answer."
    )
    total_tokens: FieldPaths = Field(
        default=("total_tokens",), description="Their sum; decides whether cached tokens are within the prompt."
    )
    cached_tokens: FieldPaths = Field(
        default=("cached_tokens",), description="Tokens of the prompt that came from a cache."
    )
    cache_write_tokens: FieldPaths = Field(
        default=("cache_write_tokens",), description="Tokens of the prompt that were written to a cache."
    )
    reasoning_tokens: FieldPaths = Field(
        default=("reasoning_tokens",), description="Tokens of the answer that were reasoning."
    )
    status: FieldPaths = Field(
        default=("status",), description="ok, success, true or 200 to 299; any other is a failure."
    )
    session_id: FieldPaths = Field(default=("session_id",), description="Session that it belongs to.")
    trace_id: FieldPaths = Field(default=("trace_id",), description="Trace that it belongs to.")
    user: FieldPaths = Field(default=(), description="Its user, stored as a keyed hash.")
    application: FieldPaths = Field(default=("application",), description="Application that sent it.")
    feature: FieldPaths = Field(default=("feature",), description="Feature of the application.")
    provider: FieldPaths = Field(default=("provider",), description="Provider that served it.")
    region: FieldPaths = Field(default=("region",), description="Region that served it.")
    endpoint: FieldPaths = Field(
        default=("endpoint",), description="Kind of call: chat, completion, embedding, image, audio, rerank."
    )
    priority: FieldPaths = Field(default=("priority",), description="Its priority.")
    queue_ms: FieldPaths = Field(default=("queue_ms",), description="How long it waited for the model, in ms.")
    queue_s: FieldPaths = Field(default=("queue_s",), description="The same in seconds.")
    api_base: FieldPaths = Field(default=("api_base", "upstream"), description="Address that the gateway sent it to.")
    route: FieldPaths = Field(default=("route", "model_group"), description="Its route or deployment.")


class Settling(NamedTuple):
    """Parts of the prompt or completion that are more than it are corrected, not refused.

    With `as_provider`, cached tokens are counted as the provider counts them: beside the prompt at Anthropic. Then a
    total is the gateway's own sum.
    """

    as_provider: bool = False


class RequestReader:
    """Reads requests by `fields`. `otherwise` pays for a request that names no tenant; "" refuses it.

    `corrected` counts the corrections so far, by reason.
    """

    def __init__(self, fields: RequestFields, otherwise: str = "", settling: Settling | None = None) -> None:
        self._paths = {name: [path_steps(path) for path in paths] for name, paths in fields}
        self._otherwise, self._settling = otherwise, settling
        self.corrected: Counter[str] = Counter()

    def read(self, line: bytes, default_id: str) -> RequestRow:
        """Return the request of a line of JSON. `default_id` is the id of one that has none.

        Raises BadInput that names the field, its value and what would be right.
        """
        return self.row(decode_object(line), default_id)

    def row(self, payload: dict[str, Any], default_id: str) -> RequestRow:
        """Return the request of a JSON object. Raises BadInput like `read`."""
        start_ms, first_ms, end_ms = self._times(payload)
        status = status_of(self._text(payload, "status", "ok"))
        tenant = self._text(payload, "tenant", self._otherwise or None)
        if tenant.startswith("__"):
            raise BadInput("tenant", tenant, "names that begin with '__' are Wattlog's own")
        columns: dict[str, Any] = self._tokens(payload, failed=status != "ok")
        columns |= {name: self._client_text(payload, name, "") for name in _TEXTS}
        queued_ms = self._optional(self._duration, payload, _QUEUE_MS)
        if queued_ms is not None:
            columns["queue_ms"] = min(round(queued_ms), MAX_SPAN_MS)
        return RequestRow(
            tenant=tenant,
            model=self._text(payload, "model"),
            request_id=self._client_text(payload, "request_id", default_id),
            t_start_ms=start_ms,
            t_first_ms=first_ms,
            t_end_ms=end_ms,
            status=status,
            # Of several attempts, as nginx lists them, the last one served it.
            api_base=_ATTEMPTS.split(self._text(payload, "api_base", ""))[-1],
            route=self._text(payload, "route", ""),
            **columns,
        )

    def has_counts(self, payload: dict[str, Any]) -> bool:
        """Return whether an object has a count of tokens."""
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        return any(self._get(payload, name) is not None for name in names) or bool(
            {"prompt_tokens", "completion_tokens"} & self._reported(payload).counts.keys()
        )

    def has_model(self, payload: dict[str, Any]) -> bool:
        return self._get(payload, "model") is not None

    def _reported(self, payload: dict[str, Any]) -> CountReader:
        """Return the counts of the fields, and of the object `usage` those that no field has."""
        reader = CountReader()
        inclusion = Inclusion.PROVIDER if self._settling and self._settling.as_provider else Inclusion.PART
        reader.read([TokenName(name, name, inclusion if name in _CACHE_AND_TOTAL else Inclusion.PART) for name in _OWN],
                    {name: self._get(payload, name) for name in _OWN})  # fmt: skip
        reader.read_object(self._usage(payload))
        return reader

    def _usage(self, payload: dict[str, Any]) -> Any:
        """Return the object of counts, which may be JSON in a text."""
        usage = self._get(payload, "usage")
        if not isinstance(usage, str) or usage[:1] != "{" or len(usage) > MAX_USAGE_CHARS:
            return usage
        try:
            return msgspec.json.decode(usage)
        except Exception:
            return None

    def _tokens(self, payload: dict[str, Any], *, failed: bool) -> dict[str, Any]:
        """Return the counts of tokens by column, settled. A failed request without counts has none.

        Raises BadInput for what is no count or is missing and, without `Settling`, for a part that is more than its
        whole.
        """
        reader = self._reported(payload)
        for name, value in reader.invalid.items():
            if self._settling is None or name in ("prompt_tokens", "completion_tokens"):
                raise BadInput(name, value, "give a whole number of tokens, 0 to 2^31-1")
            self.corrected[BAD_COUNT] += 1
        if failed and not {"prompt_tokens", "completion_tokens"} & reader.counts.keys():
            return dict.fromkeys((c.name for c in _COUNTS), 0)
        for name in ("prompt_tokens", "completion_tokens"):
            if name not in reader.counts and not {"prompt_tokens", "total_tokens"} <= reader.counts.keys():
                raise BadInput(name, None, "is needed")
        provider, model = self._client_text(payload, "provider", ""), self._client_text(payload, "model", "")
        settled = settle(own_form(ReportedUsage.of(reader, provider, model), self._usage(payload)))
        if self._settling is None:
            check_parts(reader.counts, settled)
        self.corrected.update(settled.corrections)
        return dict.fromkeys((c.name for c in _COUNTS), 0) | settled.counts

    def _times(self, payload: dict[str, Any]) -> tuple[int, int, int]:
        """Return start, first token (0 if unknown) and end in epoch ms."""
        start, end = self._get(payload, "start"), self._get(payload, "end")
        took_ms = self._duration(payload, _DURATIONS_MS)
        if start is None and (end is None or took_ms is None):
            raise BadInput("start", start, "give start and end, or one of them and a duration")
        if end is None and took_ms is None:
            raise BadInput("end", end, "give start and end, or one of them and a duration")
        span_ms = round(took_ms or 0)
        end_ms = time_ms("end", end) if end is not None else time_ms("start", start) + span_ms
        start_ms = time_ms("start", start) if start is not None else end_ms - span_ms
        if not 0 <= start_ms <= end_ms <= min(start_ms + MAX_SPAN_MS, MAX_TIME_MS):
            raise BadInput("end", end_ms, "must be 0 to 6 hours after start")
        first, to_first_ms = self._get(payload, "first"), self._optional(self._duration, payload, _TO_FIRST_MS)
        first_ms = start_ms + round(to_first_ms) if to_first_ms else 0
        if first is not None:
            first_ms = self._optional(time_ms, "first", first) or 0
        # For an answer that is not streamed, a gateway may stamp the first token with the end, or not at all.
        return start_ms, first_ms if start_ms <= first_ms <= end_ms else 0, end_ms

    def _optional(self, read: Callable[..., Number], *values: Any) -> Number | None:
        """Return what `read` returns of a field that a request can do without; None, and count it, if it is wrong."""
        try:
            return read(*values)
        except BadInput:
            self.corrected[LEFT_OUT] += 1
            return None

    def _duration(self, payload: dict[str, Any], units: Mapping[str, float]) -> float | None:
        """Return a duration in ms from the first of these fields that has a value, or None."""
        for field, unit_ms in units.items():
            value = self._get(payload, field)
            if value is not None:
                return duration_ms(field, value, unit_ms)
        return None

    def _get(self, payload: dict[str, Any], field: str) -> Any:
        """Return the first value at the paths of a field that is neither null nor a dash, or None."""
        for steps in self._paths.get(field, ()):
            value = payload.get(steps[0]) if len(steps) == 1 else value_at(payload, steps)
            if value is not None and value not in _ABSENT:
                return value
        return None

    def _text(self, payload: dict[str, Any], field: str, default: str | None = None) -> str:
        value = self._get(payload, field)
        if value is None:
            if default is None:
                raise BadInput(field, value, "is needed")
            return default
        if isinstance(value, dict | list):
            raise BadInput(field, f"({type(value).__name__})", "give a text")
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
        except (BadInput, ValueError):  # ValueError of an integer of thousands of digits.
            return default


def status_of(text: str) -> str:
    """Return "ok" for a success (also 200 to 299), else the text."""
    return "ok" if text.lower() in _OK or (text.isdecimal() and 200 <= int(text) < 300) else text


def decode_object(line: bytes) -> dict[str, Any]:
    """Return the object of a line of JSON. Raises BadInput."""
    try:
        payload = msgspec.json.decode(line.removeprefix(BOM))
    except Exception as error:
        # A message of msgspec names a place, never the text there; nor is the line quoted: it may hold a prompt.
        raise BadInput("line", f"{len(line)} bytes", f"is no JSON that can be read: {describe(error)}") from None
    if not isinstance(payload, dict):
        raise BadInput("line", f"{len(line)} bytes", "is no JSON object")
    return payload
