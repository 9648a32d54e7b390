"""Tokens of an OpenID Connect provider, against a real server of keys on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from access.authenticator import MAX_TOKEN_CHARS, Authenticator
from access.oidc import REFETCH_S, REFRESH_S, STALE_S, OidcVerifier
from contracts.callers import ROLES, Scope
from contracts.errors import AccessDenied, BadSetting, Unavailable
from contracts.settings import Settings
from tests.support.http_server import Request, Response, serving
from tests.support.waiting import wait_until

RSA = {name: rsa.generate_private_key(65537, 2048) for name in ("k1", "k2", "foreign")}
EC = ec.generate_private_key(ec.SECP256R1())
WEAK = rsa.generate_private_key(65537, 1024)
AUDIENCE = "wattlog"
DISCOVERY = "/.well-known/openid-configuration"
SECRET = "0123456789abcdef0123456789abcdef"


def rsa_jwk(name: str, key: Any = None, **changes: Any) -> dict[str, Any]:
    return RSAAlgorithm.to_jwk((key or RSA[name]).public_key(), as_dict=True) | {"kid": name, "use": "sig"} | changes


@dataclass
class Provider:
    """A provider whose answers a test decides."""

    issuer: str = ""
    jwks: Any = field(default_factory=lambda: {"keys": [rsa_jwk("k1")]})
    discovery: dict[str, Any] = field(default_factory=dict)
    up: bool = True
    requests: list[str] = field(default_factory=list)
    gate: threading.Event | None = None
    """Holds answers back until it is set."""

    def answer(self, request: Request) -> Response | None:
        self.requests.append(request.path)
        if self.gate is not None:
            self.gate.wait()
        if not self.up:
            return None
        document = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"} | self.discovery
        answers = {DISCOVERY: document, "/keys": self.jwks}
        if request.path == "/moved":
            return Response(302, b"", {"Location": f"{self.issuer}/keys"})
        body = answers.get(request.path)
        return Response(404, b"") if body is None else Response(200, json.dumps(body).encode())


class Clock:
    """Time that a test moves, in seconds."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    with serving(provider.answer) as address:
        provider.issuer = address
        yield provider


def settings(provider: Provider, **changes: Any) -> Settings:
    return Settings(oidc_issuer=provider.issuer, oidc_audience=AUDIENCE, **changes)


def opened(provider: Provider, **changes: Any) -> tuple[OidcVerifier, Clock]:
    clock = Clock()
    return OidcVerifier(settings(provider, **changes), clock), clock


def token(
    provider: Provider,
    key: Any = RSA["k1"],
    algorithm: str = "RS256",
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "tenants": ["acme"]}
    claims = {name: value for name, value in (claims | changes).items() if value is not ...}
    return jwt.encode(claims, key, algorithm, {"kid": "k1"} | (header or {}))


def refusal(verifier: OidcVerifier, text: str, status: int = 401) -> str:
    with pytest.raises(AccessDenied) as refused:
        verifier.caller(text)
    assert refused.value.status == status
    return refused.value.detail


def test_a_token_of_the_provider_is_its_caller_and_never_sends_without_a_scope(provider: Provider) -> None:
    caller = opened(provider)[0].caller(token(provider))
    assert (caller.name, caller.tenants, caller.scopes) == (f"{provider.issuer}|ann", {"acme"}, {Scope.READ_TENANT})
    assert provider.requests == [DISCOVERY, "/keys"]


def test_an_elliptic_key_and_an_address_of_keys_without_discovery(provider: Provider) -> None:
    provider.jwks = {"keys": [ECAlgorithm.to_jwk(EC.public_key(), as_dict=True) | {"kid": "k1"}]}
    verifier, _ = opened(provider, oidc_jwks=f"{provider.issuer}/keys")
    assert verifier.caller(token(provider, EC, "ES256")).tenant == "acme"
    assert provider.requests == ["/keys"]


