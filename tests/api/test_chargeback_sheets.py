"""The chargeback as XLSX: every row, figures as numbers, exact ones beside."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.support.sheets import sheets


def _rows(table: list[list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table[0], row, strict=False)) for row in table[1:]]


def test_a_spreadsheet_has_the_rows_of_json(client: TestClient) -> None:
    address = "/v1/chargeback?period=all&by=tenant,model"
    answer = client.get(f"{address}&format=xlsx")
    assert answer.headers["content-disposition"] == 'attachment; filename="chargeback.xlsx"'
    book = sheets(answer.content)
    expected = client.get(address).json()["rows"]
    assert [row["energy_uj"] for row in _rows(book["Chargeback exact"])] == [str(row["energy_uj"]) for row in expected]
    assert [row["cost"] for row in _rows(book["Chargeback exact"])] == [row["cost"] or "unknown" for row in expected]
    numbers = [row["cost"] for row in _rows(book["Chargeback"])]
    assert numbers == [float(row["cost"]) if row["cost"] else "unknown" for row in expected]


def test_every_row_is_there_and_not_one_page(client: TestClient) -> None:
    book = sheets(client.get("/v1/chargeback?period=all&by=hour,tenant,model&format=xlsx").content)
    assert len(book["Chargeback"]) - 1 > 1_000
    assert {str(row[0]): row[-1] for row in book["Period"]}["time zone"] == "UTC"


def test_an_unknown_tenant_is_refused_and_no_empty_file(client: TestClient) -> None:
    answer = client.get("/v1/chargeback?period=all&tenant=acne&format=xlsx")
    assert answer.status_code == 422
