"""Who asks, and what they may see: JWT bearer tokens (PyJWT), or nobody's business on loopback.

PyJWT because it verifies with `cryptography` and takes the algorithm from us, never from the token.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.problems import Refused
from contracts.errors import BadSetting
from contracts.settings import Settings

MIN_SECRET_BYTES = 32
"""RFC 7518, 3.2: an HS256 key is at least as long as its hash."""
CLOCK_LEEWAY_S = 30
OPERATOR = "operator"

_bearer = HTTPBearer(auto_error=False, description="JWT with `exp`, and a `tenant` claim or `role: operator`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """`tenant` None: an operator, who sees all."""

    tenant: str | None

    def scope(self, asked: str | None) -> str | None:
        """The tenant that an answer is about: the caller's own, or what an operator asked for. Raises Refused."""
        if self.tenant is None:
            return asked
        if asked not in (None, "", self.tenant):
            raise Refused(403, "This token sees its own tenant only.")
        return self.tenant


class Verifier:
    """Reads tokens with the key of the settings; without one, everybody is an operator (loopback only)."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.api_jwt_key.get_secret_value() if settings.api_jwt_key else None
        self._algorithm = _algorithm(self._key) if self._key is not None else ""

    @property
    def open(self) -> bool:
        return self._key is None

    def caller(self, token: str | None) -> Caller:
        """Who holds this token. Raises Refused (401 for no or a bad token, 403 for one that grants nothing)."""
        if self._key is None:
            return Caller(None)
        if not token:
            raise Refused(401, "Send a bearer token: Authorization: Bearer ...")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["exp"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise Refused(401, "The bearer token has expired; ask for a new one.") from None
        except jwt.InvalidTokenError:
            raise Refused(401, "The bearer token cannot be verified.") from None
        tenant = claims.get("tenant")
        if isinstance(tenant, str) and tenant:
            return Caller(tenant)
        if tenant is None and claims.get("role") == OPERATOR:
            return Caller(None)
        raise Refused(403, "The bearer token has neither a tenant claim nor role: operator.")


def check_exposure(settings: Settings) -> None:
    """Raises BadSetting where the API would be open to a network without tokens, or the key is unfit."""
    if settings.api_jwt_key is not None:
        Verifier(settings)
    elif not is_loopback(settings.api_host):
        raise BadSetting(
            "api_host", settings.api_host, "without api_jwt_key the API listens on loopback only: 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own. Only `localhost` among names: others may resolve to anything."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _algorithm(key: str) -> str:
    """HS256 for a secret, RS256 or ES256 for a PEM public key: fixed by the key, so a token cannot choose."""
    if not key.lstrip().startswith("-----BEGIN"):
        if len(key.encode()) < MIN_SECRET_BYTES:
            raise BadSetting("api_jwt_key", "(hidden)", f"a secret needs {MIN_SECRET_BYTES} bytes or more")
        return "HS256"
    try:
        public = load_pem_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise BadSetting("api_jwt_key", "(hidden)", "give the PEM of a public key (never the private one)") from None
    if isinstance(public, RSAPublicKey) and public.key_size >= 2048:
        return "RS256"
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return "ES256"
    raise BadSetting("api_jwt_key", "(hidden)", "give an RSA key of 2048 bits or more, or an EC key on P-256")


def _caller(request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    verifier: Verifier = request.app.state.verifier
    return verifier.caller(sent.credentials if sent else None)


def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if caller.tenant is not None:
        raise Refused(403, "Only operators see this: it is about all tenants.")
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]
Operator = Annotated[Caller, Depends(_operator)]
