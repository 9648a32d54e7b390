"""Lines of an access log: those that are requests of a model, and those that are not. Pure.

A gateway also serves requests that are none: pages, health checks, other APIs. Their lines are skipped by reason and
counted, not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple

from contracts.errors import BadInput
from producers.gateways.field_paths import path_steps, value_at
from producers.gateways.request_fields import RequestFields, RequestReader, Settling, decode_object
from producers.runtime.batching import RequestRow

SENDER = "accesslog"
FILTERED, OTHER = "filter", "other"
"""Reasons of a line that is skipped: the filter `only`, and no model and no count of tokens."""
Patterns = Mapping[str, tuple[str, ...]]
"""Patterns of a field's value by the field's path. Patterns may hold `*` and `?`."""


class LineRules(NamedTuple):
    """Rules for reading lines.

    `only` names the lines that count, `never` those that do not. `cache_as_provider`: cached tokens are
    counted as the provider counts them. With `zero_is_unknown`, a gateway writes 0 where it
    does not know a count.
    """

    fields: RequestFields
    only: Patterns = MappingProxyType({})
    never: Patterns = MappingProxyType({})
    zero_is_unknown: bool = False
    cache_as_provider: bool = False


class LineReader:
    """Reads lines by their rules. `otherwise` pays for a line that names no tenant; "" refuses it."""

    def __init__(self, rules: LineRules, otherwise: str = "") -> None:
        self._reader = RequestReader(rules.fields, otherwise, Settling(rules.cache_as_provider))
        self._only = [(path_steps(path), patterns) for path, patterns in rules.only.items()]
        self._never = [(path_steps(path), patterns) for path, patterns in rules.never.items()]
        self._zero_is_unknown = rules.zero_is_unknown

    def drain_corrected(self) -> Mapping[str, int]:
        """Return the corrections since the last call, by reason."""
        corrected = dict(self._reader.corrected)
        self._reader.corrected.clear()
        return corrected

    def read(self, line: bytes, default_id: str) -> RequestRow | str:
        """Return the request of a line, or the reason why it is none. Raises BadInput like `RequestReader.read`."""
        payload = decode_object(line)
        if any(not _matches(payload, *rule) for rule in self._only):
            return FILTERED
        if any(_matches(payload, *rule) for rule in self._never):
            return OTHER
        if not self._reader.has_model(payload) and not self._reader.has_counts(payload):
            return OTHER
        row = self._reader.row(payload, default_id)._replace(sender=SENDER)
        if self._zero_is_unknown and row.status == "ok" and not row.prompt_tokens and not row.completion_tokens:
            raise BadInput("prompt_tokens", 0, "it stands for unknown: let the server tell its usage to the gateway")
        return row


def _matches(payload: dict[str, Any], steps: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Return whether the value at a path is a text, number or boolean that fits one of the patterns."""
    value = value_at(payload, steps)
    if value is None or isinstance(value, dict | list):
        return False
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return any(fnmatchcase(text, pattern) for pattern in patterns)
