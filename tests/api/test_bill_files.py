"""Bills as files over HTTP: each format, for those who may see money, counted as an export."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from pyarrow import parquet

from api.app import create_app
from contracts.errors import LedgerError
from contracts.settings import Settings
from tests.api.conftest import LOOPBACK, TestClient
from tests.api.test_auth import SECRET, token
from tests.support.sheets import sheets
from tests.warehouse.billing.quarter import closed, finish, price, use
from warehouse.client import Warehouse

OPERATOR, BETA = token(role="operator"), token(tenant="beta", role="tenant")
EXPORT = "/v1/bills/2026-09/export?format="


@pytest.fixture
def client(warehouse: Warehouse, tmp_path: Path) -> Iterator[TestClient]:
    """September, closed: 15.00 EUR of acme and 7.50 of beta; October, a draft."""
    price(warehouse)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-09-20T10:00:10Z", 50, tenant="beta")
    use(warehouse, "2026-10-20T10:00:10Z", 10)
    finish(warehouse)
    closed(warehouse, "2026-09")
    settings = Settings(api_jwt_key=SECRET, currency="EUR", audit_log=tmp_path / "audit.jsonl")
    with TestClient(create_app(warehouse, settings), base_url=LOOPBACK) as client:
        yield client


def test_an_invoice_is_a_page_that_runs_nothing(client: TestClient) -> None:
    answer = client.get("/v1/bills/2026-09/invoice?tenant=acme", headers=OPERATOR)
    assert "15.00 EUR" in answer.text
    assert "beta" not in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('inline; filename="2026-09.1-')
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_drafts_invoice_says_that_it_is_one(client: TestClient) -> None:
    answer = client.get("/v1/bills/2026-10/invoice", headers=OPERATOR)
    assert "provisional: not closed" in answer.text
    assert answer.headers["X-Bill-State"] == "provisional"


def test_every_format_sums_to_the_bill(client: TestClient) -> None:
    files = {
        name: client.get(EXPORT + name, headers=OPERATOR)
        for name in ("csv", "parquet", "xlsx", "focus", "focus-1.2", "cloudevents")
    }
    rows = csv.DictReader(io.StringIO(files["csv"].text))
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("22.50")
    assert sum(parquet.read_table(io.BytesIO(files["parquet"].content))["amount"].to_pylist()) == Decimal("22.50")
    assert [row[3] for row in sheets(files["xlsx"].content)["Totals"][1:]] == [15.0, 7.5]
    with zipfile.ZipFile(io.BytesIO(files["focus"].content)) as archive:
        assert "InvoiceDetail.csv" in archive.namelist()
    focus = csv.DictReader(io.StringIO(files["focus-1.2"].text))
    assert sum(Decimal(row["BilledCost"]) for row in focus) == Decimal("22.50")
    assert sum(Decimal(event["data"]["amount"]) for event in files["cloudevents"].json()) == Decimal("22.50")
    for name, file in files.items():
        assert file.headers["content-disposition"].startswith('attachment; filename="2026-09.1-'), name
        assert int(file.headers["content-length"]) == len(file.content)


def test_a_closed_month_is_the_same_bytes_each_time(client: TestClient) -> None:
    for name in ("csv", "parquet", "xlsx", "focus", "html", "cloudevents"):
        one, other = (client.get(EXPORT + name, headers=OPERATOR).content for _ in range(2))
        assert one == other, name


def test_a_tenant_gets_its_own_lines(client: TestClient) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get(f"{EXPORT}csv", headers=BETA).text)))
    assert [(row["tenant"], row["amount"]) for row in rows] == [("beta", "7.50")]
    assert "acme" not in client.get("/v1/bills/2026-09/invoice", headers=BETA).text
    assert client.get(f"{EXPORT}csv&tenant=acme", headers=BETA).status_code == 403
    assert "not closed yet" in client.get("/v1/bills/2026-10/export?format=csv&draft=true", headers=BETA).text


def test_a_viewer_gets_no_file_of_money(client: TestClient) -> None:
    assert client.get(f"{EXPORT}csv", headers=token(role="viewer")).status_code == 403
    assert client.get(f"{EXPORT}csv").status_code == 401


def test_a_draft_is_exported_if_it_is_asked_for_and_never_as_events(client: TestClient) -> None:
    draft = "/v1/bills/2026-10/export?draft=true&format="
    assert "it is provisional" in client.get("/v1/bills/2026-10/export?format=csv", headers=OPERATOR).json()["detail"]
    answer = client.get(f"{draft}csv", headers=OPERATOR)
    assert answer.headers["content-disposition"] == 'attachment; filename="2026-10.draft.csv"'
    assert client.get(f"{draft}cloudevents", headers=OPERATOR).status_code == 422


def test_an_unknown_tenant_or_format_is_refused_by_name(client: TestClient) -> None:
    assert "did you mean acme?" in client.get(f"{EXPORT}csv&tenant=acne", headers=OPERATOR).json()["detail"]
    assert "parquet" in client.get(f"{EXPORT}xls", headers=OPERATOR).text
    assert client.get("/v1/bills/2026-09/export", headers=OPERATOR).status_code == 422


def test_lines_that_were_changed_are_a_problem_and_no_file(client: TestClient, warehouse: Warehouse) -> None:
    warehouse.command("ALTER TABLE closed_lines UPDATE amount = 1 WHERE 1 SETTINGS mutations_sync = 1")
    with pytest.raises(LedgerError, match="not those that were closed"):
        client.get(f"{EXPORT}csv", headers=OPERATOR)


def test_each_file_is_an_export_in_the_audit_log(client: TestClient, tmp_path: Path) -> None:
    client.get(f"{EXPORT}parquet", headers=OPERATOR)
    client.get("/v1/bills/2026-09/invoice?tenant=beta", headers=OPERATOR)
    entries = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    exports = [entry for entry in entries if entry["action"] == "export"]
    assert [(entry["subject"], entry["outcome"]) for entry in exports] == [
        ("/v1/bills/2026-09/export", "begun"), ("/v1/bills/2026-09/export", "done"),
        ("/v1/bills/2026-09/invoice", "begun"), ("/v1/bills/2026-09/invoice", "done"),
    ]  # fmt: skip
    assert [entry["rows"] for entry in exports if entry["outcome"] == "done"] == [2, 1]
