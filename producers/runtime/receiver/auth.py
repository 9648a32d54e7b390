"""Authentication of senders."""

from __future__ import annotations

from collections.abc import Mapping

from contracts import bearer_tokens
from contracts.callers import ANYBODY, Caller, Scope
from contracts.errors import BadSetting


class Verifier:
    """Verifier of bearer tokens. Without a key, every client may name tenants (loopback only).

    Raises BadSetting for a key that cannot be used. `setting` names it in errors.
    """

    def __init__(self, key: str | None, setting: str = "produce.http.jwt_key") -> None:
        self._tokens = bearer_tokens.TokenVerifier(key, setting)

    @property
    def open(self) -> bool:
        return self._tokens.open

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the sender of a request with these headers, whose names are in small letters.

        Raises AccessDenied: 401 for no token or a bad one, 403 for one that may not send.
        """
        if self.open:
            return ANYBODY
        scheme, _, token = headers.get("authorization", "").partition(" ")
        caller = self._tokens.caller(token.strip() if scheme.lower() == "bearer" else None)
        caller.require(Scope.SEND_USAGE, Scope.SEND_REQUESTS)
        return caller


def check_exposure(host: str, verifier: Verifier) -> None:
    """Raise BadSetting where a client on the network could send without a token."""
    if verifier.open and not bearer_tokens.is_loopback(host):
        raise BadSetting("produce.http.host", host, "without jwt_key it listens on loopback only: 127.0.0.1")
