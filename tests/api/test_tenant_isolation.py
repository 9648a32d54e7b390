"""No route shows one tenant's rows to another. Every documented route is called with the token of a foreign tenant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from api.auth import CallerReader, FleetReader, LedgerRouter
from api.routes import PUBLIC_PATHS, ROUTERS
from tests.api.test_auth import SECRET, token

FILES = {"/v1/bills/2026-10/export"}
"""Routes that answer with a file."""
PUBLIC = {"/healthz", "/readyz"}
"""Routes without a token: they show no tenant's rows."""
OTHER_TENANTS = {"acme", "globex", "initech", "__unallocated__"}


@pytest.fixture
def locked(open_api: Callable[..., TestClient]) -> TestClient:
    return open_api(api_jwt_key=SECRET)


def operations(client: TestClient) -> Iterator[tuple[str, set[str]]]:
    """Yield the address of every documented GET, with its path parameters filled in, and its query parameters."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in (methods["get"],):
            parameters: list[dict[str, Any]] = operation.get("parameters", [])
            examples = {p["name"]: p["schema"]["examples"][0] for p in parameters if p["in"] == "path"}
            yield path.format(**examples), {p["name"] for p in parameters if p["in"] == "query"}


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w-]+", text))


def test_every_route_is_called(locked: TestClient) -> None:
    paths = [path for path, _ in operations(locked)]
    documented = set(locked.get("/openapi.json").json()["paths"])
    assert len(paths) == len(documented) >= 17
    routes = {route.path_format for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)}
    assert routes == documented | PUBLIC_PATHS


def test_a_foreign_tenant_sees_no_rows_of_others_on_any_route(locked: TestClient) -> None:
    for path, _ in operations(locked):
        for tenant in ("stranger", "globex"):
            response = locked.get(
                path, params={"format": "csv" if path in FILES else "json"}, headers=token(tenant=tenant)
            )
            assert response.status_code in (200, 403, 404, 422), (path, response.text)
            if path not in PUBLIC and response.status_code == 200:
                assert not words(response.text) & (OTHER_TENANTS - {tenant}), path


def test_a_foreign_tenant_cannot_name_another_on_any_route(locked: TestClient) -> None:
    count = 0
    for path, parameters in operations(locked):
        if "tenant" in parameters:
            of_files = {"format": "csv"} if path in FILES else {}
            response = locked.get(path, params={"tenant": "acme", **of_files}, headers=token(tenant="stranger"))
            assert response.status_code == 403, (path, response.text)
            count += 1
    assert count >= 11


def test_every_route_but_health_needs_a_token(locked: TestClient) -> None:
    for path, _ in operations(locked):
        assert locked.get(path).status_code == (200 if path in PUBLIC else 401), path


def test_a_new_route_that_bypasses_its_caller_is_detected() -> None:
    router = LedgerRouter()
    with pytest.raises(TypeError, match=r"forgetful \(/rows\) has no CallerReader"):

        @router.get("/rows")
        def forgetful(tenant: str) -> str:
            return tenant

    @router.get("/mine")
    def mine(reader: CallerReader) -> str | None:
        return next(iter(reader.tenants or []), None)

    @router.get("/all")
    def all_rows(reader: FleetReader) -> None:
        return None
