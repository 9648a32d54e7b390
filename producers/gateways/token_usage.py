"""Token counts of one call as its sender reports them, and what they mean: which are parts of which. Pure.

Senders disagree on one question: are tokens read from a cache part of the prompt (OpenAI, OpenTelemetry), or beside it
(Anthropic, Bedrock)? `settle` decides it: by the total where there is one, else by the provider and the name's
convention. The result is always Wattlog's own form: prompt = computed + cached + written to the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from contracts.events import MAX_TOKENS

CLAMPED_CACHE, CLAMPED_PART, TOTAL_ONLY = "cached_above_prompt", "part_above_whole", "total_as_prompt"
"""Corrections: words that `/metrics` counts them by."""
PROMPT_PARTS = ("audio_prompt_tokens", "image_prompt_tokens")
COMPLETION_PARTS = (
    "reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens", "audio_completion_tokens",
    "image_completion_tokens",
)  # fmt: skip
_BESIDE = re.compile(r"(?i)(^|[./_-])(anthropic|claude|aws[._-]?bedrock|bedrock)")
"""Providers, and models of theirs, whose own counts leave the tokens of the cache out of the prompt."""


class Cache(Enum):
    """Relation of the cache's tokens to the prompt, by the convention of a name."""

    PART = True
    """Part of the prompt."""
    BESIDE = False
    """Beside the prompt."""
    PROVIDER = None
    """As the provider counts: beside it at Anthropic and Bedrock, part of it elsewhere."""


class TokenName(NamedTuple):
    """A name, the column that it fills, and for tokens of a cache their relation to the prompt."""

    name: str
    column: str
    cache: Cache = Cache.PART


def names(column: str, *of_column: str, cache: Cache = Cache.PART) -> list[TokenName]:
    """Return rows of a table of names."""
    return [TokenName(name, column, cache) for name in of_column]


KEYS: tuple[TokenName, ...] = (
    *names("prompt_tokens", "prompt_tokens", "input_tokens", "input"),
    *names("completion_tokens", "completion_tokens", "output_tokens", "output"),
    *names("total_tokens", "total_tokens", "total"),
    *names(
        "cached_tokens", "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens", "cached_tokens"
    ),
    *names("cached_tokens", "cache_read_input_tokens", cache=Cache.PROVIDER),
    *names("cached_tokens", "input_cached_tokens", "input_cache_read", cache=Cache.BESIDE),
    *names("cache_write_tokens", "cache_creation_input_tokens", cache=Cache.PROVIDER),
    *names("cache_write_tokens", "input_cache_creation", cache=Cache.BESIDE),
    *names(
        "reasoning_tokens",
        "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens",
        "output_reasoning_tokens",
    ),
    *names("audio_prompt_tokens", "prompt_tokens_details.audio_tokens", "input_audio_tokens"),
    *names("image_prompt_tokens", "prompt_tokens_details.image_tokens"),
    *names("audio_completion_tokens", "completion_tokens_details.audio_tokens", "output_audio_tokens"),
    *names("image_completion_tokens", "completion_tokens_details.image_tokens"),
    *names("accepted_prediction_tokens", "completion_tokens_details.accepted_prediction_tokens"),
    *names("rejected_prediction_tokens", "completion_tokens_details.rejected_prediction_tokens"),
)  # fmt: skip
"""Keys of such an object; a dot leads into an object within."""


class CountReader:
    """Counts by column, as they are read name by name. `invalid` holds by column the first value that is no count.

    A negative number is no count; NaN, which JavaScript sends for an unknown one, is no value. `cache` is the relation
    of the cache's tokens to the prompt.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.invalid: dict[str, object] = {}
        self.cache = Cache.PART

    def read(self, rows: Iterable[TokenName], values: Mapping[str, object]) -> None:
        """Fill the columns that are open from the values of these names."""
        for row in rows:
            if row.name in values:
                self._fill(row, values[row.name])

    def read_object(self, values: object) -> None:
        """Fill the columns that are open from an object of counts."""
        if not isinstance(values, dict):
            return
        for row, (first, *inner) in _STEPS:
            if first in values:
                value = values[first]
                for key in inner:
                    value = value.get(key) if isinstance(value, dict) else None
                if isinstance(value, int | float | str):
                    self._fill(row, value)

    def _fill(self, row: TokenName, value: object) -> None:
        if value is None or value == "" or value != value or row.column in self.counts:
            return
        number = whole_number(value)
        if number is None or not 0 <= number <= MAX_TOKENS:
            # The text of a count may be any text: it is not shown.
            description = f"({len(value)} characters)" if isinstance(value, str) else value
            self.invalid.setdefault(row.column, description)
            return
        self.counts[row.column] = number
        self.invalid.pop(row.column, None)
        if row.cache is not Cache.PART and number:
            self.cache = row.cache


_STEPS = [(row, row.name.split(".")) for row in KEYS]


class ReportedUsage(NamedTuple):
    """Counts of one call by kind; a kind that the sender does not report is missing.

    Kinds are the columns of requests, with `total_tokens` and `uncached_tokens` (the prompt without its cache).
    `part_of_prompt` is whether the cache's tokens are in the prompt by the convention of their name; None if the name
    is the provider's own. `provider` and `model` decide then.
    """

    counts: Mapping[str, int]
    part_of_prompt: bool | None = True
    provider: str = ""
    model: str = ""


class SettledUsage(NamedTuple):
    """Counts by column: prompt, cached and completion always, others where reported. `corrections` name changes."""

    counts: dict[str, int]
    corrections: tuple[str, ...] = ()


def whole_number(value: object) -> int | None:
    """Return an integer, a double without a fraction, or a text of either as an integer; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.0{0,18})?", text):
            return None
        return int(text.partition(".")[0])
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    return value if isinstance(value, int) else None


def settle(usage: ReportedUsage) -> SettledUsage:
    """Return the counts of a call in Wattlog's form. Each count is 0 to `MAX_TOKENS` before and after."""
    counts, corrections = dict(usage.counts), list[str]()
    total, uncached = counts.pop("total_tokens", None), counts.pop("uncached_tokens", None)
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
    beside = _beside_by_arithmetic(prompt, completion, reasoning, cached, written, total, uncached)
    if beside is None:
        beside = _beside_by_convention(usage, prompt, cached)
    if beside:
        prompt = counts["prompt_tokens"] = min(prompt + cached + written, MAX_TOKENS)
    if total is not None and 0 < reasoning == total - prompt - completion:
        completion = counts["completion_tokens"] = completion + reasoning  # Gemini's own count leaves thoughts out.
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
