"""Checks that rows of several tables share: their scope, their validity and their numbers."""

from __future__ import annotations

from contracts.errors import BadInput
from contracts.topics import check_name

ANY = "*"
"""Scope of a row that applies where no row names the cluster, model or hardware."""
END_MS = 7_258_118_400_000
"""2200-01-01T00:00:00Z: valid until further notice."""
_MAX_U32 = 2**32 - 1


def check_scope(field: str, value: str) -> None:
    """Raise BadInput for a name that is neither possible nor ANY."""
    if value != ANY:
        check_name(field, value)


def check_validity(from_ms: int, to_ms: int) -> None:
    """Raise BadInput for a validity that is empty or ends after END_MS."""
    if not 0 <= from_ms < to_ms <= END_MS:
        raise BadInput("valid_to_ms", to_ms, f"validity is [from, to), here from {from_ms}, up to {END_MS}")


def check_u32(field: str, value: int, *, least: int = 0, limit: int = _MAX_U32) -> None:
    """Raise BadInput for a number that is below `least` or above `limit`, by default the greatest of 32 bits."""
    if not least <= value <= limit:
        raise BadInput(field, value, f"give {least} to {limit}")
