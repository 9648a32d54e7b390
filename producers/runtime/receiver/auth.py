"""Authentication of senders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from access.audit_log import AuditLog
from access.authenticator import Authenticator
from contracts.bearer_tokens import is_loopback
from contracts.callers import Caller, Scope
from contracts.errors import AccessDenied, BadSetting
from contracts.settings import Settings


class Verifier:
    """Verifier of API keys and bearer tokens. Without a key, every client may name tenants (loopback only).

    `settings` may name a file of API keys and a provider of tokens; with them, refused senders are in the audit log.
    Raises BadSetting for a key that cannot be used; `setting` names it in
    errors.
    """

    def __init__(
        self, key: str | None, setting: str = "produce.http.jwt_key", settings: Settings | None = None
    ) -> None:
        self._authenticator = Authenticator(settings or Settings(), key, setting)
        self._audit_log = AuditLog(settings.audit_log_path) if settings is not None else None

    @property
    def open(self) -> bool:
        return self._authenticator.open

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the sender of a request with these headers, whose names are in small letters.

        Raises AccessDenied: 401 for no credential or a bad one, 403 for one that may not send.
        """
        return self._verified(headers, "")

    async def admitted(self, headers: Mapping[str, str], path: str) -> Caller:
        """Return what `caller` does, without blocking the event loop where a provider may have to be asked."""
        if self._authenticator.fetches:
            return await asyncio.to_thread(self._verified, headers, path)
        return self._verified(headers, path)

    def _verified(self, headers: Mapping[str, str], path: str) -> Caller:
        name = ""
        try:
            caller = self._bearer(headers)
            name = caller.name
            caller.require(Scope.SEND_USAGE, Scope.SEND_REQUESTS)
        except AccessDenied as error:
            if self._audit_log is not None:
                self._audit_log.deny(name, "send", path, status=error.status)
            raise
        return caller

    def _bearer(self, headers: Mapping[str, str]) -> Caller:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return self._authenticator.caller(token.strip() if scheme.lower() == "bearer" else None)


def check_exposure(host: str, verifier: Verifier) -> None:
    """Raise BadSetting where a client on the network could send without a credential."""
    if verifier.open and not is_loopback(host):
        raise BadSetting(
            "produce.http.host",
            host,
            "without jwt_key, oidc_issuer or keys_file it listens on loopback only: 127.0.0.1",
        )
