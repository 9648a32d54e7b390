"""`Authenticator`: the caller of a bearer credential, an API key or a JWT. The API and the receivers share it."""

from __future__ import annotations

from access.api_keys import PREFIX
from access.keys_file import KeysFile
from access.oidc import OidcVerifier, unverified_issuer
from contracts.bearer_tokens import TokenVerifier
from contracts.callers import ANYBODY, Caller
from contracts.errors import AccessDenied
from contracts.settings import Settings

MAX_TOKEN_CHARS = 16_384


class Authenticator:
    """Verifies credentials by what the settings name: a key for JWTs, a provider of them, and a file of API keys.

    `jwt_key` is the key for JWTs, and `setting` its name in errors. Raises BadSetting for what cannot be used.
    """

    def __init__(self, settings: Settings, jwt_key: str | None, setting: str) -> None:
        self._tokens = TokenVerifier(jwt_key, setting)
        self._keys = KeysFile(settings.keys_file) if settings.keys_file is not None else None
        self._oidc = OidcVerifier(settings) if settings.oidc_issuer else None

    @property
    def open(self) -> bool:
        """True if nothing verifies callers: then every caller is let in, so the listener must be on loopback."""
        return self._tokens.open and self._keys is None and self._oidc is None

    @property
    def fetches(self) -> bool:
        """True if `caller` may wait for a provider's answer, some seconds at most."""
        return self._oidc is not None

    def caller(self, token: str | None) -> Caller:
        """Return the caller of a credential.

        Raises AccessDenied: 401 for none or one that is not valid, 403 for one that grants nothing; Unavailable where
        a provider does not answer.
        """
        if self.open:
            return ANYBODY
        if token and len(token) > MAX_TOKEN_CHARS:
            raise AccessDenied(401, f"The bearer token has more than {MAX_TOKEN_CHARS} characters.")
        if token and token.startswith(PREFIX) and self._keys is not None:
            return self._keys.caller(token)
        if token and self._oidc is not None and unverified_issuer(token) == self._oidc.issuer:
            return self._oidc.caller(token)
        return self._tokens.caller(token)
