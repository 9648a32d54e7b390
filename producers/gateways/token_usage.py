"""Token counts of one call as its sender reports them, and what they mean: which are parts of which. Pure.

Senders disagree on one question: are tokens read from a cache part of the prompt (OpenAI, OpenTelemetry), or beside it
(Anthropic, Bedrock)? `settle` decides it: by the total where there is one, else by the provider and the name's
convention. The result is always Wattlog's own form: prompt = computed + cached + written to the cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.events import MAX_TOKENS, TOKEN_COLUMNS
from producers.gateways.token_names import CountReader, Inclusion

CLAMPED_CACHE, CLAMPED_PART, TOTAL_ONLY, TOTAL_DIFFERS = (
    "cached_above_prompt", "part_above_whole", "total_as_prompt", "total_differs",
)  # fmt: skip
"""Corrections: words that `/metrics` counts them by."""
PROMPT_PARTS = ("audio_prompt_tokens", "image_prompt_tokens")
COMPLETION_PARTS = (
    "reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens", "audio_completion_tokens",
    "image_completion_tokens",
)  # fmt: skip
_BESIDE = re.compile(r"(?i)(^|[./_-])(anthropic|claude|aws[._-]?bedrock|bedrock)")
"""Providers, and models of theirs, whose own counts leave the tokens of the cache out of the prompt."""


class ReportedUsage(NamedTuple):
    """Counts of one call by kind; a kind that the sender does not report is missing.

    Kinds are the columns of requests, with `total_tokens`, `uncached_tokens` (the prompt without its cache) and
    `tool_prompt_tokens` (Gemini's, beside the prompt). `part_of_prompt` is whether the cache's tokens are in the prompt
    by the convention of their name; None if the name is the provider's own. `provider` and `model` decide then.
    `reasoning_beside`: reasoning is not in the completion by the convention of its name. `total_decides` is False for
    a total that its sender summed up.
    """

    counts: Mapping[str, int]
    part_of_prompt: bool | None = True
    provider: str = ""
    model: str = ""
    reasoning_beside: bool = False
    total_decides: bool = True

    @classmethod
    def of(cls, reader: CountReader, provider: str = "", model: str = "") -> ReportedUsage:
        """Return what a reader has read."""
        return cls(
            reader.counts, reader.cache.value, provider, model, reader.reasoning is Inclusion.BESIDE,
            reader.total_decides,
        )  # fmt: skip


class SettledUsage(NamedTuple):
    """Counts by column: prompt, cached and completion always, others where reported. `corrections` name changes."""

    counts: dict[str, int]
    corrections: tuple[str, ...] = ()


def settle(usage: ReportedUsage) -> SettledUsage:
    """Return the counts of a call in Wattlog's form. Each count is 0 to `MAX_TOKENS` before and after."""
    counts, corrections = dict(usage.counts), list[str]()
    total, uncached = counts.pop("total_tokens", None), counts.pop("uncached_tokens", None)
    tools = counts.pop("tool_prompt_tokens", 0)
    cached, written = counts.get("cached_tokens", 0), counts.get("cache_write_tokens", 0)
    if total and uncached is None and not {"prompt_tokens", "completion_tokens"} & counts.keys():
        corrections.append(TOTAL_ONLY)
    if "prompt_tokens" not in counts:
        counts["prompt_tokens"] = _prompt_of(counts, total, uncached)
    if "completion_tokens" not in counts:
        counts["completion_tokens"] = _completion_of(counts, total)
    prompt, completion, reasoning = (
        counts["prompt_tokens"], counts["completion_tokens"], counts.get("reasoning_tokens", 0)
    )  # fmt: skip
    plain_sums = {prompt + completion, prompt + completion + reasoning}
    if tools and total not in plain_sums:
        prompt = min(prompt + tools, MAX_TOKENS)
    beside = _beside_by_arithmetic(
        prompt, completion, reasoning, cached, written, total if usage.total_decides else None, uncached
    )
    if beside is None:
        beside = _beside_by_convention(usage, prompt, cached)
    if beside:
        prompt = min(prompt + cached + written, MAX_TOKENS)
    if reasoning and _is_reasoning_beside(usage, reasoning, completion, total, prompt):
        completion = min(completion + reasoning, MAX_TOKENS)
    counts["prompt_tokens"], counts["completion_tokens"] = prompt, completion
    if total and total not in plain_sums | {prompt + completion}:
        corrections.append(TOTAL_DIFFERS)
    if cached > prompt:
        counts["cached_tokens"] = cached = prompt
        corrections.append(CLAMPED_CACHE)
    if written > prompt - cached:
        counts["cache_write_tokens"] = prompt - cached
        corrections.append(CLAMPED_CACHE)
    for parts, limit in ((PROMPT_PARTS, prompt), (COMPLETION_PARTS, completion)):
        for name in parts:
            if counts.get(name, 0) > limit:
                counts[name] = limit
                corrections.append(CLAMPED_PART)
    counts.setdefault("cached_tokens", 0)
    return SettledUsage(counts, tuple(dict.fromkeys(corrections)))


def _is_reasoning_beside(usage: ReportedUsage, reasoning: int, completion: int, total: int | None, prompt: int) -> bool:
    """Return whether reasoning is beside the completion: by the total, else because it is more, or by its name."""
    if total is not None and total - prompt in (completion, completion + reasoning):
        return total - prompt == completion + reasoning
    return usage.reasoning_beside or reasoning > completion


def _prompt_of(counts: Mapping[str, int], total: int | None, uncached: int | None) -> int:
    """Return the prompt of a call that does not report it: from its parts, or from the total."""
    if uncached is not None:
        return min(uncached + counts.get("cached_tokens", 0) + counts.get("cache_write_tokens", 0), MAX_TOKENS)
    return max(0, total - counts.get("completion_tokens", 0)) if total is not None else 0


def _completion_of(counts: Mapping[str, int], total: int | None) -> int:
    """Return the completion of a call that does not report it, from the total."""
    return max(0, total - counts["prompt_tokens"]) if total is not None else 0


def _beside_by_arithmetic(
    prompt: int, completion: int, reasoning: int, cached: int, written: int, total: int | None, uncached: int | None
) -> bool | None:
    """Return whether the cache's tokens are beside the prompt, as the sums say; None if they do not say."""
    cache = cached + written
    if not cache:
        return False
    if uncached is not None and prompt in (uncached, uncached + cache):
        return prompt == uncached
    if total is None:
        return None
    for difference in (total - completion, total - completion - reasoning):
        if difference == prompt and cached <= prompt:
            return False
        if difference in (prompt + cache, prompt + cached):
            return True
    return None


def _beside_by_convention(usage: ReportedUsage, prompt: int, cached: int) -> bool:
    """Return whether the cache's tokens are beside the prompt, by provider and convention.

    A name that says that they are part of it is believed unless they are more and the provider is known to leave them
    out: several instrumentations pass such a provider's counts on as they are.
    """
    # An OpenAI-compatible gateway counts as OpenAI does, whatever the model. Vertex passes on its makers' counts.
    name = usage.model if not usage.provider or "vertex" in usage.provider.lower() else usage.provider
    # Only makers that leave the cache out of the prompt count what is written to it.
    leaves_out = bool(_BESIDE.search(name)) or (cached > prompt and usage.counts.get("cache_write_tokens", 0) > 0)
    return (leaves_out and (usage.part_of_prompt is None or cached > prompt)) or usage.part_of_prompt is False


_ANTHROPIC = frozenset({"input_tokens", "inputTokens"})
_ANTHROPIC_CACHE = frozenset({
    "cache_read_input_tokens", "cache_creation_input_tokens", "cacheReadInputTokens", "cacheWriteInputTokens",
})  # fmt: skip


def own_form(usage: ReportedUsage, values: object) -> ReportedUsage:
    """Return counts of a model API's own `usage` object with the convention of its form, where a name leaves that open.
    In that of Anthropic's and Bedrock's APIs the cache is beside the prompt, at any provider."""
    if usage.part_of_prompt is not None or not isinstance(values, dict):
        return usage
    is_own = not _ANTHROPIC.isdisjoint(values) and not _ANTHROPIC_CACHE.isdisjoint(values)
    return usage._replace(part_of_prompt=not is_own)


def usage_of_object(values: object) -> tuple[CountReader, SettledUsage] | None:
    """Return the counts of a model API's own `usage` object: OpenAI's two, Anthropic's, Gemini's, Bedrock's, Ollama's,
    those of SDKs. None for an object of no known form."""
    reader = CountReader()
    reader.read_object(values)
    if not {"prompt_tokens", "completion_tokens"} & {*reader.counts, *reader.invalid}:
        return None
    return reader, settle(own_form(ReportedUsage.of(reader), values))


def check_parts(counts: Mapping[str, int], settled: SettledUsage) -> None:
    """Raise BadInput that names a part which is more than its whole."""
    for column in TOKEN_COLUMNS:
        limit = settled.counts.get(column.part_of or "", MAX_TOKENS)
        if counts.get(column.name, 0) > limit:
            raise BadInput(column.name, counts[column.name], f"is a part of {column.part_of}, which are {limit}")
