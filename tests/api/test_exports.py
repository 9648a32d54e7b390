"""Downloads as CSV have every row, in bounded memory, and one that broke is recognisable."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from contracts.errors import Unavailable
from tests.api.test_page import serving
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.ledger import ledger_queries

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:uvicorn.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets.*"),
]
MANY = {
    "/v1/chargeback?period=all&by=hour,tenant": "energy_uj",
    "/v1/efficiency?period=all&by=tenant": "energy_uj",
    "/v1/ledger?period=all": "energy_uj",
    "/v1/requests?period=all": "energy_uj",
    "/v1/latency?period=all&by=hour,tenant": "tenant",
    "/v1/fleet?period=all": "energy_uj",
    "/v1/usage?period=all": "quantity",
    "/v1/sessions?period=all": "energy_uj",
}
"""Questions, the first ones with more than a page of rows, and a column of their CSV."""


def _json_rows(client: TestClient, url: str) -> Iterator[dict[str, Any]]:
    while url:
        answer = client.get(url)
        yield from answer.json()["rows"]
        url = answer.links["next"]["url"] if "next" in answer.links else ""


def _csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("url", MANY)
def test_a_download_has_the_rows_of_all_pages(client: TestClient, url: str) -> None:
    answer = client.get(f"{url}&format=csv")
    rows, column = _csv_rows(answer.text), MANY[url]
    expected = list(_json_rows(client, f"{url}&limit=10000"))
    assert len(rows) == len(expected) > 0 and "next" not in answer.links
    if column in expected[0]:
        assert [row[column] for row in rows] == [str(row[column]) for row in expected]


def test_downloads_do_not_end_at_a_page(client: TestClient) -> None:
    rows = _csv_rows(client.get("/v1/chargeback?period=all&by=hour,tenant,model&format=csv").text)
    total = client.get("/v1/chargeback?period=all").json()["total"]
    assert len(rows) > 1_000
    assert sum(int(row["energy_uj"]) for row in rows) == total["energy_uj"]
    assert len(_csv_rows(client.get("/v1/ledger?period=all&format=csv").text)) > 3_000


def test_a_limit_is_a_page_of_a_download_with_a_link_to_the_next(client: TestClient) -> None:
    answer = client.get("/v1/chargeback?period=all&by=hour,tenant&format=csv&limit=7")
    assert len(_csv_rows(answer.text)) == 7
    assert len(_csv_rows(client.get(answer.links["next"]["url"]).text)) == 7


def test_a_download_of_nothing_is_a_header(client: TestClient) -> None:
    text = client.get("/v1/chargeback?from=2026-10-31T23:59:59Z&to=2026-10-31T23:59:59.5Z&format=csv").text
    assert text.startswith("tenant,") and text.count("\n") == 1


def test_a_bill_too_large_to_export_is_a_problem_and_no_file(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chargeback_queries, "MAX_EXPORT_ROWS", 10)
    answer = client.get("/v1/chargeback?period=all&by=hour&format=csv")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "by"


def test_a_bill_knows_its_length_before_it_is_sent(client: TestClient) -> None:
    answer = client.get("/v1/chargeback?period=all&by=hour,tenant&format=csv")
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_download_that_breaks_lacks_its_last_chunk(books: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ledger_queries.ledger_rows
    pages = iter(range(2))

    def breaking(*args: Any, **options: Any) -> Any:
        if next(pages, None) is None:
            raise Unavailable("The warehouse went away", "")
        return read(*args, **options)

    monkeypatch.setattr(ledger_queries, "ledger_rows", breaking)
    monkeypatch.setattr("warehouse.cursors.MAX_LIMIT", 1_000)
    with (
        serving(books) as address,
        httpx.Client() as http,
        http.stream("GET", f"{address}/v1/ledger?period=all&format=csv") as answer,
    ):
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


@pytest.mark.slow
def test_many_downloads_at_once_leave_room_for_questions(books: Warehouse) -> None:
    with serving(books) as address, httpx.Client(base_url=address, timeout=60) as http:
        url = "/v1/ledger?period=all&format=csv"
        slow = [http.build_request("GET", url) for _ in range(8)]
        answers = [http.send(request, stream=True) for request in slow]  # nobody reads them
        try:
            assert http.get("/v1/chargeback").status_code == 200
        finally:
            for answer in answers:
                answer.close()
