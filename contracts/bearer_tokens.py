"""JWT bearer tokens, the key that verifies them, and the test for this machine's own addresses.

The API and the producers that listen share it. PyJWT verifies with `cryptography` and takes the algorithm from the
caller, never from the token. Both are imported where a key is used, so that an agent needs neither.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from contracts.callers import Caller
from contracts.claims import caller_of
from contracts.errors import AccessDenied, BadSetting
from contracts.weak_secrets import is_guessable

MIN_SECRET_BYTES = 32
"""Least length of a secret: an HS256 key is at least as long as its hash (RFC 7518, 3.2)."""
CLOCK_LEEWAY_S = 30


class TokenVerifier:
    """Verifies tokens with a key: an HS256 secret, or the PEM of a public key. Errors call the key by `setting`.

    Raises BadSetting where the key is unfit.
    """

    def __init__(self, key: str | None, setting: str) -> None:
        self._key = key
        self._algorithm = _algorithm(key, setting) if key is not None else ""

    @property
    def open(self) -> bool:
        """True without a key: then every caller is let in, so the listener must be on loopback."""
        return self._key is None

    def caller(self, token: str | None) -> Caller:
        """Return the caller that a token names.

        Raises AccessDenied: 401 for no token or a bad one, 403 for one that grants nothing.
        """
        if not token or self._key is None:
            raise AccessDenied(401, "Send a bearer token: Authorization: Bearer ...")
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["exp"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise AccessDenied(401, "The bearer token has expired; ask for a new one.") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise AccessDenied(401, "The bearer token cannot be verified.") from None
        return caller_of(claims)


def is_loopback(host: str) -> bool:
    """True if a name or address is this machine's own. Of names only `localhost`: others may resolve to anything."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_loopback_only(hosts: Sequence[bytes]) -> bool:
    """True if a request's Host headers name this machine and nothing else.

    A web page whose name was rebound to 127.0.0.1 (DNS rebinding) sends its own name.
    """
    if len(hosts) != 1:
        return False
    try:
        name = urlsplit(f"//{hosts[0].decode('ascii')}").hostname
    except (UnicodeDecodeError, ValueError):
        return False
    return name is not None and is_loopback(name)


def _algorithm(key: str, setting: str) -> str:
    """Return HS256 for a secret, RS256 or ES256 for a PEM public key. The key decides, so a token cannot choose."""
    if not key.lstrip().startswith("-----BEGIN"):
        if len(key.encode()) < MIN_SECRET_BYTES:
            raise BadSetting(setting, "(hidden)", f"a secret needs {MIN_SECRET_BYTES} bytes or more")
        if is_guessable(key):
            raise BadSetting(setting, "(hidden)", "anybody can guess it: take the output of openssl rand -hex 32")
        return "HS256"
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise BadSetting(setting, "(hidden)", "give the PEM of a public key (never the private one)") from None
    if isinstance(public, RSAPublicKey) and public.key_size >= 2048:
        return "RS256"
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return "ES256"
    raise BadSetting(setting, "(hidden)", "give an RSA key of 2048 bits or more, or an EC key on P-256")
