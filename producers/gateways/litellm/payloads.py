"""Reads calls from LiteLLM's standard logging payloads, which its callbacks receive and its `generic_api` posts.

Only the fields named here are read. The payload also has `messages`, `response` and `model_parameters`: of those only
the counts under `response.usage` are read. `end_user` is not read, because clients set it as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from producers.common.json_text import json_elements
from producers.gateways.calls import UNKNOWN, InferenceCall, check_end_ms, text_or_empty
from producers.gateways.litellm.callback import without_secrets
from producers.gateways.request_fields import FieldPaths, RequestFields, RequestReader
from producers.runtime.batching import decimal_text
from producers.runtime.deduplication import KnownCalls
from producers.runtime.refusals import describe, read_each

MAX_CALLS = 65_536
"""Calls in one body."""
_USAGE = ("metadata.usage_object", "response.usage")
_CACHED = tuple(
    f"{usage}.{name}" for usage in _USAGE for name in ("prompt_tokens_details.cached_tokens", "cache_read_input_tokens")
)
FIELDS = RequestFields(
    tenant=("tenant",), model=("model",), request_id=("id", "litellm_call_id"), start=("startTime",),
    first=("completionStartTime",), end=("endTime",), duration_ms=(), prompt_tokens=("prompt_tokens",),
    cached_tokens=("cached_tokens",), completion_tokens=("completion_tokens",), status=("status",),
    session_id=("session_id",), trace_id=("trace_id",), api_base=("api_base",), route=("model_group",),
)  # fmt: skip
"""Names of the fields that `LiteLLMReader._flatten` makes of a payload."""


class LiteLLMRules(BaseModel):
    """Rules for reading payloads. Paths have dots; the first with a value wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: FieldPaths = Field(
        default=(
            "metadata.user_api_key_team_id", "metadata.user_api_key_team_alias", "metadata.user_api_key_org_id",
            "metadata.user_api_key_alias",
        ),
        description="Who pays: what LiteLLM knows of the key that it has verified, never what a client sent.",
    )  # fmt: skip
    otherwise: str = Field(
        default=UNKNOWN, description="Who pays for a call that names none of them; empty: such calls are refused."
    )
    session: FieldPaths = Field(
        default=("session_id", "metadata.session_id", "metadata.requester_metadata.session_id"),
        description="Session that a call belongs to.",
    )
    step: FieldPaths = Field(
        default=("metadata.requester_metadata.step", "metadata.spend_logs_metadata.step"),
        description="Step of its session that it belongs to.",
    )
    own_providers: tuple[str, ...] = Field(
        default=(
            "hosted_vllm", "vllm", "ollama", "ollama_chat", "openai_like", "lm_studio", "llamafile", "xinference",
            "infinity", "triton", "litellm_proxy", "custom", "custom_openai",
        ),
        description="Providers (`custom_llm_provider`) that are servers of your own: they are paid in energy.",
    )  # fmt: skip


class LiteLLMCalls(NamedTuple):
    """New calls, errors of payloads that could not be read, and the number of calls that were reported before."""

    calls: list[InferenceCall]
    refused: list[str]
    doubles: int


