"""Reference data over the API: listed as files have it, imported as a whole, and in the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from contracts.settings import Settings
from tests.api.conftest import LOOPBACK
from warehouse.client import Warehouse
from warehouse.reference_data.prices import list_prices

HEADER = "kind,cluster,value,valid_from,valid_to\n"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def api(warehouse: Warehouse, tmp_path: Path) -> Iterator[TestClient]:
    """An open API on loopback over an empty ledger."""
    settings = Settings(audit_log=tmp_path / "audit.jsonl", currency="EUR")
    with TestClient(create_app(warehouse, settings), base_url=LOOPBACK) as client:
        yield client


def test_an_import_is_stored_reported_and_in_the_audit_log(
    api: TestClient, warehouse: Warehouse, tmp_path: Path
) -> None:
    body = HEADER + "energy,eu,0.1,2027-01-01,\n"
    dry = api.post("/v1/reference/prices?new=true&dry_run=true", content=body, headers=CSV).json()
    assert (dry["stored"], dry["added"], list_prices(warehouse)) == (False, 1, [])
    answer = api.post("/v1/reference/prices?new=true", content=body, headers=CSV).json()
    assert (answer["stored"], answer["added"], len(list_prices(warehouse))) == (True, 1, 1)
    entries = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert [(entry["action"], entry["outcome"], entry["added"]) for entry in entries] == [
        ("prices.import", "begun", 1), ("prices.import", "done", 1),
    ]  # fmt: skip


def test_a_listing_is_paged_and_imports_back_without_a_difference(api: TestClient) -> None:
    body = HEADER + "".join(f"energy,eu,0.{n},2027-01-0{n},\n" for n in range(1, 4))
    api.post("/v1/reference/prices?new=true", content=body, headers=CSV)
    first = api.get("/v1/reference/prices?cluster=eu&limit=2").json()
    second = api.get("/v1/reference/prices?cluster=eu&limit=2&cursor=" + first["next"]).json()
    rows = first["rows"] + second["rows"]
    assert [(row["value"], row["currency"]) for row in rows] == [("0.1", "EUR"), ("0.2", "EUR"), ("0.3", "EUR")]
    assert second["next"] is None
    for content, kind in (
        (json.dumps(rows), "application/json"), (api.get("/v1/reference/prices?format=csv").text, "text/csv")
    ):  # fmt: skip
        again = api.post("/v1/reference/prices?replace=true", content=content, headers={"Content-Type": kind}).json()
        assert (again["unchanged"], again["changes"]) == (3, [])
    at = api.get("/v1/reference/prices?at=2027-01-02T12:00:00Z").json()
    assert [row["value"] for row in at["rows"]] == ["0.2"]


def test_each_wrong_line_is_an_error_of_the_problem(api: TestClient) -> None:
    body = HEADER + "energy,eu,x,2027-01-01,\nenergy,eu,1,now,\n"
    answer = api.post("/v1/reference/prices?new=true", content=body, headers=CSV)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["line 2, value", "line 3, valid_from"]


def test_a_removal_needs_yes(api: TestClient, warehouse: Warehouse) -> None:
    rows = "energy,eu,0.1,2027-01-01,\npue,eu,1.1,2027-01-01,\n"
    api.post("/v1/reference/prices?new=true", content=HEADER + rows, headers=CSV)
    fewer = HEADER + "energy,eu,0.1,2027-01-01,\n"
    refused = api.post("/v1/reference/prices?replace=true", content=fewer, headers=CSV)
    assert refused.json()["errors"] == [
        {"field": "yes", "detail": "not stored: it removes 1 of the stored rows. Give yes=true if that is meant"}
    ]
    assert api.post("/v1/reference/prices?replace=true&yes=true", content=fewer, headers=CSV).json()["removed"] == 1
    assert len(list_prices(warehouse)) == 1


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_that_a_page_of_another_site_could_send_is_refused(kind: str, api: TestClient) -> None:
    answer = api.post("/v1/reference/prices?new=true", content=HEADER.encode(), headers={"Content-Type": kind})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Content-Type"


def test_a_filter_without_its_field_is_refused(api: TestClient) -> None:
    answer = api.get("/v1/reference/tenants?cluster=eu")
    assert answer.status_code == 422
    assert "tenants have no cluster" in answer.json()["detail"]
