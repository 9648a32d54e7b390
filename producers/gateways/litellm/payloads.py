"""Requests of LiteLLM's standard logging payload: what its callbacks are handed, and what its `generic_api` posts.

Only the fields named here are looked at. The payload also has `messages`, `response` and `model_parameters`: of those
nothing is read but the counts under `response.usage`. `end_user` is not read either: clients set it as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from producers.gateways.calls import UNKNOWN, InferenceCall, check_end_ms, text_or_empty
from producers.gateways.litellm.callback import without_secrets
from producers.gateways.request_fields import FieldPaths, RequestFields, RequestReader
from producers.runtime.batching import decimal_text
from producers.runtime.deduplication import Seen

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
"""Of what `_plain` makes of a payload."""


class LiteLLMRules(BaseModel):
    """How a payload is read. Paths have dots; of several, the first that says something counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: FieldPaths = Field(
        (
            "metadata.user_api_key_team_id", "metadata.user_api_key_team_alias", "metadata.user_api_key_org_id",
            "metadata.user_api_key_alias",
        ),
        description="Who pays: what LiteLLM knows of the key that it has verified, never what a client sent.",
    )  # fmt: skip
    otherwise: str = Field(UNKNOWN, description="Who pays where none of them says; empty: such calls are refused.")
    session: FieldPaths = Field(
        ("session_id", "metadata.session_id", "metadata.requester_metadata.session_id"),
        description="Session that a call belongs to.",
    )
    step: FieldPaths = Field(
        ("metadata.requester_metadata.step", "metadata.spend_logs_metadata.step"),
        description="Step of its session that it belongs to.",
    )
    own_providers: tuple[str, ...] = Field(
        (
            "hosted_vllm", "vllm", "ollama", "ollama_chat", "openai_like", "lm_studio", "llamafile", "xinference",
            "infinity", "triton", "litellm_proxy", "custom", "custom_openai",
        ),
        description="Providers (`custom_llm_provider`) that are servers of your own: they are paid in energy.",
    )  # fmt: skip


class LiteLLMCalls(NamedTuple):
    """Calls that came for the first time, what is wrong with payloads that are none, and how many came before."""

    calls: list[InferenceCall]
    refused: list[str]
    doubles: int


