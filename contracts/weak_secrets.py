"""Secrets that anybody can guess: those of this project's examples, placeholders, and short texts repeated. Pure."""

from __future__ import annotations

PUBLISHED = (
    "change-me", "change-me-change-me-change-me-change-me", "for-this-machine-only",
    "for-this-machine-only-for-this-machine-only",
)  # fmt: skip
"""Values of docker-compose.yml and .env.example, now or in earlier versions."""
_PLACEHOLDERS = (
    "changeme", "changethis", "replaceme", "replacethis", "forthismachineonly", "yoursecret", "yourkey", "insertkey",
    "insertsecret", "password", "qwerty", "placeholder",
)  # fmt: skip
MIN_CHARACTERS = 8
"""Different characters that a signing key has at least: of 32 random hexadecimal digits, one in 10^8 has fewer."""
_LONGEST_REPEAT = 12


def is_published(secret: str) -> bool:
    """Return True for a secret of this project's own examples."""
    return secret.strip().lower() in PUBLISHED


def is_guessable(secret: str) -> bool:
    """Return True for a signing key that is published, a placeholder, or a short text repeated."""
    text = secret.strip().lower()
    plain = "".join(c for c in text if c.isalnum())
    return (
        is_published(secret)
        or len(set(text)) < MIN_CHARACTERS
        or any(word in plain for word in _PLACEHOLDERS)
        or any(_repeats(text, size) for size in range(1, _LONGEST_REPEAT + 1))
    )


def _repeats(text: str, size: int) -> bool:
    return (text[:size] * (len(text) // size + 1)).startswith(text)
