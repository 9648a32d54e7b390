"""Checks that rows of several tables share: their scope, their validity and their numbers."""

from __future__ import annotations

from contracts.errors import BadInput
from contracts.settings import Settings
from contracts.topics import check_name
from contracts.units import rfc3339

ANY = "*"
"""Scope of a row that applies where no row names the cluster, model or hardware."""
END_MS = 7_258_118_400_000
"""2200-01-01T00:00:00Z: valid until further notice."""
WINDOW_MS: int = Settings.model_fields["window_ms"].default
"""Length of a window where no setting says another."""
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


def check_whole_windows(field: str, at_ms: int, window_ms: int) -> None:
    """Raise BadInput for a time inside a window, whose energy is one sum and cannot be divided between two rows."""
    if past_ms := at_ms % window_ms:
        before_ms = at_ms - past_ms
        raise BadInput(
            field, rfc3339(at_ms),
            f"a change is where a window of {window_ms} ms begins: give {rfc3339(before_ms)} or "
            f"{rfc3339(before_ms + window_ms)}",
        )  # fmt: skip
