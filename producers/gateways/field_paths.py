"""Paths to the values of a JSON object: `usage.prompt_tokens`, `choices[0].index`, or keys that hold dots themselves.

A path is tried as one key first, then as shorter keys, so that `gen_ai.usage.input_tokens` is read where a gateway
writes one flat key, and where it nests objects.
"""

from __future__ import annotations

import re
from typing import Any

PathSteps = tuple[str, ...]
_INDEX = re.compile(r"\[(\d{1,6})\]")


def path_steps(path: str) -> PathSteps:
    """Return the steps of a path. An index of an array is `[0]`, or `0` between dots."""
    return tuple(_INDEX.sub(r".\1", path).removeprefix("$.").split("."))


def value_at(value: Any, steps: PathSteps) -> Any:
    """Return the value at a path, or None if there is none. Of several keys that fit, the longest wins."""
    if not steps:
        return value
    if isinstance(value, dict):
        for length in range(len(steps), 0, -1):
            inner = value.get(".".join(steps[:length]))
            if inner is not None and (inner := value_at(inner, steps[length:])) is not None:
                return inner
        return None
    if isinstance(value, list) and steps[0].isdecimal() and int(steps[0]) < len(value):
        return value_at(value[int(steps[0])], steps[1:])
    return None
