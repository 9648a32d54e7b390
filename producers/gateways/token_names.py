"""Names of token counts, with their meaning: the keys of `usage` objects, and the words that names are made of. Pure.

Models' APIs, SDKs and instrumentations give the same counts hundreds of names. Those in `KEYS` are known. Any other is
read by its words (`output_tokens_details.reasoning`); one whose words are not known is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from contracts.events import MAX_TOKENS


class Inclusion(Enum):
    """Inclusion of a part in its total, by the convention of its name: of the cache's tokens in the prompt, of
    reasoning in the completion."""

    PART = True
    """Part of the whole."""
    BESIDE = False
    """Beside it."""
    PROVIDER = None
    """As the provider counts: the cache is beside the prompt at Anthropic and Bedrock, part of it elsewhere. A total
    with this relation is the plain sum of prompt and completion, so that it does not decide."""


class TokenName(NamedTuple):
    """A name, the column that it fills ("" for none), and for a part its relation to the whole."""

    name: str
    column: str
    inclusion: Inclusion = Inclusion.PART


def names(column: str, *of_column: str, inclusion: Inclusion = Inclusion.PART) -> list[TokenName]:
    """Return rows of a table of names."""
    return [TokenName(name, column, inclusion) for name in of_column]


KEYS: tuple[TokenName, ...] = (
    *names(
        "prompt_tokens",
        "prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens.total", "inputTokens", "promptTokens",
        "prompt_eval_count", "input",
    ),
    *names(
        "completion_tokens",
        "completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens.total", "outputTokens",
        "completionTokens", "eval_count", "output",
    ),
    *names("total_tokens", "total_tokens", "totalTokenCount", "totalTokens", "total"),
    *names("uncached_tokens", "inputTokens.noCache"),
    *names(
        "cached_tokens",
        "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens", "cached_tokens",
        "prompt_cache_hit_tokens", "cachedContentTokenCount", "cachedInputTokens", "inputTokens.cacheRead",
        "input_cached_tokens", "input_cache_read",
    ),
    *names("cached_tokens", "cache_read_input_tokens", "cacheReadInputTokens", inclusion=Inclusion.PROVIDER),
    *names(
        "cache_write_tokens",
        "prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens",
        "prompt_tokens_details.cache_creation_tokens", "inputTokens.cacheWrite", "input_cache_creation",
    ),
    *names("cache_write_tokens", "cache_creation_input_tokens", "cacheWriteInputTokens", inclusion=Inclusion.PROVIDER),
    *names(
        "reasoning_tokens",
        "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens",
        "output_reasoning_tokens", "reasoningTokens", "outputTokens.reasoning",
    ),
    *names("reasoning_tokens", "thoughtsTokenCount", inclusion=Inclusion.BESIDE),
    *names("audio_prompt_tokens", "prompt_tokens_details.audio_tokens", "input_audio_tokens"),
    *names("image_prompt_tokens", "prompt_tokens_details.image_tokens"),
    *names("audio_completion_tokens", "completion_tokens_details.audio_tokens", "output_audio_tokens"),
    *names("image_completion_tokens", "completion_tokens_details.image_tokens"),
    *names("accepted_prediction_tokens", "completion_tokens_details.accepted_prediction_tokens"),
    *names("rejected_prediction_tokens", "completion_tokens_details.rejected_prediction_tokens"),
    *names("tool_prompt_tokens", "toolUsePromptTokenCount"),
)  # fmt: skip
"""Keys of a `usage` object, as models' APIs and SDKs write them; a dot leads into an object within. Of several keys of
a column the first with a value wins."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SYNONYMS = {
    "input": "prompt", "output": "completion", "candidates": "completion", "candidate": "completion",
    "generated": "completion", "cached": "cache", "creation": "write", "create": "write", "created": "write",
    "written": "write", "hit": "read", "hits": "read", "thinking": "reasoning", "thoughts": "reasoning",
    "images": "image",
}  # fmt: skip
_FILLERS = frozenset(
    {"token", "tokens", "count", "counts", "details", "detail", "usage", "content", "num", "number", "n"}
)
_PARTS = frozenset({"text", "video", "document", "ephemeral", "tool", "miss"})
"""Words of parts that no column holds."""
_MEANINGS: Mapping[frozenset[str], str] = {
    frozenset(words.split()): column
    for column, many in {
        "prompt_tokens": ("prompt",), "completion_tokens": ("completion",), "total_tokens": ("total",),
        "cached_tokens": ("cache", "cache read", "cache prompt", "cache read prompt"),
        "cache_write_tokens": ("cache write", "cache write prompt"),
        "uncached_tokens": ("uncached", "uncached prompt", "no cache", "no cache prompt", "cache miss prompt"),
        "reasoning_tokens": ("reasoning", "reasoning completion"),
        "audio_prompt_tokens": ("audio prompt",), "audio_completion_tokens": ("audio completion",),
        "image_prompt_tokens": ("image prompt",), "image_completion_tokens": ("image completion",),
        "accepted_prediction_tokens": ("accepted prediction", "accepted prediction completion"),
        "rejected_prediction_tokens": ("rejected prediction", "rejected prediction completion"),
        "tool_prompt_tokens": ("tool use prompt",),
    }.items()
    for words in many
}  # fmt: skip
MAX_NAME_CHARS = 128


