"""Usage and sessions over HTTP: exact decimals as text, groups as columns, and only the caller's rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from tests.api.test_auth import SECRET, token

DAY = "period=2026-10-31"


def test_usage_is_grouped_by_tenant_meter_and_unit_by_default(client: TestClient) -> None:
    body = client.get(f"/v1/usage?{DAY}&meter=gpu_minutes").json()
    assert body["period"] == {
        "start": "2026-10-31T00:00:00.000Z",
        "end": "2026-11-01T00:00:00.000Z",
        "time_zone": "UTC",
    }
    assert [(r["tenant"], r["unit"], r["quantity"], r["rows"]) for r in body["rows"]] == [
        ("acme", "min", "90.5", 2),
        ("globex", "h", "1", 1),
        ("globex", "min", "15", 1),
        ("initech", "min", "-5", 1),
    ]
    assert body["simulated"] is True
    assert not {"cluster", "workload", "hour", "dimensions"} & body["rows"][0].keys()


def test_usage_is_grouped_by_hour_and_by_a_dimension(client: TestClient) -> None:
    rows = client.get(f"/v1/usage?{DAY}&meter=gpu_minutes&by=dimensions.pod&bucket=hour&tenant=acme").json()["rows"]
    assert [(r["hour"], r["dimensions"], r["quantity"]) for r in rows] == [
        ("2026-10-31T22:00:00Z", {"pod": "p-1"}, "60"),
        ("2026-10-31T22:00:00Z", {"pod": "p-2"}, "30.5"),
    ]


def test_a_dimension_is_a_column_of_its_own_in_csv(client: TestClient) -> None:
    answer = client.get(f"/v1/usage?{DAY}&meter=gpu_minutes&by=tenant,dimensions.pod&format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == ["tenant", "dimensions.pod", "meter", "unit", "quantity", "rows", "simulated"]
    assert [r["dimensions.pod"] for r in rows] == ["p-1", "p-2", "", "", ""]


def test_the_next_link_leads_through_every_page(client: TestClient) -> None:
    all_rows = client.get(f"/v1/usage?{DAY}&by=tenant,workload").json()["rows"]
    rows, url = [], f"/v1/usage?{DAY}&by=tenant,workload&limit=3"
    while url:
        answer = client.get(url)
        rows += answer.json()["rows"]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert rows == all_rows and len(rows) > 6


@pytest.mark.parametrize(
    ("query", "field"),
    [("by=model", "by"), ("by=dimensions.", "by"), ("bucket=decade", "bucket"), ("limit=0", "limit")],
)
def test_an_invalid_query_is_a_problem(client: TestClient, query: str, field: str) -> None:
    answer = client.get(f"/v1/usage?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in [e["field"] for e in answer.json()["errors"]]


def test_a_session_has_all_its_parts(client: TestClient) -> None:
    body = client.get("/v1/sessions/s-1?tenant=acme").json()
    requests = client.get("/v1/requests?period=all&session_id=s-1&tenant=acme").json()["rows"]
    assert body["energy_uj"] == sum(r["energy_uj"] for r in requests)
    assert body["requests"] == len(requests)
    assert body["tool_calls"] == "3"
    assert body["spend"] == [
        {"currency": "EUR", "amount": "0.5"},
        {"currency": "USD", "amount": "0.012500000001"},
    ]
    assert [(s["trace_id"], s["step"]) for s in body["steps"]] == [
        ("", ""), ("t-1", "plan"), ("t-1", "act"), ("t-1", ""),
    ]  # fmt: skip
    assert type(body["cost"]) is str and body["currency"] == "USD"


def test_an_ambiguous_session_needs_its_tenant(client: TestClient) -> None:
    answer = client.get("/v1/sessions/s-1")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "tenant")


def test_an_unknown_session_is_a_problem(client: TestClient) -> None:
    assert client.get("/v1/sessions/none").json()["errors"][0]["field"] == "session_id"


def test_sessions_of_a_period_are_listed(client: TestClient) -> None:
    rows = client.get("/v1/sessions?period=all&tenant=acme").json()["rows"]
    assert [(r["tenant"], r["session_id"], r["usage_rows"]) for r in rows] == [("acme", "s-1", 4)]
    assert client.get("/v1/sessions?period=all&format=csv").text.splitlines()[0].startswith("tenant,session_id,first")


def test_sessions_have_a_note_where_workers_store_no_requests(open_api: Callable[..., TestClient]) -> None:
    assert "WATTLOG_REQUESTS=none" in open_api(requests="none").get("/v1/sessions").json()["note"]
    assert open_api().get("/v1/sessions").json()["note"] is None


def test_a_tenant_sees_only_its_own_usage_and_sessions(open_api: Callable[..., TestClient]) -> None:
    locked = open_api(api_jwt_key=SECRET)
    globex = token(tenant="globex")
    for url in (f"/v1/usage?{DAY}", "/v1/sessions?period=all"):
        rows = locked.get(url, headers=globex).json()["rows"]
        assert {r["tenant"] for r in rows} == {"globex"}, url
    assert locked.get("/v1/sessions/s-1", headers=globex).json()["tenant"] == "globex"
    grouped = locked.get(f"/v1/usage?{DAY}&by=workload", headers=globex).json()["rows"]
    assert {(r["workload"], r["quantity"]) for r in grouped} == {("chat", "15"), ("chat", "1")}
    for url in (f"/v1/usage?{DAY}&tenant=acme", "/v1/sessions?tenant=acme", "/v1/sessions/s-1?tenant=acme"):
        assert locked.get(url, headers=globex).status_code == 403, url
