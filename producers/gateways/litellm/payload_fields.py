"""The fields of a LiteLLM payload: names, times, tokens, and the price of a call that an outside provider served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS
from contracts.workload_names import UNNAMED_TENANT
from producers.gateways.calls import NO_TENANT, UNKNOWN, InferenceCall, text_or_empty
from producers.gateways.checked_rows import NEEDED, request_row
from producers.gateways.litellm.callback import without_secrets
from producers.gateways.litellm_call_types import BATCHES, INFERENCE
from producers.gateways.request_fields import FieldPaths
from producers.gateways.time_formats import TIME_FIX, time_ms
from producers.gateways.token_names import CountReader, names
from producers.gateways.token_usage import ReportedUsage, settle
from producers.runtime.batching import decimal_text

LEFT_OUT, TOO_LONG, BAD_COUNT, ESTIMATED = "field_left_out", "longer_than_6_h", "count_left_out", "estimated"
"""Reasons of corrections: words that `/metrics` counts them by."""
_USAGE = ("metadata.usage_object", "response.usage")
_TOP = (
    *names("prompt_tokens", "prompt_tokens"), *names("completion_tokens", "completion_tokens"),
    *names("total_tokens", "total_tokens"),
)  # fmt: skip


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
        default=UNNAMED_TENANT,
        description="Who pays for a call that names none of them; empty: such calls are refused.",
    )
    session: FieldPaths = Field(
        default=("session_id", "metadata.session_id", "metadata.requester_metadata.session_id"),
        description="Session that a call belongs to.",
    )
    step: FieldPaths = Field(
        default=("metadata.requester_metadata.step", "metadata.spend_logs_metadata.step"),
        description="Step of its session that it belongs to.",
    )
    application: FieldPaths = Field(
        default=("metadata.user_api_key_alias",), description="Application that made the call."
    )
    user: FieldPaths = Field(
        default=("metadata.user_api_key_user_id",),
        description="User that the call was for; stored as a keyed hash (setting `user_identity`).",
    )
    feature: FieldPaths = Field(
        default=("metadata.requester_metadata.feature", "metadata.spend_logs_metadata.feature"),
        description="Feature of the application.",
    )
    own_providers: tuple[str, ...] = Field(
        default=(
            "hosted_vllm", "vllm", "ollama", "ollama_chat", "openai_like", "lm_studio", "llamafile", "xinference",
            "infinity", "triton", "litellm_proxy", "custom", "custom_openai",
        ),
        description="Providers (`custom_llm_provider`) that are servers of your own: they are paid in energy.",
    )  # fmt: skip


class PayloadFields:
    """Makes calls of payloads. `payer` maps the tenant that a payload names ("" for none) to the one that pays.

    `sender` is who reports them.
    """

    def __init__(self, rules: LiteLLMRules, payer: Callable[[str], str], sender: str) -> None:
        self._rules, self._payer, self._sender = rules, payer, sender

    def call(self, payload: Mapping[str, Any]) -> tuple[InferenceCall, dict[str, str]]:
        """Return the call of a payload without identities, and the fields that were corrected, with the reason.

        Raises BadInput that names a field that is needed, its value and what would be right.
        """
        left_out: dict[str, str] = {}
        provider = text_or_empty(text_at(payload, ("custom_llm_provider",)))
        texts = self._texts(payload, left_out)
        start_ms, first_ms, end_ms = self._times(payload, left_out)
        model = self._model(payload, texts["route"], left_out)
        request_id = text_or_empty(text_at(payload, ("id",))) or text_or_empty(text_at(payload, ("litellm_call_id",)))
        if not request_id:
            raise BadInput("id", "", "is needed")
        columns = {
            **self._counts(payload, model, left_out), **texts, "sender": self._sender, "provider": provider,
            "endpoint": INFERENCE.get(str(payload.get("call_type") or ""), ""),
        }  # fmt: skip
        tenant = self._payer(self._tenant(payload, left_out))
        if not tenant:
            left_out[NO_TENANT] = NO_TENANT
        row = request_row(
            tenant=tenant or self._rules.otherwise, model=model,
            request_id=request_id, start_ms=start_ms, end_ms=end_ms, columns=columns,
            # For an answer that is not streamed, LiteLLM says that its first token came with its last.
            first_ms=first_ms if first_ms is not None and first_ms < end_ms else None,
        )  # fmt: skip
        if not provider or provider in self._rules.own_providers:
            return InferenceCall(row, ()), left_out
        spend = _spend(payload, left_out)
        external = bool(spend) or not row.prompt_tokens + row.completion_tokens
        step = text_or_empty(text_at(payload, self._rules.step))
        return InferenceCall(row, (), external, provider, spend, step), left_out

    def _texts(self, payload: Mapping[str, Any], left_out: dict[str, str]) -> dict[str, str]:
        """Return the texts of a payload by column."""
        rules = self._rules
        address = text_or_empty(text_at(payload, ("api_base", "hidden_params.api_base")))
        paths: dict[str, Sequence[str]] = {
            "trace_id": ("trace_id",), "route": ("model_group",), "session_id": rules.session,
            "application": rules.application, "user": rules.user, "feature": rules.feature,
        }  # fmt: skip
        texts = {column: text_or_empty(text_at(payload, of_column)) for column, of_column in paths.items()}
        return texts | {"api_base": without_secrets(address), "status": _status(payload)}

    def _model(self, payload: Mapping[str, Any], group: str, left_out: dict[str, str]) -> str | None:
        """Return the model. The proxy names it `hosted_vllm/llama`, the SDK `llama`. Of a batch it may be missing."""
        model = payload.get("model")
        if model == "" or (model is None and payload.get("call_type") in BATCHES):
            return text_or_empty(text_at(payload, ("hidden_params.litellm_model_name",))) or group or UNKNOWN
        if model is None:
            return None
        text = text_or_empty(text_at(payload, ("model",)))
        if not text:
            left_out["model"] = LEFT_OUT
            return group or UNKNOWN
        provider = text_at(payload, ("custom_llm_provider",))
        return (text.removeprefix(f"{provider}/") if provider else text) or text

    def _tenant(self, payload: Mapping[str, Any], left_out: dict[str, str]) -> str:
        """Return the first name of the key that a tenant may have; others are left out."""
        for path in self._rules.tenant:
            value = value_at(payload, path)
            if value is None or value == "":
                continue
            name = text_or_empty(text_at(payload, (path,)))
            if name and not name.startswith("__"):
                return name
            left_out[path.rpartition(".")[2]] = LEFT_OUT
        return ""

    def _times(self, payload: Mapping[str, Any], left_out: dict[str, str]) -> tuple[int, int | None, int]:
        """Return start, first token and end in epoch ms. Only the end must be right: a call is counted when it ends."""
        end_ms = _optional_time(payload, "endTime", {})
        if end_ms is None:
            raise BadInput("endTime", type(payload.get("endTime")).__name__, TIME_FIX)
        start_ms, first_ms = _optional_time(payload, "startTime", left_out), None
        if payload.get("completionStartTime") is not None:
            first_ms = _optional_time(payload, "completionStartTime", left_out)
        if start_ms is None or start_ms > end_ms:
            left_out["startTime"] = LEFT_OUT
            start_ms = end_ms
        if end_ms - start_ms > MAX_SPAN_MS:
            left_out["startTime"] = TOO_LONG
            start_ms = end_ms - MAX_SPAN_MS
        return start_ms, first_ms, end_ms

    def _counts(self, payload: Mapping[str, Any], model: str | None, left_out: dict[str, str]) -> dict[str, Any]:
        """Return the counts by column. One of prompt and completion that is no count is returned as it is."""
        if payload.get("cache_hit") in (True, "True", "true"):
            # LiteLLM answered from its own cache: it is a request, but no GPU worked on a token of it.
            return dict.fromkeys(NEEDED, 0)
        counts = CountReader()
        # Zeros beside other counts are LiteLLM's word for unknown.
        counts.read(_TOP, {row.name: payload[row.name] for row in _TOP if payload.get(row.name) not in (None, 0)})
        counts.read_object(next((usage for path in _USAGE if (usage := value_at(payload, path))), None))
        if not counts.counts.get("total_tokens"):
            counts.read(_TOP, payload)
        needed = {name: counts.invalid[name] for name in NEEDED if name in counts.invalid}
        for column in counts.invalid.keys() - needed.keys():
            left_out[column] = BAD_COUNT
        failed = payload.get("status") == "failure"
        if failed and not {"prompt_tokens", "completion_tokens"} & counts.counts.keys():
            counts.counts.clear()
        missing: dict[str, object] = {
            name: None for name in ("prompt_tokens", "completion_tokens")
            if name not in counts.counts and not failed and "total_tokens" not in counts.counts
        }  # fmt: skip
        provider = text_at(payload, ("custom_llm_provider",))
        # LiteLLM makes every provider's prompt one with its cache; versions that do not are told by the total.
        settled = settle(ReportedUsage(counts.counts, True, provider, model or ""))
        for correction in settled.corrections:
            left_out["cached_tokens"] = correction
        columns: dict[str, Any] = settled.counts | missing | needed
        if _is_estimate(payload, counts.counts) and not needed:
            left_out[""] = ESTIMATED
            columns["estimated_prompt_tokens"] = columns["prompt_tokens"]
            columns["estimated_completion_tokens"] = columns["completion_tokens"]
        return columns


def _is_estimate(payload: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Return whether LiteLLM counted the tokens of a stream itself, because the server was not asked for its usage.

    Servers like OpenAI's send it only on request. Tokens that LiteLLM counts have no details of the prompt.
    """
    if payload.get("stream") not in (True, "True", "true") or not counts:
        return False
    requested = value_at(payload, "model_parameters.stream_options.include_usage") in (True, "True", "true")
    details = any(value_at(payload, f"{path}.prompt_tokens_details") for path in _USAGE)
    of_cache = any(value_at(payload, f"{path}.{name}") is not None for path in _USAGE
               for name in ("cache_read_input_tokens", "prompt_tokens_details.cached_tokens"))  # fmt: skip
    return not (requested or details or of_cache) and any(value_at(payload, path) for path in _USAGE)


