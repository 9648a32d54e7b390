"""Bills over HTTP: closed months for their tenants, drafts for operators."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest

from api.app import create_app
from contracts.settings import Settings
from tests.api.conftest import LOOPBACK, TestClient
from tests.api.test_auth import SECRET, token
from tests.warehouse.billing.quarter import closed, finish, price, use
from warehouse.client import Warehouse


@pytest.fixture
def client(warehouse: Warehouse) -> Iterator[TestClient]:
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-09-20T10:00:10Z", 50, tenant="beta")
    use(warehouse, "2026-10-20T10:00:10Z", 10)
    finish(warehouse)
    closed(warehouse, "2026-09")
    with TestClient(create_app(warehouse, Settings(api_jwt_key=SECRET, currency="EUR")), base_url=LOOPBACK) as client:
        yield client


def test_a_tenant_sees_its_own_lines_and_totals(client: TestClient) -> None:
    beta = token(tenant="beta", role="tenant")
    assert [total["total"] for total in client.get("/v1/bills", headers=beta).json()["totals"]] == ["7.50"]
    answer = client.get("/v1/bills/2026-09", headers=beta).json()
    assert [(line["tenant"], line["amount"]) for line in answer["lines"]] == [("beta", "7.50")]
    assert answer["state"] == "closed"
    assert client.get("/v1/bills/2026-09?tenant=acme", headers=beta).status_code == 403
    assert "not closed yet" in client.get("/v1/bills/2026-10", headers=beta).json()["detail"]


def test_an_operator_sees_the_draft_of_a_month_that_is_not_closed(client: TestClient) -> None:
    answer = client.get("/v1/bills/2026-10", headers=token(role="operator")).json()
    assert (answer["state"], answer["closing"]) == ("provisional", None)
    assert answer["totals"] == [{"tenant": "acme", "currency": "EUR", "side": "cost", "total": "1.50"}]


def test_csv_has_every_line(client: TestClient) -> None:
    answer = client.get("/v1/bills/2026-09?format=csv", headers=token(role="operator"))
    assert [row["amount"] for row in csv.DictReader(io.StringIO(answer.text))] == ["15.00", "7.50"]
    assert answer.headers["X-Bill-State"] == "closed"


def test_an_unknown_tenant_is_refused_with_the_nearest_name(client: TestClient) -> None:
    answer = client.get("/v1/bills/2026-09?tenant=acne", headers=token(role="operator"))
    assert answer.status_code == 422
    assert "acme" in answer.json()["detail"]
