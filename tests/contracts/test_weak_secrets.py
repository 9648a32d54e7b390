"""Secrets that examples published or that anybody guesses are refused at the start, without being shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.bearer_tokens import TokenVerifier
from contracts.errors import BadSetting
from contracts.settings import Settings
from contracts.weak_secrets import PUBLISHED, is_guessable


@pytest.mark.parametrize(
    "secret",
    [
        "change-me-change-me-change-me-change-me", "for-this-machine-only-for-this-machine-only", "a" * 64, "ab" * 32,
        "0123456789" * 4, "CHANGE_ME_CHANGE_ME_PLEASE_CHANGE_ME_1234", "my-password-my-password-2026-my-password",
        "replace this by a secret of 32 bytes!", "k" * 31 + "z", "  " + "x" * 40 + "  ",
    ],
)  # fmt: skip
def test_a_signing_key_that_is_guessed_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(BadSetting) as refused:
        TokenVerifier(secret, "api_jwt_key")
    assert secret.strip() not in str(refused.value)
    assert "openssl rand" in str(refused.value)


@given(st.binary(min_size=32, max_size=32).filter(lambda random: len(set(random)) > 20))
def test_random_keys_are_taken(random: bytes) -> None:
    assert not is_guessable(random.hex())


@pytest.mark.parametrize("name", ["warehouse_password", "kafka_password"])
@pytest.mark.parametrize("secret", PUBLISHED)
def test_a_password_of_the_examples_is_refused(name: str, secret: str) -> None:
    with pytest.raises(ValidationError, match="example"):
        Settings(**{name: secret})  # type: ignore[arg-type]
