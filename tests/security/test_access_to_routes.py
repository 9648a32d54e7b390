"""Every route of the API as every role, tenant and key: who is admitted, and whose names an answer has.

A new route fails here until `NEEDS` says what it needs.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from access.api_keys import DAY_MS, encode_keys, key_text, new_key, with_key, without_keys
from api.app import create_app
from contracts.settings import Settings
from tests.api.conftest import LOOPBACK, TestClient
from tests.api.test_auth import PAST, SECRET, token
from warehouse.client import Warehouse

PUBLIC, ROWS, MONEY, FLEET, SQL, BOOKS, EDIT = "public", "rows", "money", "fleet", "sql", "books", "edit"
NEEDS = {
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): FLEET,
    ("GET", "/v1/anomalies"): MONEY,
    ("GET", "/v1/anomalies?measure=energy"): ROWS,
    ("GET", "/v1/balance"): FLEET,
    ("GET", "/v1/bills"): MONEY,
    ("GET", "/v1/bills/{month}"): MONEY,
    ("GET", "/v1/bills/{month}/export"): MONEY,
    ("GET", "/v1/bills/{month}/invoice"): MONEY,
    ("GET", "/v1/chargeback"): MONEY,
    ("GET", "/v1/efficiency"): ROWS,
    ("GET", "/v1/explain"): MONEY,
    ("GET", "/v1/receipts/{request_id}"): MONEY,
    ("GET", "/v1/fleet"): FLEET,
    ("GET", "/v1/forecast"): MONEY,
    ("GET", "/v1/forecast?measure=energy"): ROWS,
    ("GET", "/v1/latency"): ROWS,
    ("GET", "/v1/latest"): ROWS,
    ("GET", "/v1/ledger"): ROWS,
    ("GET", "/v1/ledger/{cluster}/{workload}/{window_start}/intervals"): ROWS,
    ("GET", "/v1/reconciliation"): FLEET,
    ("GET", "/v1/reference/{kind}"): BOOKS,
    ("GET", "/v1/reference/{kind}?tenant=acme"): BOOKS,
    ("POST", "/v1/reference/{kind}"): EDIT,
    ("GET", "/v1/requests"): ROWS,
    ("GET", "/v1/sessions"): ROWS,
    ("GET", "/v1/sessions/{session_id}"): MONEY,
    ("GET", "/v1/sql"): SQL,
    ("POST", "/v1/sql"): SQL,
    ("GET", "/v1/usage"): MONEY,
}
"""What each route shows: figures of tenants without money, with money, the whole fleet, or what SQL asks of rows;
reference data, and changes of it."""
ALL, BOTH, ONE = {"acme", "globex", "initech"}, {"acme", "globex"}, {"acme"}

TOKENS = {
    "operator": ({"role": "operator"}, {ROWS, MONEY, FLEET, SQL, BOOKS, EDIT}, ALL),
    "admin": ({"role": "admin"}, {ROWS, MONEY, FLEET, SQL, BOOKS, EDIT}, ALL),
    "finance": ({"role": "finance"}, {ROWS, MONEY, BOOKS, EDIT}, ALL),
    "engineer": ({"roles": ["engineer"]}, {ROWS, FLEET}, ALL),
    "viewer": ({"role": "viewer"}, {ROWS, FLEET}, ALL),
    "gateway": ({"role": "gateway"}, set(), set()),
    "tenant": ({"tenant": "acme"}, {ROWS, MONEY, SQL}, ONE),
    "tenant, by role": ({"tenant": "acme", "role": "tenant"}, {ROWS, MONEY, SQL}, ONE),
    "tenant that calls itself operator": ({"tenant": "acme", "role": "operator"}, {ROWS, MONEY, SQL}, ONE),
    "admin of one tenant": ({"tenant": "acme", "role": "admin"}, {ROWS, MONEY}, ONE),
    "engineer of one tenant": ({"tenant": "acme", "role": "engineer"}, {ROWS, MONEY, SQL}, ONE),
    "viewer of one tenant": ({"tenant": "acme", "role": "viewer"}, {ROWS}, ONE),
    "fleet of one tenant": ({"tenant": "acme", "scope": "read:fleet admin"}, {ROWS}, ONE),
    "team lead": ({"tenants": ["acme", "globex"], "role": "tenant"}, {ROWS, MONEY, SQL}, BOTH),
    "tenant without rows": ({"tenant": "stranger"}, {ROWS, MONEY, SQL}, set()),
    "sender": ({"tenant": "acme", "scope": "send:usage send:requests"}, set(), set()),
    "admin alone": ({"scope": "admin"}, {SQL}, ALL),
    "tenant without a tenant": ({"role": "tenant"}, set(), set()),
}
"""Claims, the needs that they are admitted to, and the tenants whose names they may see."""

KEYS = {
    "viewer": (["read:fleet"], None, {ROWS, FLEET}, ALL),
    "finance": (["read:finance"], None, {ROWS, MONEY, BOOKS}, ALL),
    "lead": (["read:tenant"], ["acme", "globex"], {ROWS, MONEY, SQL}, BOTH),
    "gateway": (["send:usage", "send:requests"], None, set(), set()),
    "usage": (["send:usage"], ["acme"], set(), set()),
}  # fmt: skip
"""Scopes and tenants of keys, the needs that they are admitted to, and the tenants whose names they may see."""


_DOCUMENT: dict[str, Any] = {}


def _documented(client: TestClient) -> dict[str, Any]:
    """Return the paths of the OpenAPI document, which takes long to build and is always the same."""
    if not _DOCUMENT:
        _DOCUMENT.update(client.get("/openapi.json").json()["paths"])
    return _DOCUMENT


class WalkedApi:
    """A client of an API that takes both JWTs and keys."""

    def __init__(self, client: TestClient, keys: dict[str, str], log: Path) -> None:
        self.client, self.keys, self.log = client, keys, log

    def calls(self) -> Iterator[tuple[str, str, str]]:
        """Yield method, address with its parameters filled in, and need of each route and variant."""
        documented = _documented(self.client)
        for (method, route), need in NEEDS.items():
            path, _, query = route.partition("?")
            parameters = documented[path][method.lower()].get("parameters", [])
            examples = {p["name"]: p["schema"]["examples"][0] for p in parameters if p["in"] == "path"}
            yield method, path.format(**examples) + (f"?{query}" if query else ""), need

    def check(self, headers: dict[str, str], needs: set[str], tenants: set[str], refusal: int = 403) -> None:
        """Assert that a credential is admitted to these needs only, and sees these tenants' names only."""
        for method, path, need in self.calls():
            answer = self.client.request(method, path, headers=headers)
            if need == PUBLIC:
                assert answer.status_code == 200, path
            elif need in needs:
                assert answer.status_code in (200, 404, 422), (path, answer.text)
                names = set(re.findall(r"[\w-]+", answer.text)) & (ALL | {"__unallocated__", "__idle__"})
                assert names <= (tenants if tenants != ALL else names), path
            else:
                assert answer.status_code == refusal, (path, answer.text)