@lru_cache(maxsize=4_096)
def name_by_words(name: str) -> TokenName | None:
    """Return the meaning of a name by its words: `column` is "" for a part that no column holds. None if unknown.

    Tokens of a cache under details of the prompt, or in the dotted form of OpenTelemetry, are part of it; others are as
    the provider counts. Thoughts are Gemini's, beside the completion.
    """
    if len(name) > MAX_NAME_CHARS:
        return None
    words = [word.lower() for word in _WORDS.findall(name)]
    kinds = frozenset(_SYNONYMS.get(word, word) for word in words) - _FILLERS
    column = _MEANINGS.get(kinds)
    if column is None:
        is_part = bool(kinds & _PARTS) or {"cache", "audio"} <= kinds or {"cache", "image"} <= kinds
        return TokenName(name, "") if is_part else None
    is_raw = column in ("cached_tokens", "cache_write_tokens") and "prompt" in kinds and "." not in name
    if "thoughts" in words and column == "reasoning_tokens":
        return TokenName(name, column, Inclusion.BESIDE)
    by_provider = is_raw and not {"details", "cached"} & set(words)
    return TokenName(name, column, Inclusion.PROVIDER if by_provider else Inclusion.PART)


_COUNT = re.compile(r"(?i)tokens?|token_?counts?")
_NO_COUNT = re.compile(
    r"(?i)max|min|limit|budget|cost|price|rate|per_|_per|second|duration|time|type|auth|access|bearer|secret|csrf|session"
    r"|refresh|api_?key|stop|remaining|window|context|estimate|tokeniz|logprob|top_k|_id$|\.id$"
)


@lru_cache(maxsize=4_096)
def looks_like_a_count(name: str) -> bool:
    """Return whether a name may be that of a count of tokens. Limits, rates, prices and credentials are none."""
    is_name = len(name) <= MAX_NAME_CHARS and name.isprintable()
    return is_name and _COUNT.search(name) is not None and _NO_COUNT.search(name) is None


_KNOWN = {row.name for row in KEYS}
MAX_DEPTH = 3


def flat_counts(values: object, prefix: str = "", depth: int = MAX_DEPTH) -> Iterator[tuple[str, object]]:
    """Yield the scalars of an object with their paths. A list of counts by modality (Gemini's) is an object too."""
    if isinstance(values, list):
        values = {
            str(one.get("modality", ""))[:16].lower(): one.get("tokenCount", one.get("token_count"))
            for one in values[:16] if isinstance(one, dict)
        }  # fmt: skip
    if not isinstance(values, dict) or depth == 0:
        return
    for key, value in list(values.items())[:64]:
        if not isinstance(key, str) or len(key) > MAX_NAME_CHARS:
            continue
        name = f"{prefix}{key}"
        if isinstance(value, dict | list):
            yield from flat_counts(value, f"{name}.", depth - 1)
        elif isinstance(value, int | float | str):
            yield name, value


def with_remainders(flat: Mapping[str, object]) -> Mapping[str, object]:
    """Return counts in Langfuse's form as sums: its `input` is what `input_cache_read`, `input_audio` and other parts
    leave of the prompt, its `output` likewise. The total may say that they are sums already."""
    counts = {name: number for name, value in flat.items() if (number := whole_number(value)) is not None}
    remainders = [name for name in ("input", "output") if name in counts]
    if not remainders or counts.get("total") == sum(counts[name] for name in remainders):
        return flat
    parts = {
        side: sum(n for name, n in counts.items() if n > 0 and name.startswith(f"{side}_") and "priority" not in name)
        for side in remainders
    }
    return {**flat, **{side: counts[side] + part for side, part in parts.items()}}


class CountReader:
    """Counts by column, as they are read name by name. `invalid` holds by column the first value that is no count.

    A negative number is no count; NaN, which JavaScript sends for an unknown one, is no value. `cache` and `reasoning`
    are the relations of these tokens to prompt and completion, `total_decides` is whether a total tells them.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.invalid: dict[str, object] = {}
        self.cache = self.reasoning = Inclusion.PART
        self.total_decides = True

    def read(self, rows: Iterable[TokenName], values: Mapping[str, object]) -> None:
        """Fill the columns that are open from the values of these names."""
        for row in rows:
            if row.name in values:
                self._fill(row, values[row.name])

    def read_object(self, values: object) -> None:
        """Fill the columns that are open from an object of counts: by known keys, then by the words of others."""
        flat = with_remainders(dict(flat_counts(values)))
        self.read(KEYS, flat)
        others = (name_by_words(name) for name in flat if name not in _KNOWN)
        self.read([row for row in others if row is not None and row.column], flat)

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
        if row.column == "total_tokens":
            self.total_decides = row.inclusion is Inclusion.PART
        elif row.inclusion is not Inclusion.PART and number:
            if row.column == "reasoning_tokens":
                self.reasoning = row.inclusion
            else:
                self.cache = row.inclusion


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