class LiteLLMReader:
    """Reads calls from payloads.

    `payer` maps the tenant that a payload names ("" for none) to the one that pays. It may raise.
    """

    def __init__(self, rules: LiteLLMRules, payer: Callable[[str], str] = str) -> None:
        self._rules, self._payer, self._reader = rules, payer, RequestReader(FIELDS)

    def body(self, body: bytes, recent: KnownCalls, latest_ms: int) -> LiteLLMCalls:
        """Read a post of `generic_api` with any `log_format`: an array, lines, or a single object.

        Raises BadInput if the body is none of them.
        """
        payloads = ((f"payload {n}", payload) for n, payload in enumerate(_split_body(body)))
        return self.payloads(payloads, recent, latest_ms)

    def payloads(self, payloads: Iterable[tuple[str, object]], recent: KnownCalls, latest_ms: int) -> LiteLLMCalls:
        """Read payloads, given with their places as JSON or decoded, and add the new calls to `recent`.

        A payload that cannot be read, or that ended after `latest_ms` (epoch ms), is refused alone.
        """
        calls, refused, doubles = list[InferenceCall](), list[str](), 0

        def read(payload: object) -> InferenceCall:
            call = self.call(_decode_json(payload) if isinstance(payload, bytes) else payload)
            check_end_ms(call.row.t_end_ms, latest_ms)
            return call

        for call in read_each(payloads, read, refused):
            if recent.has(call.identities[0]):
                doubles += 1
                continue
            recent.add(call.identities)
            calls.append(call)
        return LiteLLMCalls(calls, refused, doubles)

    def call(self, payload: object) -> InferenceCall:
        """Return the call of one payload. Raises BadInput that names the field, its value and what would be right."""
        if not isinstance(payload, dict):
            raise BadInput("payload", type(payload).__name__, "give LiteLLM's standard logging payload, an object")
        row = self._reader.row(self._flatten(payload), "")
        if not row.request_id:
            raise BadInput("id", "", "is needed")
        if row.t_first_ms >= row.t_end_ms:
            # For an answer that is not streamed, LiteLLM says that its first token came with its last.
            row = row._replace(t_first_ms=0)
        # Ollama's ids are random numbers below 1000, so the id alone does not identify a call.
        name = f"{row.t_start_ms}-{row.t_end_ms}@{row.request_id}"
        provider = text_or_empty(_text_at(payload, ("custom_llm_provider",)))
        if not provider or provider in self._rules.own_providers:
            return InferenceCall(row, (name,))
        spend = _spend(payload)
        external = bool(spend) or not row.prompt_tokens + row.completion_tokens
        step = text_or_empty(_text_at(payload, self._rules.step))
        return InferenceCall(row, (name,), external, provider, spend, step)

    def _flatten(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a payload under the names of `FIELDS`."""
        rules = self._rules
        plain: dict[str, Any] = {
            name: payload.get(name) for name in ("model", "startTime", "completionStartTime", "endTime")
        }
        plain |= {name: text_or_empty(_text_at(payload, (name,))) for name in ("trace_id", "model_group")}
        plain["api_base"] = without_secrets(text_or_empty(_text_at(payload, ("api_base", "hidden_params.api_base"))))
        provider, model = _text_at(payload, ("custom_llm_provider",)), plain["model"]
        if provider and isinstance(model, str):
            # The proxy names the model `hosted_vllm/llama`, the SDK `llama`.
            plain["model"] = model.removeprefix(f"{provider}/")
        plain["id"] = payload.get("id") or payload.get("litellm_call_id")
        plain["tenant"] = self._payer(_text_at(payload, rules.tenant)) or rules.otherwise
        plain["session_id"] = text_or_empty(_text_at(payload, rules.session))
        plain["status"] = _status(payload)
        if payload.get("cache_hit") in (True, "True", "true"):
            # LiteLLM answered from its own cache: it is a request, but no GPU worked on a token of it.
            return plain | {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        prompt, cached = _zero_if_failed(payload.get("prompt_tokens"), payload), _value_at(payload, _CACHED)
        if isinstance(prompt, int) and isinstance(cached, int) and cached > prompt >= 0:
            prompt += cached  # Some versions count tokens that Anthropic read from its cache apart from the prompt.
        plain["prompt_tokens"], plain["cached_tokens"] = prompt, cached
        plain["completion_tokens"] = _zero_if_failed(payload.get("completion_tokens"), payload)
        return plain


def _split_body(body: bytes) -> list[object]:
    """Return the payloads of a body, each as JSON or decoded."""
    text = body.strip()
    payloads = _decode_array(text) if text[:1] == b"[" and text[-1:] == b"]" else _decode_lines(text)
    if len(payloads) > MAX_CALLS:
        raise BadInput("body", len(payloads), f"send at most {MAX_CALLS} payloads at once")
    return payloads


def _decode_array(body: bytes) -> list[object]:
    """Return the elements of a JSON array: decoded, or as JSON if one of them cannot be decoded."""
    try:
        return list(msgspec.json.decode(body, type=list[Any]))
    except Exception:
        return list(json_elements(body))


def _decode_lines(body: bytes) -> list[object]:
    """Return the only object of a body, which may be printed over several lines, else its lines as JSON."""
    try:
        return [_decode_json(body)]
    except BadInput:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) < 2:
            raise
        return list(lines)


def _decode_json(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except Exception as error:  # A message of msgspec names a place, never the text there.
        raise BadInput("body", f"{len(text)} bytes", f"is no JSON that can be read: {describe(error)}") from None


def _status(payload: Mapping[str, Any]) -> str:
    """Return "success" or the kind of failure. The error's text is not read: it may quote the prompt."""
    status = text_or_empty(_text_at(payload, ("status",))) or "success"
    if status != "failure":
        return status
    return text_or_empty(_text_at(payload, ("error_information.error_class", "error_information.error_code"))) or status


def _spend(payload: Mapping[str, Any]) -> str:
    """Return what the provider charges in USD, or "" for nothing."""
    cost = payload.get("response_cost")
    if cost is None or cost == "" or isinstance(cost, bool):
        return ""
    try:
        usd = decimal_text("response_cost", float(cost))
    except Exception:
        raise BadInput("response_cost", type(cost).__name__, "give USD") from None
    if usd.startswith("-"):
        raise BadInput("response_cost", usd, "give USD, 0 or more")
    return "" if usd == "0" else usd


def _zero_if_failed(count: Any, payload: Mapping[str, Any]) -> Any:
    """Return the count, or 0 where a failed call has none. A call that succeeded needs it."""
    return 0 if count is None and payload.get("status") == "failure" else count


def _value_at(payload: Any, paths: Sequence[str]) -> Any:
    """Return the first value at these paths that is neither null nor empty, or None."""
    for path in paths:
        value = payload
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and value != "":
            return value
    return None


def _text_at(payload: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return the first text or number at these paths as a text, or "" if there is none."""
    for path in paths:
        value = _value_at(payload, (path,))
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return ""
