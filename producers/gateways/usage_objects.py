"""Counts of tokens from the `usage` object of a model's API: OpenAI's two, Anthropic's, Gemini's, Bedrock's, Ollama's,
and those of Vercel's AI SDK.

Some count cached tokens within the prompt, some beside it. The total decides where there is one; else the names of the
counts, because each API has its own. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.gateways.field_paths import path_steps, value_at
from producers.gateways.time_formats import number_of

_PROMPT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens", "promptTokens", "prompt_eval_count")
_COMPLETION = (
    "completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens", "completionTokens", "eval_count",
)  # fmt: skip
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens")
_PARTS: Mapping[str, tuple[str, ...]] = {
    "cached_tokens": (
        "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens", "cached_tokens",
        "prompt_cache_hit_tokens", "cachedContentTokenCount", "cache_read_input_tokens", "cacheReadInputTokens",
        "cachedInputTokens", "inputTokens.cacheRead",
    ),
    "cache_write_tokens": (
        "prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens",
        "cache_creation_input_tokens", "cacheWriteInputTokens", "inputTokens.cacheWrite",
    ),
    "audio_prompt_tokens": ("prompt_tokens_details.audio_tokens", "input_tokens_details.audio_tokens"),
    "image_prompt_tokens": ("prompt_tokens_details.image_tokens", "input_tokens_details.image_tokens"),
    "reasoning_tokens": (
        "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens", "thoughtsTokenCount",
        "reasoningTokens", "outputTokens.reasoning",
    ),
    "accepted_prediction_tokens": ("completion_tokens_details.accepted_prediction_tokens",),
    "rejected_prediction_tokens": ("completion_tokens_details.rejected_prediction_tokens",),
    "audio_completion_tokens": ("completion_tokens_details.audio_tokens", "output_tokens_details.audio_tokens"),
    "image_completion_tokens": ("completion_tokens_details.image_tokens", "output_tokens_details.image_tokens"),
}  # fmt: skip
_BESIDE_PROMPT = ("cache_read_input_tokens", "cache_creation_input_tokens", "cacheReadInputTokens",
                  "cacheWriteInputTokens")  # fmt: skip
"""Counts that an API which says `input_tokens` or `inputTokens` leaves out of them: Anthropic's and Bedrock's."""
_EXCLUSIVE = ("input_tokens", "inputTokens")
_BESIDE_COMPLETION = "thoughtsTokenCount"
"""Gemini's count of reasoning, which `candidatesTokenCount` leaves out."""
_STEPS = {path: path_steps(path) for paths in _PARTS.values() for path in paths}


def usage_counts(usage: Any) -> dict[str, Any]:
    """Return counts by the name of their column, those that the object has; {} for an object of no known form.

    Values that are no whole numbers are returned as they are: who reads them refuses them by name.
    """
    if not isinstance(usage, dict):
        return {}
    prompt_name = next((name for name in _PROMPT if usage.get(name) is not None), "")
    completion_name = next((name for name in _COMPLETION if usage.get(name) is not None), "")
    if not prompt_name and not completion_name:
        return {}
    prompt, completion = _count(usage.get(prompt_name)), _count(usage.get(completion_name))
    total = whole_number(next((usage[name] for name in _TOTAL if usage.get(name) is not None), None))
    counts: dict[str, Any] = {}
    for column, paths in _PARTS.items():
        value = next((value for path in paths if (value := value_at(usage, _STEPS[path])) is not None), None)
        if value is not None:
            counts[column] = whole_number(value)
    beside = _sum(usage, _BESIDE_PROMPT)
    thoughts = _sum(usage, (_BESIDE_COMPLETION,))
    if thoughts and isinstance(completion, int | None):
        completion = (completion or 0) + thoughts
    if isinstance(prompt, int) and isinstance(total, int) and completion is None:
        completion = total - prompt  # Embeddings: the total is the prompt.
    if beside and isinstance(prompt, int) and _excludes(prompt_name, prompt, completion, total, beside):
        prompt += beside
    if prompt is not None:
        counts["prompt_tokens"] = prompt
    if completion is not None:
        counts["completion_tokens"] = completion
    return counts


def whole_number(value: Any) -> Any:
    """Return a whole number as an integer, also one that came as a text or a double; any other value unchanged."""
    number = number_of(value)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if isinstance(number, int) else value


def _count(value: Any) -> Any:
    """Return a count; of an object of counts, its `total`."""
    return whole_number(value.get("total") if isinstance(value, dict) else value)


def _excludes(name: str, prompt: int, completion: Any, total: Any, beside: int) -> bool:
    """Return whether the prompt's count leaves out what was read from a cache or written to it."""
    if isinstance(total, int) and isinstance(completion, int):
        if prompt + completion == total:
            return False
        if prompt + beside + completion == total:
            return True
    return name in _EXCLUSIVE


def _sum(usage: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return sum(n for name in names if isinstance(n := whole_number(usage.get(name)), int) and n > 0)
