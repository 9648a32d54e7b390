"""Authentication: which rows a token may see. Without a key the API listens on loopback only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi.testclient import TestClient

from access.api_keys import key_text, new_key, with_key
from access.keys_file import changing_keys
from api.auth import check_exposure
from contracts.errors import BadSetting
from contracts.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"
FAR = 4_102_444_800  # 2100
PAST = 946_684_800  # 2000
TENANT_ROUTES = (
    "/v1/chargeback",
    "/v1/efficiency",
    "/v1/ledger",
    "/v1/requests",
    "/v1/latest",
    "/v1/explain",
    "/v1/forecast",
    "/v1/anomalies",
    "/v1/usage",
    "/v1/sessions",
    "/v1/sessions/s-1",
)
OPERATOR_ROUTES = ("/v1/fleet", "/v1/balance", "/metrics")


def token(key: Any = SECRET, algorithm: str = "HS256", **claims: object) -> dict[str, str]:
    claims.setdefault("exp", FAR)
    return {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm)}"}


@pytest.fixture
def locked(open_api: Callable[..., TestClient]) -> TestClient:
    return open_api(api_jwt_key=SECRET)


def test_every_route_except_health_answers_401_without_a_token(locked: TestClient) -> None:
    for url in (*TENANT_ROUTES, *OPERATOR_ROUTES):
        answer = locked.get(url)
        assert answer.status_code == 401, url
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    assert locked.get("/healthz").status_code == locked.get("/readyz").status_code == locked.get("/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        token(key="another-secret-another-secret-anot", tenant="acme"),
        token(tenant="acme", exp=PAST),
        {"Authorization": f"Bearer {jwt.encode({'tenant': 'acme'}, SECRET, 'HS256')}"},
        {"Authorization": f"Bearer {jwt.encode({'tenant': 'acme', 'exp': FAR}, None, 'none')}"},
        token(algorithm="HS512", key=SECRET * 2, tenant="acme"),
        {"Authorization": "Bearer rubbish"},
        {"Authorization": "Basic YTpi"},
    ],
    ids=["another key", "expired", "no expiry", "no signature", "another algorithm", "no JWT", "no bearer"],
)
def test_a_token_that_does_not_verify_is_401(locked: TestClient, headers: dict[str, str]) -> None:
    assert locked.get("/v1/chargeback", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "claims", [{}, {"role": "gateway"}, {"tenant": ""}, {"tenant": ["acme"]}, {"tenant": 7, "role": "operator"}]
)
def test_a_token_that_grants_nothing_is_403(locked: TestClient, claims: dict[str, object]) -> None:
    assert locked.get("/v1/chargeback", headers=token(**claims)).status_code == 403


def test_an_operator_sees_all_tenants(locked: TestClient) -> None:
    rows = locked.get("/v1/chargeback", headers=token(role="operator")).json()["rows"]
    assert {r["tenant"] for r in rows} == {"__unallocated__", "acme", "globex", "initech"}
    for url in OPERATOR_ROUTES:
        assert locked.get(url, headers=token(role="operator")).status_code == 200


def test_a_tenant_sees_only_itself(locked: TestClient) -> None:
    mine = token(tenant="acme")
    for url in TENANT_ROUTES:
        answer = locked.get(url, headers=mine)
        assert answer.status_code == 200, url
        assert not {"globex", "initech", "__unallocated__"} & set(answer.text.replace('"', " ").split()), url
    body = locked.get("/v1/chargeback?by=tenant,team", headers=mine).json()
    assert [r["tenant"] for r in body["rows"]] == ["acme"]
    assert body["total"]["energy_uj"] == body["rows"][0]["energy_uj"]


def test_a_tenant_cannot_query_another_tenant_even_with_a_role(locked: TestClient) -> None:
    for url in TENANT_ROUTES:
        answer = locked.get(url, params={"tenant": "globex"}, headers=token(tenant="acme", role="operator"))
        assert answer.status_code == 403, url
    for url in OPERATOR_ROUTES:
        assert locked.get(url, headers=token(tenant="acme")).status_code == 403, url


def test_a_cursor_of_another_tenant_shows_no_more_rows(locked: TestClient) -> None:
    page = locked.get("/v1/chargeback?by=day,tenant&limit=1", headers=token(role="operator")).json()
    answer = locked.get(
        "/v1/chargeback?by=day,tenant&limit=1", params={"cursor": page["next"]}, headers=token(tenant="acme")
    )
    assert answer.status_code == 422


def test_a_tenant_sees_intervals_only_where_it_is_charged(locked: TestClient) -> None:
    url = "/v1/ledger/eu-1/code/2026-10-31T22:00:00.000Z/intervals"
    assert len(locked.get(url, headers=token(tenant="acme")).json()["rows"]) == 2
    assert locked.get(url, headers=token(tenant="globex")).json()["rows"] == []


def test_public_keys_verify_and_the_key_fixes_the_algorithm(open_api: Callable[..., TestClient]) -> None:
    for private, algorithm in (
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    ):
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        client = open_api(api_jwt_key=public)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert client.get("/v1/chargeback", headers=token(pem, algorithm, tenant="acme")).status_code == 200
        # Algorithm confusion: the public key used as an HMAC secret.
        forged = jwt.encode({"role": "operator", "exp": FAR}, "x" * 32, "HS256")
        assert client.get("/v1/chargeback", headers={"Authorization": f"Bearer {forged}"}).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.com"])
def test_an_open_api_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(BadSetting, match="api_host"):
        check_exposure(Settings(api_host=host))
    check_exposure(Settings(api_host=host, api_jwt_key=SECRET))


def test_an_api_key_sees_what_its_tenant_may(open_api: Callable[..., TestClient], tmp_path: Path) -> None:
    key, path = key_text(bytes(32)), tmp_path / "keys.json"
    with changing_keys(path) as (keys, replace):
        replace(with_key(keys, new_key("ui", ["read:tenant"], ["acme"], 1, round(time.time() * 1000), bytes(32))))
    client = open_api(keys_file=path)
    check_exposure(Settings(api_host="0.0.0.0", keys_file=path))
    rows = client.get("/v1/chargeback", headers={"Authorization": f"Bearer {key}"}).json()["rows"]
    assert {row["tenant"] for row in rows} == {"acme"}
    for other in (key_text(b"\1" * 32), key[:-1], ""):
        assert client.get("/v1/chargeback", headers={"Authorization": f"Bearer {other}"}).status_code == 401
    assert client.get("/v1/chargeback").status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_loopback_needs_no_key(host: str) -> None:
    check_exposure(Settings(api_host=host))


def test_an_unsuitable_key_is_refused_without_showing_it() -> None:
    short = (
        rsa.generate_private_key(65537, 1024).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    for key in ("short", "-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----", short.decode()):
        with pytest.raises(BadSetting) as refused:
            check_exposure(Settings(api_jwt_key=key))
        assert key not in str(refused.value)