class LiteLLMReader:
    """Calls of payloads, by rules."""

    def __init__(self, rules: LiteLLMRules, payer: Callable[[str], str] = str) -> None:
        """`payer` says who pays where a payload names this one ("" for none); it may raise."""
        self._rules, self._payer, self._reader = rules, payer, RequestReader(FIELDS)

    def body(self, body: bytes, recent: Seen, latest_ms: int) -> LiteLLMCalls:
        """Of a post of `generic_api`, whatever its `log_format`: an array, lines, or a single object.

        Raises BadInput where that cannot be told.
        """
        return self.payloads(((f"payload {n}", p) for n, p in enumerate(_payloads(body))), recent, latest_ms)

    def payloads(self, told: Iterable[tuple[str, object]], recent: Seen, latest_ms: int) -> LiteLLMCalls:
        """Of payloads with their places: bytes of JSON, or what they say. One that cannot be read, or that ended after
        `latest_ms` (epoch ms), does not keep the others back. `recent` is what came before, and is added to."""
        calls, refused, doubles = list[InferenceCall](), list[str](), 0
        for place, payload in told:
            try:
                call = self.call(_json(payload) if isinstance(payload, bytes) else payload)
                check_end_ms(call.row.t_end_ms, latest_ms)
            except BadInput as error:
                refused.append(f"{place}: {error}")
                continue
            if recent.has(call.names[0]):
                doubles += 1
                continue
            recent.add(call.names)
            calls.append(call)
        return LiteLLMCalls(calls, refused, doubles)

    def call(self, payload: object) -> InferenceCall:
        """Of one payload. Raises BadInput naming the field, its value and what would be right."""
        if not isinstance(payload, dict):
            raise BadInput("payload", type(payload).__name__, "give LiteLLM's standard logging payload, an object")
        plain = self._plain(payload)
        row = self._reader.row(plain, "")
        if not row.request_id:
            raise BadInput("id", "", "is needed")
        if row.t_first_ms >= row.t_end_ms:
            # Of an answer that is no stream LiteLLM says that its first token came with its last.
            row = row._replace(t_first_ms=0)
        # Ollama's ids are random numbers below 1000, so the id alone does not say which call it is.
        name = f"{row.t_start_ms}-{row.t_end_ms}@{row.request_id}"
        provider = text_or_empty(_first(payload, ("custom_llm_provider",)))
        if not provider or provider in self._rules.own_providers:
            return InferenceCall(row, (name,))
        spend = _spend(payload)
        external = bool(spend) or not row.prompt_tokens + row.completion_tokens
        return InferenceCall(row, (name,), external, provider, spend, text_or_empty(_first(payload, self._rules.step)))

    def _plain(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        rules = self._rules
        plain: dict[str, Any] = {
            name: payload.get(name) for name in ("model", "startTime", "completionStartTime", "endTime")
        }
        plain |= {name: text_or_empty(_first(payload, (name,))) for name in ("trace_id", "model_group")}
        plain["api_base"] = without_secrets(text_or_empty(_first(payload, ("api_base", "hidden_params.api_base"))))
        provider, model = _first(payload, ("custom_llm_provider",)), plain["model"]
        if provider and isinstance(model, str):
            plain["model"] = model.removeprefix(f"{provider}/")  # The proxy says `hosted_vllm/llama`, the SDK `llama`.
        plain["id"] = payload.get("id") or payload.get("litellm_call_id")
        plain["tenant"] = self._payer(_first(payload, rules.tenant)) or rules.otherwise
        plain["session_id"] = text_or_empty(_first(payload, rules.session))
        plain["status"] = _status(payload)
        if payload.get("cache_hit") in (True, "True", "true"):
            # Answered from LiteLLM's own cache: a request, but no token of it was worked on by any GPU.
            return plain | {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        prompt, cached = _none_is_zero(payload.get("prompt_tokens"), payload), _at_first(payload, _CACHED)
        if isinstance(prompt, int) and isinstance(cached, int) and cached > prompt >= 0:
            prompt += cached  # Some versions count what Anthropic read from its cache apart from the prompt.
        plain["prompt_tokens"], plain["cached_tokens"] = prompt, cached
        plain["completion_tokens"] = _none_is_zero(payload.get("completion_tokens"), payload)
        return plain


def _payloads(body: bytes) -> list[object]:
    """Each, as JSON or what it says."""
    if body.lstrip()[:1] == b"[":
        found = _json(body)
        assert isinstance(found, list)
    else:
        found = [line for line in body.split(b"\n") if line.strip()] if _is_lines(body) else [_json(body)]
    if len(found) > MAX_CALLS:
        raise BadInput("body", len(found), f"send at most {MAX_CALLS} payloads at once")
    return found


def _is_lines(body: bytes) -> bool:
    """Whether the first line is JSON by itself: an object that was printed over several lines begins with '{' only."""
    first, _, rest = body.strip().partition(b"\n")
    try:
        _json(first)
    except BadInput:
        return False
    return bool(rest)


def _json(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("body", f"{len(text)} bytes", f"is no JSON: {error}") from None


def _status(payload: Mapping[str, Any]) -> str:
    """ "success", or what kind of failure: never the error's text, which may quote the prompt."""
    said = text_or_empty(_first(payload, ("status",))) or "success"
    if said != "failure":
        return said
    return text_or_empty(_first(payload, ("error_information.error_class", "error_information.error_code"))) or said


def _spend(payload: Mapping[str, Any]) -> str:
    """What the provider asks, USD; "" where it asks nothing."""
    cost = payload.get("response_cost")
    if cost is None or cost == "" or isinstance(cost, bool):
        return ""
    try:
        usd = decimal_text("response_cost", float(cost))
    except (TypeError, ValueError, OverflowError):
        raise BadInput("response_cost", type(cost).__name__, "give USD") from None
    if usd.startswith("-"):
        raise BadInput("response_cost", usd, "give USD, 0 or more")
    return "" if usd == "0" else usd


def _none_is_zero(count: Any, payload: Mapping[str, Any]) -> Any:
    """A call that failed may have no counts; of one that did not, they are needed."""
    return 0 if count is None and payload.get("status") == "failure" else count


def _at_first(found: Any, paths: Sequence[str]) -> Any:
    """What the first path leads to that leads to something."""
    for path in paths:
        value = found
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and value != "":
            return value
    return None


def _first(payload: Mapping[str, Any], paths: Sequence[str]) -> str:
    """The same as a text; "" for none. What is no text or number is as if it were not there."""
    for path in paths:
        value = _at_first(payload, (path,))
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return ""