def test_claims_of_keycloak_entra_and_okta_by_their_settings(provider: Provider) -> None:
    keycloak, _ = opened(provider, oidc_roles_claim="realm_access.roles", oidc_tenants_claim="groups",
                         oidc_tenant_prefix="/tenants/")  # fmt: skip
    sent = token(provider, tenants=..., realm_access={"roles": ["offline_access", "tenant"]},
                 groups=["/tenants/acme", "/staff", "/tenants/globex"])  # fmt: skip
    assert keycloak.caller(sent).tenants == {"acme", "globex"}
    entra, _ = opened(provider)
    assert entra.caller(token(provider, tenants=..., roles=["finance"])).scopes == ROLES["finance"]
    okta, _ = opened(provider, oidc_roles_claim="groups", oidc_role_prefix="wattlog-")
    assert okta.caller(token(provider, tenants=..., groups=["Everyone", "wattlog-viewer"])).scopes == {Scope.READ_FLEET}
    assert okta.caller(token(provider, scp=["openid", "send:usage"])).scopes == {Scope.SEND_USAGE}


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"}, {"aud": ["a", "b"]}, {"aud": ...}, {"aud": {}}, {"iss": "https://id.example"}, {"iss": ...},
        {"exp": NOW - 3600}, {"exp": ...}, {"exp": "soon"}, {"iat": NOW + 3600}, {"iat": ...}, {"nbf": NOW + 3600},
        {"sub": ...}, {"sub": 7}, {"header": {"kid": "k9"}}, {"header": {"kid": ""}},
        {"header": {"kid": "../../etc/passwd"}}, {"header": {"kid": "k" * 9_000}}, {"header": {"kid": "' OR 1=1 --"}},
        {"header": {"crit": ["x"], "x": 1}}, {"key": RSA["foreign"]},
    ],
    ids=lambda changes: str(changes)[:40].replace(str(NOW - 3600), "past").replace(str(NOW + 3600), "future"),
)  # fmt: skip
def test_a_token_for_others_or_out_of_its_time_or_of_an_unknown_key_is_refused(
    provider: Provider, changes: dict[str, Any]
) -> None:
    refusal(opened(provider)[0], token(provider, **changes))


def test_no_token_chooses_its_algorithm(provider: Provider) -> None:
    pem = RSA["k1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(token(provider), options={"verify_signature": False})

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    verifier, _ = opened(provider)
    for header in ({"alg": "HS256", "kid": "k1"}, {"alg": "none", "kid": "k1"}, {"alg": "RS512", "kid": "k1"},
                   {"alg": "ES256", "kid": "k1"}, {"kid": "k1"}, {"alg": ["RS256"], "kid": "k1"},
                   {"alg": "RS256", "kid": 7}, {"alg": "RS256"}):  # fmt: skip
        signed = f"{part(header)}.{part(claims)}"
        mac = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), hashlib.sha256)).decode().rstrip("=")
        for signature in (mac, ""):
            refusal(verifier, f"{signed}.{signature}")


def test_addresses_and_keys_within_a_token_are_not_read(provider: Provider) -> None:
    verifier, _ = opened(provider)
    elsewhere = f"{provider.issuer}/evil"
    header = {"jku": elsewhere, "x5u": elsewhere, "jwk": rsa_jwk("foreign"), "x5c": ["MII"]}
    refusal(verifier, token(provider, RSA["foreign"], header=header))
    assert verifier.caller(token(provider, header=header)).tenant == "acme"
    assert "/evil" not in provider.requests


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "AAAA", "kid": "k1", "alg": "HS256"}, rsa_jwk("k1", use="enc"), rsa_jwk("k1", alg="RS512"),
        rsa_jwk("k1", WEAK), rsa_jwk("k1", kid=None), {"kty": "RSA", "kid": "k1"}, {},
    ],
    ids=["symmetric", "for encryption", "another algorithm", "1024 bits", "no name", "no numbers", "empty"],
)  # fmt: skip
def test_keys_that_are_not_for_these_signatures_are_none(provider: Provider, jwk: dict[str, Any]) -> None:
    provider.jwks = {"keys": [jwk]}
    key = WEAK if jwk.get("n") == rsa_jwk("k1", WEAK)["n"] else RSA["k1"]
    verifier, _ = opened(provider)
    sent = token(provider, key) if key is RSA["k1"] else ".".join((*token(provider).split(".")[:2], "AAAA"))
    with pytest.raises(Unavailable):
        verifier.caller(sent)


def test_a_rotated_key_is_fetched_and_the_old_one_ends(provider: Provider) -> None:
    verifier, clock = opened(provider)
    verifier.caller(token(provider))
    provider.jwks = {"keys": [rsa_jwk("k2")]}
    clock.now_s += REFETCH_S
    assert verifier.caller(token(provider, RSA["k2"], header={"kid": "k2"})).tenant == "acme"
    refusal(verifier, token(provider))


def test_a_withdrawn_key_ends_with_the_next_refresh(provider: Provider) -> None:
    verifier, clock = opened(provider)
    verifier.caller(token(provider))
    provider.jwks = {"keys": [rsa_jwk("k2")]}
    clock.now_s += REFRESH_S - 1
    verifier.caller(token(provider))
    clock.now_s += 1
    refusal(verifier, token(provider))


