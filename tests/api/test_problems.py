"""Every error is a problem (RFC 9457) that says how to fix it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from contracts.settings import Settings
from warehouse.client import Warehouse

KEYS = {"type", "title", "status", "detail", "instance"}


@pytest.mark.parametrize(
    ("url", "status", "field"),
    [
        ("/v1/chargeback?by=planet", 422, "by"),
        ("/v1/chargeback?limit=0", 422, "limit"),
        ("/v1/chargeback?limit=10001", 422, "limit"),
        ("/v1/chargeback?limit=many", 422, "limit"),
        ("/v1/chargeback?period=soon", 422, "period"),
        ("/v1/chargeback?from=then", 422, "from"),
        ("/v1/chargeback?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 422, "to"),
        ("/v1/chargeback?cursor=xyz", 422, "cursor"),
        ("/v1/chargeback?format=xml", 422, "format"),
        ("/v1/forecast?measure=joy", 422, "measure"),
        ("/v1/forecast?by=hour", 422, "by"),
        ("/v1/explain", 422, "tenant"),
        ("/v1/explain?tenant=nobody", 422, "tenant"),
        ("/v1/ledger/eu-1/chat/then/intervals", 422, "window_start"),
    ],
)
def test_a_wrong_value_is_named_with_the_allowed_values(client: TestClient, url: str, status: int, field: str) -> None:
    answer = client.get(url)
    body = answer.json()
    assert answer.status_code == body["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.keys() >= KEYS
    assert body["type"] == "urn:wattlog:problem:invalid-value"
    assert [e["field"] for e in body["errors"]] == [field]
    assert body["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/v2/chargeback", 404),
        ("GET", "/static/../app.py", 404),
        ("POST", "/v1/chargeback", 405),
        ("DELETE", "/", 405),
    ],
)
def test_a_wrong_path_or_method_is_a_problem(client: TestClient, method: str, url: str, status: int) -> None:
    answer = client.request(method, url)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() == KEYS


def test_an_absent_warehouse_is_unavailable_with_retry_after(chdb_dsn: str) -> None:
    from warehouse.client import connect

    warehouse = connect(chdb_dsn, database="default")
    warehouse.close()
    with TestClient(create_app(warehouse, Settings()), base_url="http://localhost") as client:
        for url in ("/v1/chargeback", "/readyz"):
            answer = client.get(url)
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:wattlog:problem:unavailable"
            assert answer.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200
        assert "wattlog_warehouse_up 0.0" in client.get("/metrics").text


def test_a_warehouse_without_tables_is_not_ready(unmigrated: Warehouse) -> None:
    with TestClient(create_app(unmigrated, Settings()), base_url="http://localhost") as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "wattlog migrate" in answer.json()["detail"]


def test_an_internal_error_reveals_no_internals(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("warehouse.chargeback.chargeback_queries.chargeback_and_total", broken)
    quiet = TestClient(client.app, base_url=str(client.base_url), raise_server_exceptions=False)
    answer = quiet.get("/v1/chargeback")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "swordfish" not in answer.text


def test_an_empty_ledger_gives_an_empty_answer(warehouse: Warehouse) -> None:
    with TestClient(create_app(warehouse, Settings()), base_url="http://localhost") as client:
        body = client.get("/v1/chargeback").json()
        assert body["rows"] == [] and body["total"]["energy_uj"] == 0
        for route in ("fleet", "efficiency", "ledger", "requests", "latest", "forecast", "anomalies"):
            assert client.get(f"/v1/{route}").json()["rows"] == [], route
        assert client.get("/v1/balance").json()["residual_uj"] == 0
        assert client.get("/readyz").json()["ledger"] == {"final_end": None, "window_end": None}
