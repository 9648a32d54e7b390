"""A query parameter that a route does not have is refused by name, on every route."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

PATHS = {"cluster": "eu-1", "workload": "chat", "window_start": "2026-10-31T22:00:00Z", "session_id": "s-1",
         "request_id": "r-1", "kind": "prices", "month": "2026-10"}  # fmt: skip
"""Values of the parameters in addresses."""


def _operations(client: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method, path.format(**PATHS), operation


def test_every_route_refuses_a_parameter_that_it_does_not_have(client: TestClient) -> None:
    body = {"query": "SELECT 1"}
    operations = list(_operations(client))
    assert len(operations) > 15
    for method, address, _ in operations:
        answer = client.request(method, f"{address}?nonsense=1", **({"json": body} if method == "post" else {}))
        assert answer.status_code == 422, address
        assert [error["field"] for error in answer.json()["errors"]] == ["nonsense"], address


def test_every_parameter_of_every_route_is_suggested_for_its_own_misspelling(client: TestClient) -> None:
    for method, address, operation in _operations(client):
        for parameter in operation.get("parameters", []):
            name = parameter["name"]
            if parameter["in"] == "query" and len(name) > 3:
                misspelt = name[:2] + name[1:]
                answer = client.request(method, f"{address}?{misspelt}=x")
                assert answer.status_code == 422
                assert answer.json()["detail"] == f"{misspelt}: did you mean {name}?", address


@pytest.mark.parametrize("address", ["/", "/static/app.js", "/healthz", "/readyz"])
def test_a_route_without_parameters_says_so(client: TestClient, address: str) -> None:
    assert "this takes no parameters" in client.get(f"{address}?v=1").json()["detail"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("tennant=acme", "tennant: did you mean tenant?"),
        ("Tenant=acme", "Tenant: did you mean tenant?"),
        ("tenant=acme&tenant=globex", "tenant: give it once"),
        ("zzz=1", "zzz: there is no such parameter; there are boundary, by, cluster, "),
        ("tenent=a&clustre=b", "tenent: did you mean tenant?; clustre: did you mean cluster?"),
    ],
)
def test_a_misspelt_filter_never_bills_the_whole_fleet(client: TestClient, query: str, detail: str) -> None:
    answer = client.get(f"/v1/chargeback?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(detail)


def test_a_parameter_that_takes_several_values_may_be_repeated(client: TestClient) -> None:
    assert client.get("/v1/anomalies?measure=energy&measure=tokens").status_code == 200


def test_a_problem_names_a_bounded_number_of_parameters(client: TestClient) -> None:
    answer = client.get("/v1/chargeback?" + "&".join(f"x{n}{'y' * 300}=1" for n in range(20)))
    assert len(answer.json()["errors"]) == 8 and len(answer.text) < 6_000


def test_a_caller_without_a_credential_learns_that_first(open_api: Callable[..., TestClient]) -> None:
    closed = open_api(api_jwt_key="0123456789-abcdefghij-KLMNOPQRST")
    assert closed.get("/v1/chargeback?tennant=acme").status_code == 401
