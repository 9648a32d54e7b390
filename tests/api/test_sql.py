"""`/v1/sql`: an operator asks over all rows, a tenant over its own; few questions at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from api.question_bounds import QuestionBounds
from tests.api.test_auth import SECRET, token

BY_TENANT = "SELECT tenant, sum(active_uj) AS uj FROM ledger FINAL GROUP BY tenant ORDER BY tenant"
MARK = "marked-secret-51d0"


@pytest.fixture
def locked(open_api: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("MARKED", MARK)
    return open_api(api_jwt_key=SECRET)


def test_an_operator_reads_all_tenants_and_a_tenant_itself(locked: TestClient) -> None:
    all_rows = locked.post("/v1/sql", json={"query": BY_TENANT}, headers=token(role="operator")).json()
    assert all_rows["columns"] == ["tenant", "uj"]
    assert {"acme", "globex"} < {row[0] for row in all_rows["rows"]}
    own = locked.post("/v1/sql", json={"query": BY_TENANT}, headers=token(tenant="acme")).json()
    assert own["rows"] == [row for row in all_rows["rows"] if row[0] == "acme"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * APPLY(file) FROM (SELECT '/proc/self/environ')",
        "SELECT file('/etc/hostname')",
        "SELECT arrayMap(file, ['/etc/hostname'])",
        "SELECT 1; SELECT 2",
        "SELECT 1 FORMAT CSV",
        "DROP TABLE ledger",
        "SELECT tenant FROM sources",
        "SELECT toUInt8(tenant) FROM ledger",
        "",
        "\ud800",
    ],
)
def test_a_refused_question_is_a_problem_without_rows_of_others(locked: TestClient, query: str) -> None:
    content = '{"query": "\\ud800"}' if query == "\ud800" else None
    body = (
        {"content": content, "headers": {"Content-Type": "application/json"}} if content else {"json": {"query": query}}
    )
    body["headers"] = {**body.get("headers", {}), **token(tenant="acme")}
    response = locked.post("/v1/sql", **body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert MARK not in response.text
    assert "globex" not in response.text


def test_sql_needs_a_credential_to_read_all_of_a_tenant(locked: TestClient) -> None:
    ask = {"json": {"query": "SELECT 1"}}
    assert locked.post("/v1/sql", **ask).status_code == 401
    assert locked.post("/v1/sql", **ask, headers=token(role="viewer")).status_code == 403
    assert locked.post("/v1/sql", **ask, headers=token(role="gateway")).status_code == 403


def test_the_columns_of_a_tenant_are_those_that_it_may_ask(locked: TestClient) -> None:
    operator = {r["table"] for r in locked.get("/v1/sql", headers=token(role="operator")).json()["rows"]}
    tenant = {r["table"] for r in locked.get("/v1/sql", headers=token(tenant="acme")).json()["rows"]}
    assert "ledger" in tenant < operator
    assert {"gpu_energy", "sources", "idle_floors"} <= operator - tenant


def test_the_next_question_of_a_tenant_by_any_key_gets_the_time_to_ask_again(locked: TestClient) -> None:
    bounds: QuestionBounds = locked.app.state.sql_questions  # type: ignore[attr-defined]
    bounds._questions["tenants ['acme']"] = 1  # One that runs.
    response = locked.post("/v1/sql", json={"query": "SELECT 1"}, headers=token(tenant="acme", sub="another"))
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert locked.post("/v1/sql", json={"query": "SELECT 1"}, headers=token(tenant="globex")).status_code == 200