@contextmanager
def opened(books: Warehouse, folder: Path) -> Iterator[WalkedApi]:
    """Yield an API with these keys, and one that is revoked and one that is expired."""
    path, now_ms, stored, texts = folder / "keys.json", round(time.time() * 1000), [], {}
    for number, name in enumerate((*KEYS, "revoked", "expired")):
        scopes, tenants = KEYS[name][:2] if name in KEYS else (["read:fleet"], None)
        secret, age_ms = number.to_bytes(32), 9 * DAY_MS if name == "expired" else 0
        stored = with_key(stored, new_key(name, scopes, tenants, 1, now_ms - age_ms, secret))
        texts[name] = key_text(secret)
    path.write_bytes(encode_keys(without_keys(stored, "revoked", now_ms)[0]))
    path.chmod(0o600)
    settings = Settings(api_jwt_key=SECRET, keys_file=path, audit_log=folder / "audit.jsonl")
    with TestClient(create_app(books, settings), base_url=LOOPBACK) as client:
        yield WalkedApi(client, texts, folder / "audit.jsonl")


@pytest.fixture(scope="module")
def walked(books: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WalkedApi]:
    """One API for all callers, so that answers that are cached for one caller meet the next."""
    with opened(books, tmp_path_factory.mktemp("walked")) as api:
        yield api


def test_every_route_of_the_api_has_its_needs_here(walked: WalkedApi) -> None:
    documented = {(method.upper(), path) for path, methods in _documented(walked.client).items() for method in methods}
    assert documented == {(method, path.partition("?")[0]) for method, path in NEEDS}


@pytest.mark.slow
@pytest.mark.parametrize("credential", TOKENS)
def test_a_token_is_admitted_by_its_scopes_and_sees_its_tenants(walked: WalkedApi, credential: str) -> None:
    claims, needs, tenants = TOKENS[credential]
    walked.check(token(**claims), needs, tenants)


