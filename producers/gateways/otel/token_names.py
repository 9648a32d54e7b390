"""Attributes that carry token counts, by every convention that is read, with the meaning of each: one table.

README.md shows it too. Of several names of a column, the first with a value wins. Names that are not in the table are
read by their words, where they begin as those of a convention do; others that look like a count are reported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

import msgspec

from producers.gateways.otel.spans import AttributeValue, map_names
from producers.gateways.token_names import CountReader, Inclusion, TokenName, looks_like_a_count, name_by_words, names
from producers.gateways.token_usage import ReportedUsage

ATTRIBUTES: tuple[TokenName, ...] = (
    *names(
        "prompt_tokens",
        "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt",
        "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", "gen_ai.response.prompt_tokens",
        "gen_ai.response.input_tokens", "gen_ai.aggregated_usage.input_tokens", "decision.token_count.input",
    ),
    *names(
        "completion_tokens",
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens",
        "llm.token_count.completion", "ai.usage.outputTokens", "ai.usage.completionTokens",
        "gen_ai.response.completion_tokens", "gen_ai.response.output_tokens", "gen_ai.aggregated_usage.output_tokens",
        "decision.token_count.output",
    ),
    *names(
        "total_tokens",
        "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total",
        "gen_ai.response.total_tokens", "gen_ai.aggregated_usage.total_tokens",
    ),
    *names("total_tokens", "ai.usage.totalTokens", inclusion=Inclusion.PROVIDER),
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
        inclusion=Inclusion.PROVIDER,
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
        inclusion=Inclusion.PROVIDER,
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

OBJECTS: Mapping[str, str] = {
    "langfuse.observation.usage_details": "", "metadata.usage_object": "", "mlflow.chat.tokenUsage": "",
    "langsmith.metadata.usage_metadata": "",
    "gen_ai.usage.input_token_details": "input_token_details.",
    "gen_ai.usage.output_token_details": "output_token_details.",
    "gen_ai.usage": "", "llm.usage": "", "llm.token_count": "",
}  # fmt: skip
"""Attributes whose text is an object of counts: JSON, or Python's form of it (LiteLLM's `metadata.usage_object`), with
what precedes its keys. They fill what the attributes above leave open."""
MAX_OBJECT_CHARS = 8_192
"""Characters of such a text that is read; a longer one is no object of counts."""
_PREFIX = re.compile(
    r"((gen_ai|llm|ai|openai|codex)\.usage|usage|gen_ai\.(response|aggregated_usage)|llm\.(token_count|token\.counts)"
    r"|decision\.token_count)\."
)
"""Beginnings of the names of token counts. Names without a dot have none (Claude Code's `input_tokens`)."""
_BY_NAME = {row.name: row for row in ATTRIBUTES}
MAPS = map_names({*_BY_NAME, *OBJECTS}) | {"openai.usage", "codex.usage", "usage", "llm.token.counts"}
"""Attributes that may be maps of counts."""
MAX_NAMES = 4
"""Names of unread counts that one remark gives."""


@lru_cache(maxsize=4_096)
def meaning_of(name: str) -> TokenName | None:
    """Return the meaning of an attribute: of the table, else by its words. None for one that is no known count."""
    if (row := _BY_NAME.get(name)) is not None:
        return row
    prefix = _PREFIX.match(name)
    if (prefix is None and "." in name) or not looks_like_a_count(name):
        return None
    row = name_by_words(name[prefix.end() :] if prefix else name)
    if row is None:
        return None
    is_bare_cache = prefix is None and row.column in ("cached_tokens", "cache_write_tokens")
    return row._replace(name=name, inclusion=Inclusion.PROVIDER if is_bare_cache else row.inclusion)


def may_be_a_count(name: str) -> bool:
    """Return whether an attribute may be a count of tokens, whether or not its meaning is known."""
    return name in _BY_NAME or looks_like_a_count(name)


def has_counts(attributes: Collection[str]) -> bool:
    """Return whether a span carries token counts: of a prompt, a completion or both.

    Names that begin as no convention's do must be both, because other programs count tokens too.
    """
    bare = set[str]()
    for name in attributes:
        row = meaning_of(name)
        if name in OBJECTS or (row is not None and row.column in _WHOLES and "." in name):
            return True
        if row is not None:
            bare.add(row.column)
    return {"prompt_tokens", "completion_tokens"} <= bare


_WHOLES = ("prompt_tokens", "completion_tokens", "total_tokens")


def unread_counts(attributes: Mapping[str, AttributeValue]) -> list[str]:
    """Return the names of attributes that look like counts of tokens, and of which nothing is read."""
    is_read = None
    names_of_counts = list[str]()
    for name, value in attributes.items():
        if name in OBJECTS or not isinstance(value, int | float) or isinstance(value, bool) or not value:
            continue
        if not looks_like_a_count(name):
            continue
        row = meaning_of(name)
        if row is not None and is_read is None:
            is_read = has_counts(attributes)
        if row is None or (not is_read and row.column in _WHOLES):
            names_of_counts.append(name)
    return names_of_counts


def reported_usage(
    attributes: Mapping[str, AttributeValue], provider: str = "", model: str = ""
) -> tuple[ReportedUsage, dict[str, object]]:
    """Return the counts among a span's attributes, and by column the first value that is no count."""
    reader = CountReader()
    reader.read([row for row in ATTRIBUTES if row.name in attributes], attributes)
    others = (meaning_of(name) for name in attributes if name not in _BY_NAME)
    reader.read([row for row in others if row is not None and row.column], attributes)
    for name, prefix in OBJECTS.items():
        if name in attributes:
            counts = _object(attributes[name])
            reader.read_object({f"{prefix}{key}": value for key, value in counts.items()} if prefix else counts)
    return ReportedUsage.of(reader, provider, model), reader.invalid


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