def test_unknown_keys_do_not_make_the_provider_answer_more_often(provider: Provider) -> None:
    verifier, clock = opened(provider, oidc_jwks=f"{provider.issuer}/keys")
    for number in range(200):
        refusal(verifier, token(provider, header={"kid": f"x{number}"}))
    assert len(provider.requests) == 1
    clock.now_s += REFETCH_S
    for number in range(200):
        refusal(verifier, token(provider, header={"kid": f"x{number}"}))
    assert len(provider.requests) == 2


def test_keys_go_on_while_the_provider_is_away_for_a_day(provider: Provider) -> None:
    verifier, clock = opened(provider)
    verifier.caller(token(provider))
    for spoil in ({"up": False}, {"up": True, "jwks": ["no"]}, {"jwks": {"keys": []}}, {"discovery": {"issuer": "x"}}):
        for name, value in spoil.items():
            setattr(provider, name, value)
        clock.now_s += REFRESH_S
        assert verifier.caller(token(provider)).tenant == "acme"
    clock.now_s = STALE_S + 1
    with pytest.raises(Unavailable, match="identity provider"):
        verifier.caller(token(provider))


def test_a_provider_that_is_away_at_the_start_is_requests_again_later(provider: Provider) -> None:
    provider.up = False
    verifier, clock = opened(provider)
    for _ in range(9):
        with pytest.raises(Unavailable):
            verifier.caller(token(provider))
    assert len(provider.requests) == 1
    provider.up = True
    clock.now_s += REFETCH_S
    assert verifier.caller(token(provider)).tenant == "acme"


def test_callers_of_a_known_key_do_not_wait_while_keys_are_fetched(provider: Provider) -> None:
    verifier, clock = opened(provider)
    verifier.caller(token(provider))
    provider.gate = threading.Event()
    clock.now_s += REFRESH_S
    fetching = threading.Thread(target=verifier.caller, args=(token(provider),))
    fetching.start()
    wait_until(lambda: len(provider.requests) == 3)
    assert verifier.caller(token(provider)).tenant == "acme"
    provider.gate.set()
    fetching.join()


def test_a_redirect_of_the_provider_is_not_followed(provider: Provider) -> None:
    verifier, _ = opened(provider, oidc_jwks=f"{provider.issuer}/moved")
    with pytest.raises(Unavailable):
        verifier.caller(token(provider))
    assert provider.requests == ["/moved"]


@pytest.mark.parametrize("jwks", ["http://keys.example/k", "file:///etc/passwd", 7, "https://"])
def test_discovery_that_names_an_unsafe_address_is_not_believed(provider: Provider, jwks: Any) -> None:
    provider.discovery = {"jwks_uri": jwks}
    with pytest.raises(Unavailable):
        opened(provider)[0].caller(token(provider))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"oidc_issuer": "http://id.example"}, "oidc_issuer"), ({"oidc_issuer": "file:///x"}, "oidc_issuer"),
        ({"oidc_jwks": "http://id.example/keys"}, "oidc_jwks"), ({"oidc_audience": ""}, "oidc_audience"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_are_not_safe_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadSetting, match=field):
        OidcVerifier(Settings(**({"oidc_issuer": "https://id.example", "oidc_audience": "w"} | changes)))


def test_a_shared_key_beside_a_provider_cannot_speak_for_it(provider: Provider) -> None:
    both = Authenticator(settings(provider), SECRET, "api_jwt_key")
    far = int(time.time()) + 300
    assert both.caller(token(provider)).name == f"{provider.issuer}|ann"
    assert both.caller(jwt.encode({"tenant": "acme", "exp": far}, SECRET, "HS256")).name == "tenant:acme"
    forged = jwt.encode({"iss": provider.issuer, "sub": "ann", "role": "operator", "exp": far}, SECRET, "HS256")
    with pytest.raises(AccessDenied):
        both.caller(forged)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a.b", "a.b.c", "...", "é.é.é", "\ud800.a.b", "x" * (MAX_TOKEN_CHARS + 1),
        base64.urlsafe_b64encode(b"[" * 9_000).decode() + ".e30.AAAA",
        base64.urlsafe_b64encode(b'{"alg":"RS256","kid":' + b"9" * 6_000 + b"}").decode() + ".e30.AAAA",
        base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode() + "." + base64.urlsafe_b64encode(b"{" * 9_000).decode(),
        "wl_" + "0" * 49,
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
@pytest.mark.parametrize("key", [None, SECRET])
def test_rubbish_is_401_and_nothing_else(provider: Provider, text: str, key: str | None) -> None:
    with pytest.raises(AccessDenied) as refused:
        Authenticator(settings(provider), key, "api_jwt_key").caller(text)
    assert refused.value.status == 401