@pytest.mark.parametrize("credential", KEYS)
def test_a_key_is_admitted_by_its_scopes_and_sees_its_tenants(walked: WalkedApi, credential: str) -> None:
    _, _, needs, tenants = KEYS[credential]
    walked.check({"Authorization": f"Bearer {walked.keys[credential]}"}, needs, tenants)


@pytest.mark.parametrize("credential", ["none", "revoked", "expired", "unknown", "old token", "basic", "two", "query"])
def test_no_valid_credential_is_401_on_every_route(walked: WalkedApi, credential: str) -> None:
    key = walked.keys["viewer"]
    headers = {
        "none": {},
        "revoked": {"Authorization": f"Bearer {walked.keys['revoked']}"},
        "expired": {"Authorization": f"Bearer {walked.keys['expired']}"},
        "unknown": {"Authorization": f"Bearer {key_text(bytes([9] * 32))}"},
        "old token": token(role="admin", exp=PAST),
        "basic": {"Authorization": f"Basic {key}"},
        "two": {"Authorization": f"Bearer {key}, Bearer {key}"},
        "query": {"X-Api-Key": key, "Cookie": f"access_token={key}", "X-Forwarded-User": "admin"},
    }[credential]
    walked.check(headers, set(), set(), refusal=401)


def test_a_team_lead_narrows_to_one_of_its_tenants_and_to_no_other(walked: WalkedApi) -> None:
    lead = {"Authorization": f"Bearer {walked.keys['lead']}"}
    both = walked.client.get("/v1/chargeback", headers=lead).json()
    one = walked.client.get("/v1/chargeback?tenant=globex", headers=lead).json()
    assert [row["tenant"] for row in both["rows"]] == ["acme", "globex"]
    assert both["total"]["energy_uj"] == sum(row["energy_uj"] for row in both["rows"])
    assert [row["tenant"] for row in one["rows"]] == ["globex"]
    assert walked.client.get("/v1/chargeback?tenant=initech", headers=lead).status_code == 403


def test_a_cursor_of_one_set_of_tenants_is_none_of_another(walked: WalkedApi) -> None:
    lead, alone = {"Authorization": f"Bearer {walked.keys['lead']}"}, token(tenant="acme")
    page = walked.client.get("/v1/chargeback?by=day,tenant&limit=1", headers=lead).json()
    answer = walked.client.get("/v1/chargeback?by=day,tenant&limit=1", params={"cursor": page["next"]}, headers=alone)
    assert answer.status_code == 422


def test_a_caller_without_money_gets_no_cost_and_its_name_in_withheld(walked: WalkedApi) -> None:
    for role, withheld in (("viewer", ["cost"]), ("finance", [])):
        body = walked.client.get("/v1/efficiency", headers=token(role=role)).json()
        assert body["withheld"] == withheld
        assert all((row["cost"] is None) >= bool(withheld) for row in body["rows"])
    assert any(row["cost"] for row in body["rows"])


def test_refusals_and_exports_are_in_the_audit_log_without_credentials(books: Warehouse, tmp_path: Path) -> None:
    with opened(books, tmp_path) as api:
        key = {"Authorization": f"Bearer {api.keys['finance']}"}
        assert api.client.get("/v1/fleet").status_code == 401
        assert api.client.get("/v1/fleet", headers=key).status_code == 403
        assert api.client.get("/v1/chargeback?format=csv", headers=key).status_code == 200
    text = api.log.read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert [tuple(entry[name] for name in ("actor", "action", "subject", "outcome")) for entry in entries] == [
        ("", "read", "/v1/fleet", "denied"),
        ("finance", "read", "/v1/fleet", "denied"),
        ("finance", "export", "/v1/chargeback", "begun"),
        ("finance", "export", "/v1/chargeback", "done"),
    ]
    assert not any(secret in text for secret in (*api.keys.values(), SECRET))


@pytest.mark.slow
def test_an_open_api_serves_every_route_on_loopback(books: Warehouse, tmp_path: Path) -> None:
    settings = Settings(audit_log=tmp_path / "audit.jsonl")
    with TestClient(create_app(books, settings), base_url=LOOPBACK) as client:
        WalkedApi(client, {}, tmp_path).check({}, {ROWS, MONEY, FLEET, SQL, BOOKS, EDIT}, ALL)
