"""Number of hypothesis examples of costly properties."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> int:
    """Return `count` with `--exhaustive`, otherwise the share of it for `make test` (tests/conftest.py)."""
    return max(3, count * settings().max_examples // 100)
