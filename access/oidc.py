"""JWTs of an OpenID Connect provider: issuer and audience are fixed, and keys come from the provider's JWKS.

The algorithm is that of the provider's key (RS256 or ES256), never the token's choice. Of a token's header only `kid`
is read, and it is only compared. Keys are fetched by PyJWT's client, which follows no redirect.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from contracts.bearer_tokens import CLOCK_LEEWAY_S, is_loopback
from contracts.callers import Caller, Scope
from contracts.claims import ClaimNames, caller_of
from contracts.errors import AccessDenied, BadSetting, Unavailable
from contracts.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_S = 3.0
"""Longest wait for an answer of the provider."""
REFRESH_S = 600.0
"""Age at which keys are fetched again: for so long a key that the provider withdrew is still accepted."""
REFETCH_S = 30.0
"""Least time between two fetches, however many unknown keys tokens name."""
STALE_S = 86_400.0
"""How long keys are used while the provider does not answer."""
MAX_KEYS = 100
_MAX_KID_CHARS = 256
_REQUIRED = ("exp", "iat", "iss", "aud", "sub")


class ProviderKeys:
    """Keys of a provider, by `kid`. `jwks` is their address; empty: the one that the issuer's discovery names."""

    def __init__(self, issuer: str, jwks: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._issuer, self._jwks, self._monotonic_s = issuer, jwks, monotonic_s
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._fetched_s: float | None = None
        self._next_fetch_s = self._due_s = monotonic_s()

    def key(self, kid: str) -> Any:
        """Return the key (jwt.PyJWK) of this name.

        Raises AccessDenied (401) for a name that the provider does not have, Unavailable where its keys are unknown.
        """
        now_s = self._monotonic_s()
        if kid not in self._keys or now_s >= self._due_s:
            self._fetch(now_s)
        if self._fetched_s is None or now_s - self._fetched_s > STALE_S:
            raise Unavailable("the keys of the identity provider are not known", "Send this again in half a minute.")
        key = self._keys.get(kid)
        if key is None:
            raise AccessDenied(401, "The bearer token cannot be verified: the provider has no such key.")
        return key

    def _fetch(self, now_s: float) -> None:
        """Fetch the keys, unless they were a moment ago. One thread does; others wait only while there are no keys."""
        if now_s < self._next_fetch_s or not self._lock.acquire(timeout=-1 if self._fetched_s is None else 0):
            return
        try:
            if now_s < self._next_fetch_s:
                return
            self._next_fetch_s = now_s + REFETCH_S
            self._keys = self._download()
            self._fetched_s, self._due_s = now_s, now_s + REFRESH_S
        except Exception as error:  # Of any class: the provider may answer anything, and its last keys go on.
            log.warning("oidc: no keys of %s: %s: %s", self._issuer, type(error).__name__, str(error)[:200])
        finally:
            self._lock.release()

    def _download(self) -> dict[str, Any]:
        """Return the provider's keys. Raises an error of any class."""
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        keys: dict[str, Any] = {}
        for key in _client(self._jwks or self._discovered()).get_signing_keys()[:MAX_KEYS]:
            public = key.key
            is_rsa = isinstance(public, RSAPublicKey) and public.key_size >= 2048
            is_ec = isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1)
            if (is_rsa and key.algorithm_name == "RS256") or (is_ec and key.algorithm_name == "ES256"):
                keys[str(key.key_id)] = key
        if not keys:
            raise ValueError("it has no key for RS256 (2048 bits or more) or ES256")
        return keys

    def _discovered(self) -> str:
        document = _client(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration").fetch_data()
        jwks = document.get("jwks_uri")
        if document.get("issuer") != self._issuer or not isinstance(jwks, str) or not _is_safe(jwks):
            raise ValueError("its discovery names another issuer, or an address of keys without https")
        return jwks


class OidcVerifier:
    """Verifies tokens of the provider that the settings name. Raises BadSetting for settings that are not safe."""

    def __init__(self, settings: Settings, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        for name, address in (("oidc_issuer", settings.oidc_issuer), ("oidc_jwks", settings.oidc_jwks)):
            if not (_is_safe(address) or (name == "oidc_jwks" and not address)):
                raise BadSetting(name, address, "give an https address (http only on this machine)")
        if not self._audience:
            raise BadSetting("oidc_audience", "", "name the audience of Wattlog's tokens: others' must not count")
        self._names = ClaimNames(
            tenants=settings.oidc_tenants_claim,
            roles=settings.oidc_roles_claim,
            scopes=tuple(settings.oidc_scopes_claim.split()),
            tenant_prefix=settings.oidc_tenant_prefix,
            role_prefix=settings.oidc_role_prefix,
        )
        self._keys = ProviderKeys(self.issuer, settings.oidc_jwks, monotonic_s)

    def caller(self, token: str) -> Caller:
        """Return the caller that a token names.

        Raises AccessDenied: 401 for a bad token, 403 for one that grants nothing; Unavailable without a provider.
        """
        import jwt

        try:
            kid = jwt.get_unverified_header(token).get("kid")
            if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_CHARS:
                raise AccessDenied(401, "The bearer token does not name its key (kid).")
            key = self._keys.key(kid)
            claims: Mapping[str, object] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self.issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
        except jwt.ExpiredSignatureError:
            raise AccessDenied(401, "The bearer token has expired; ask for a new one.") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise AccessDenied(401, "The bearer token cannot be verified.") from None
        return caller_of(claims, self._names, frozenset({Scope.READ_TENANT}))


def unverified_issuer(token: str) -> object:
    """Return the issuer that a token claims, None for none: it only says who may verify it."""
    import jwt

    try:
        return jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None


def _client(address: str) -> Any:
    """Return a client without a cache of its own: `ProviderKeys` bounds its fetches also while they fail."""
    import jwt

    return jwt.PyJWKClient(address, cache_jwk_set=False, timeout=TIMEOUT_S)


def _is_safe(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
