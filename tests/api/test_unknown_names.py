"""An unknown name is refused with the nearest one, and an answer says which part of its period the ledger covers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from tests.api.test_auth import SECRET, token

QUESTIONS = (
    "/v1/chargeback", "/v1/efficiency", "/v1/latency", "/v1/ledger", "/v1/requests", "/v1/usage", "/v1/sessions",
    "/v1/forecast", "/v1/anomalies",
)  # fmt: skip


@pytest.mark.parametrize("url", QUESTIONS)
@pytest.mark.parametrize("format_", ["json", "csv"])
def test_an_unknown_tenant_is_refused_with_the_nearest(client: TestClient, url: str, format_: str) -> None:
    answer = client.get(f"{url}?tenant=acmee&format={format_}")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "tenant: 'acmee': the ledger has no tenant of this name; did you mean acme?"


@pytest.mark.parametrize(
    ("query", "field"),
    [("chargeback?cluster=eu-2", "cluster"), ("fleet?cluster=eu-2", "cluster"), ("ledger?workload=chta", "workload"),
     ("ledger?model=llama-71b", "model"), ("usage?cluster=zzz", "cluster")],
)  # fmt: skip
def test_so_are_clusters_workloads_and_models(client: TestClient, query: str, field: str) -> None:
    answer = client.get(f"/v1/{query}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_known_names_without_rows_in_the_period_are_answered(client: TestClient) -> None:
    for query in ("tenant=initech&cluster=eu-1", "tenant=__idle__", "cluster=sim-1&period=latest-hour"):
        assert client.get(f"/v1/chargeback?{query}").status_code == 200, query


def test_another_tenant_and_an_unknown_one_are_refused_alike(open_api: Callable[..., TestClient]) -> None:
    locked, key = open_api(api_jwt_key=SECRET), token(tenant="acme")
    answers = [locked.get(f"/v1/chargeback?tenant={name}", headers=key) for name in ("globex", "nobody")]
    assert answers[0].status_code == answers[1].status_code == 403
    assert answers[0].json() == answers[1].json()


def test_a_cluster_of_other_tenants_and_an_unknown_one_are_refused_alike(open_api: Callable[..., TestClient]) -> None:
    locked, key = open_api(api_jwt_key=SECRET), token(tenant="initech")
    answers = [locked.get(f"/v1/chargeback?cluster={name}", headers=key).json() for name in ("eu-1", "eu-9")]
    assert [answer["status"] for answer in answers] == [422, 422]
    assert answers[0]["detail"].replace("eu-1", "eu-9") == answers[1]["detail"]


def test_a_tenant_without_rows_yet_gets_an_empty_answer(open_api: Callable[..., TestClient]) -> None:
    answer = open_api(api_jwt_key=SECRET).get("/v1/chargeback", headers=token(tenant="tomorrow"))
    assert answer.status_code == 200 and answer.json()["rows"] == []


HELD = "2026-11-01T00:00:00.000Z"
"""The end of the seeded ledger."""


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("period=2026-10", "2026-10-01T00:00:00.000Z", HELD),
        ("from=2026-10-31T00:00:00Z&to=2026-12-01T00:00:00Z", "2026-10-31T00:00:00.000Z", HELD),
        ("from=2020-01-01T00:00:00Z", "2026-09-02T00:00:00.000Z", HELD),
    ],
)
def test_an_answer_says_which_part_of_its_period_is_held(client: TestClient, period: str, start: str, end: str) -> None:
    for route in ("chargeback", "efficiency", "fleet", "latency", "ledger", "requests"):
        answer = client.get(f"/v1/{route}?{period}&limit=1")
        assert answer.json()["coverage"] == {"start": start, "end": end, "time_zone": "UTC"}, route
        assert answer.headers["wattlog-coverage"] == f"{start}/{end}"
    csv = client.get(f"/v1/chargeback?{period}&format=csv")
    assert csv.headers["wattlog-coverage"] == f"{start}/{end}"


def test_a_period_outside_the_ledger_is_marked_as_such(client: TestClient) -> None:
    for period in ("2031-01", "2020-01"):
        answer = client.get(f"/v1/chargeback?period={period}")
        assert answer.json()["coverage"] is None and answer.json()["total"]["cost"] is None
        assert answer.headers["wattlog-coverage"] == "none"
