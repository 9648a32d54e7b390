"""Attributes that carry token counts, by every convention that is read, with the meaning of each: one table.

README.md shows it too. Of several names of a column, the first with a value wins.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

import msgspec

from producers.gateways.otel.spans import AttributeValue
from producers.gateways.token_usage import Cache, CountReader, ReportedUsage, TokenName, names

ATTRIBUTES: tuple[TokenName, ...] = (
    *names(
        "prompt_tokens",
        "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt",
        "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", "gen_ai.response.prompt_tokens",
        "gen_ai.response.input_tokens", "gen_ai.aggregated_usage.input_tokens",
    ),
    *names(
        "completion_tokens",
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens",
        "llm.token_count.completion", "ai.usage.outputTokens", "ai.usage.completionTokens",
        "gen_ai.response.completion_tokens", "gen_ai.response.output_tokens", "gen_ai.aggregated_usage.output_tokens",
    ),
    *names(
        "total_tokens",
        "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total", "ai.usage.totalTokens",
        "gen_ai.response.total_tokens", "gen_ai.aggregated_usage.total_tokens",
    ),
    *names("uncached_tokens", "ai.usage.inputTokenDetails.noCacheTokens"),
    *names(
        "cached_tokens",
        "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cached_input_tokens", "gen_ai.usage.cached_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cached_tokens",
        "gen_ai.usage.details.cache_read_input_tokens", "llm.token_count.prompt_details.cache_read",
        "ai.usage.inputTokenDetails.cacheReadTokens", "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.prompt_tokens_details.cached_tokens", "gen_ai.response.cached_tokens",
        "gen_ai.response.cached_input_tokens", "gen_ai.aggregated_usage.cache_read.input_tokens",
        "gen_ai.aggregated_usage.details.cache_read_tokens",
    ),
    *names(
        "cached_tokens",
        "gen_ai.usage.cache_read_input_tokens", "llm.usage.cache_read_input_tokens", "ai.usage.cachedInputTokens",
        cache=Cache.PROVIDER,
    ),
    *names(
        "cache_write_tokens",
        "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_write_tokens", "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.details.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write", "ai.usage.inputTokenDetails.cacheWriteTokens",
        "gen_ai.usage.input_tokens.cache_write", "gen_ai.aggregated_usage.cache_creation.input_tokens",
        "gen_ai.aggregated_usage.details.cache_write_tokens",
    ),
    *names(
        "cache_write_tokens",
        "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens",
        "llm.usage.cache_creation_input_tokens",
        cache=Cache.PROVIDER,
    ),
    *names(
        "reasoning_tokens",
        "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.details.thinking_tokens",
        "gen_ai.usage.details.thoughts_tokens", "llm.token_count.completion_details.reasoning",
        "ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens",
        "gen_ai.usage.output_tokens.reasoning", "gen_ai.usage.completion_tokens_details.reasoning_tokens",
        "gen_ai.response.reasoning_tokens", "gen_ai.aggregated_usage.details.reasoning_tokens",
    ),
    *names(
        "audio_prompt_tokens", "gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio",
        "gen_ai.usage.details.input_audio_tokens",
    ),
    *names(
        "audio_completion_tokens", "gen_ai.usage.audio.output_tokens",
        "llm.token_count.completion_details.audio", "gen_ai.usage.details.output_audio_tokens",
    ),
    *names("image_prompt_tokens", "gen_ai.usage.image.input_tokens"),
    *names("image_completion_tokens", "gen_ai.usage.image.output_tokens"),
    *names("accepted_prediction_tokens", "gen_ai.usage.details.accepted_prediction_tokens"),
    *names("rejected_prediction_tokens", "gen_ai.usage.details.rejected_prediction_tokens"),
)  # fmt: skip
"""Attributes with a count. A number may come as a text, or as a double without a fraction."""

OBJECTS: tuple[str, ...] = (
    "langfuse.observation.usage_details", "metadata.usage_object", "mlflow.chat.tokenUsage",
)  # fmt: skip
"""Attributes whose text is an object of counts: JSON, or Python's form of it (LiteLLM's `metadata.usage_object`). They
fill what the attributes above leave open."""

MAX_OBJECT_CHARS = 8_192
"""Characters of such a text that is read; a longer one is no object of counts."""
NAMES = frozenset({*(row.name for row in ATTRIBUTES), *OBJECTS})
"""Every name above."""
CARRIERS = frozenset({
    *(row.name for row in ATTRIBUTES if row.column in ("prompt_tokens", "completion_tokens", "total_tokens")),
    *OBJECTS,
})  # fmt: skip
"""Names of which a span that carries token counts has one."""


def reported_usage(
    attributes: Mapping[str, AttributeValue], provider: str = "", model: str = ""
) -> tuple[ReportedUsage, dict[str, object]]:
    """Return the counts among a span's attributes, and by column the first value that is no count."""
    counts = CountReader()
    counts.read([row for row in ATTRIBUTES if row.name in attributes], attributes)
    for name in OBJECTS:
        if name in attributes:
            counts.read_object(_object(attributes[name]))
    return ReportedUsage(counts.counts, counts.cache.value, provider, model), counts.invalid


def _object(text: AttributeValue) -> Mapping[str, object]:
    """Return the object in a text, {} if there is none."""
    if not isinstance(text, str) or text[:1] != "{" or len(text) > MAX_OBJECT_CHARS:
        return {}
    try:
        value = msgspec.json.decode(text)
    except Exception:
        value = _literal(text)
    return value if isinstance(value, dict) else {}


def _literal(text: str) -> object:
    """Return the value of a text in Python's form; None if it is none."""
    try:
        return ast.literal_eval(text)
    except Exception:  # Of any class: SyntaxError, RecursionError, MemoryError.
        return None
