"""No route shows one tenant's rows to another: every documented route is asked with the token of a foreign tenant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.auth import CallerReader, LedgerRouter, OperatorReader
from tests.api.test_auth import SECRET, token

PUBLIC = {"/healthz", "/readyz"}
"""Routes without a token: they show no tenant's rows."""
OTHER_TENANTS = {"acme", "globex", "initech", "__unallocated__"}


@pytest.fixture
def locked(open_api: Callable[..., TestClient]) -> TestClient:
    return open_api(api_jwt_key=SECRET)


def operations(client: TestClient) -> Iterator[tuple[str, set[str]]]:
    """Yield the address of every documented route, with its path parameters filled, and its query parameters."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            parameters: list[dict[str, Any]] = operation.get("parameters", [])
            examples = {p["name"]: p["schema"]["examples"][0] for p in parameters if p["in"] == "path"}
            yield path.format(**examples), {p["name"] for p in parameters if p["in"] == "query"}


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w-]+", text))


def test_every_route_is_walked(locked: TestClient) -> None:
    paths = [path for path, _ in operations(locked)]
    assert len(paths) == len(locked.get("/openapi.json").json()["paths"]) >= 17


def test_a_foreign_tenant_sees_no_other_tenants_rows_on_any_route(locked: TestClient) -> None:
    for path, _ in operations(locked):
        for tenant in ("stranger", "globex"):
            response = locked.get(path, params={"format": "json"}, headers=token(tenant=tenant))
            assert response.status_code in (200, 403, 404, 422), (path, response.text)
            if path not in PUBLIC and response.status_code == 200:
                assert not words(response.text) & (OTHER_TENANTS - {tenant}), path


def test_a_foreign_tenant_cannot_name_another_on_any_route(locked: TestClient) -> None:
    asked = 0
    for path, parameters in operations(locked):
        if "tenant" in parameters:
            response = locked.get(path, params={"tenant": "acme"}, headers=token(tenant="stranger"))
            assert response.status_code == 403, (path, response.text)
            asked += 1
    assert asked >= 11


def test_every_route_but_health_needs_a_token(locked: TestClient) -> None:
    for path, _ in operations(locked):
        assert locked.get(path).status_code == (200 if path in PUBLIC else 401), path


def test_a_route_that_does_not_read_through_its_caller_fails_when_it_is_added() -> None:
    router = LedgerRouter()
    with pytest.raises(TypeError, match=r"forgetful \(/rows\) has no CallerReader"):

        @router.get("/rows")
        def forgetful(tenant: str) -> str:
            return tenant

    @router.get("/mine")
    def mine(reader: CallerReader) -> str | None:
        return reader.tenant

    @router.get("/all")
    def everything(reader: OperatorReader) -> None:
        return None