def _optional_time(payload: Mapping[str, Any], name: str, left_out: dict[str, str]) -> int | None:
    try:
        return time_ms(name, payload.get(name))
    except BadInput:
        left_out[name] = LEFT_OUT
        return None


def _status(payload: Mapping[str, Any]) -> str:
    """Return "ok" or the kind of failure. The error's text is not read: it may quote the prompt."""
    status = text_or_empty(text_at(payload, ("status",))) or "success"
    if status != "failure":
        return "ok" if status == "success" else status
    return text_or_empty(text_at(payload, ("error_information.error_class", "error_information.error_code"))) or status


def _spend(payload: Mapping[str, Any], left_out: dict[str, str]) -> str:
    """Return what the provider charges in USD, or "" for nothing. A cost that is none is left out."""
    cost = payload.get("response_cost")
    if cost is None or cost == "":
        return ""
    try:
        usd = decimal_text("response_cost", float(cost)) if not isinstance(cost, bool) else "-"
    except Exception:
        usd = "-"
    if usd.startswith("-"):
        left_out["response_cost"] = LEFT_OUT
        return ""
    return "" if usd == "0" else usd


@cache
def _steps(path: str) -> tuple[str, ...]:
    """Return the names of a path. Paths are those of the code and the configuration."""
    return tuple(path.split("."))


def value_at(payload: Any, path: str) -> Any:
    """Return the value at a path with dots, or None."""
    value = payload
    for name in _steps(path):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text_at(payload: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return the first text or number at these paths as a text, or "" if there is none."""
    for path in paths:
        value = value_at(payload, path)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return ""
