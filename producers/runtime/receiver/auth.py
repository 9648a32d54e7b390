"""Authentication of senders."""

from __future__ import annotations

from collections.abc import Mapping

from access.authenticator import Authenticator
from contracts.bearer_tokens import is_loopback
from contracts.callers import Caller, Scope
from contracts.errors import BadSetting
from contracts.settings import Settings


class Verifier:
    """Verifier of API keys and bearer tokens. Without a key, every client may name tenants (loopback only).

    `settings` may name a file of API keys. Raises BadSetting for a key that cannot be used; `setting` names it in
    errors.
    """

    def __init__(
        self, key: str | None, setting: str = "produce.http.jwt_key", settings: Settings | None = None
    ) -> None:
        self._authenticator = Authenticator(settings or Settings(), key, setting)

    @property
    def open(self) -> bool:
        return self._authenticator.open

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the sender of a request with these headers, whose names are in small letters.

        Raises AccessDenied: 401 for no credential or a bad one, 403 for one that may not send.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        caller = self._authenticator.caller(token.strip() if scheme.lower() == "bearer" else None)
        caller.require(Scope.SEND_USAGE, Scope.SEND_REQUESTS)
        return caller


def check_exposure(host: str, verifier: Verifier) -> None:
    """Raise BadSetting where a client on the network could send without a credential."""
    if verifier.open and not is_loopback(host):
        raise BadSetting(
            "produce.http.host", host, "without jwt_key or keys_file it listens on loopback only: 127.0.0.1"
        )
