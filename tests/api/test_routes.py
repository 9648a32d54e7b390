"""The answers of each route, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from contracts.units import epoch_ms
from tests.api.test_auth import SECRET, token
from tests.support import seeded_ledger as seed
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

OCTOBER = Period(epoch_ms("2026-10-01"), seed.END_MS)


def test_the_bill_of_a_month_has_the_rows_of_the_read_with_exact_types(client: TestClient, books: Warehouse) -> None:
    body = client.get("/v1/chargeback").json()
    expected = chargeback_queries.chargeback(operator_reader(books), OCTOBER).rows
    assert body["period"] == {
        "start": "2026-10-01T00:00:00.000Z",
        "end": "2026-11-01T00:00:00.000Z",
        "time_zone": "UTC",
    }
    assert [(r["tenant"], r["energy_uj"], r["cost"]) for r in body["rows"]] == [
        (r.tenant, r.energy_uj, str(r.cost)) for r in expected
    ]
    assert all(type(r["energy_uj"]) is int and type(r["cost"]) is str and type(r["kwh"]) is str for r in body["rows"])


def test_days_and_months_are_those_of_the_zone_that_the_question_names(client: TestClient) -> None:
    for query, days in (("", "2026-10-31"), ("&tz=Asia/Kolkata", "2026-11-01"), ("&tz=America/New_York", "2026-10-31")):
        body = client.get(f"/v1/chargeback?by=day&cluster=eu-1&period=all{query}").json()
        assert {row["day"] for row in body["rows"]} == {days}
    body = client.get("/v1/chargeback?period=2026-10&tz=Asia/Kolkata").json()
    assert body["period"] == {
        "start": "2026-09-30T18:30:00.000Z", "end": "2026-10-31T18:30:00.000Z", "time_zone": "Asia/Kolkata",
    }  # fmt: skip
    refused = client.get("/v1/chargeback?tz=Europe/Lisbn")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "tz")
    assert "Europe/Lisbon" in refused.text


def test_rows_sum_to_the_total_to_the_last_digit(client: TestClient) -> None:
    body = client.get("/v1/chargeback", params={"by": "day,tenant,model"}).json()
    assert sum(Decimal(r["cost"]) for r in body["rows"]) == Decimal(body["total"]["cost"])
    assert sum(r["energy_uj"] for r in body["rows"]) == body["total"]["energy_uj"]


def test_only_the_requested_dimensions_are_columns(client: TestClient) -> None:
    row = client.get("/v1/chargeback?by=team,model").json()["rows"][0]
    assert "team" in row and "model" in row
    assert not {"tenant", "hour", "cluster"} & row.keys()


def test_simulated_rows_are_marked_and_measured_rows_are_not(client: TestClient) -> None:
    assert client.get("/v1/chargeback?cluster=sim-1").json()["simulated"] is True
    assert client.get("/v1/chargeback?cluster=eu-1").json()["simulated"] is False


@pytest.mark.parametrize(
    ("query", "accept"), [("&format=csv", "*/*"), ("", "text/csv"), ("", "application/json;q=0.5, text/csv")]
)
def test_csv_is_chosen_by_format_or_accept_and_has_the_same_values(client: TestClient, query: str, accept: str) -> None:
    answer = client.get(f"/v1/chargeback?by=tenant{query}", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    rows = client.get("/v1/chargeback?by=tenant").json()["rows"]
    assert [(r["tenant"], r["cost"], int(r["energy_uj"])) for r in lines] == [
        (r["tenant"], r["cost"], r["energy_uj"]) for r in rows
    ]
    assert lines[0]["joules_per_token"] == ""  # unallocated GPUs have no tokens


def test_json_wins_a_tie_and_format_wins_over_accept(client: TestClient) -> None:
    both = {"Accept": "text/csv, application/json"}
    assert client.get("/v1/chargeback", headers=both).headers["content-type"] == "application/json"
    forced = client.get("/v1/chargeback?format=json", headers={"Accept": "text/csv"})
    assert forced.headers["content-type"] == "application/json"


def test_the_next_link_leads_through_every_page(client: TestClient) -> None:
    all_rows = client.get("/v1/ledger?period=latest-hour&tenant=acme&limit=10000").json()["rows"]
    rows, url = [], "/v1/ledger?period=latest-hour&tenant=acme&limit=400"
    while url:
        answer = client.get(url)
        rows += answer.json()["rows"]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert rows == all_rows and len(rows) == 1080


def test_the_newest_windows_come_in_pages_and_as_csv_all_at_once(client: TestClient) -> None:
    rows, url = [], "/v1/latest?limit=50"
    while url:
        answer = client.get(url)
        rows += answer.json()["rows"]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert rows == client.get("/v1/latest").json()["rows"]
    assert len(client.get("/v1/latest?format=csv").text.splitlines()) == len(rows) + 1


def test_a_bill_leads_to_its_windows_and_a_window_to_its_gpus(client: TestClient) -> None:
    row = client.get("/v1/ledger?period=latest-hour&tenant=acme&workload=code&limit=1").json()["rows"][0]
    path = f"/v1/ledger/{row['cluster']}/{row['workload']}/{row['window_start']}/intervals"
    intervals = client.get(path).json()["rows"]
    assert {i["gpu_uuid"] for i in intervals} == {"GPU-c", "GPU-d"}
    assert all(i["window_start"] == row["window_start"] for i in intervals)


def test_a_node_may_stand_in_for_a_workload(client: TestClient) -> None:
    intervals = client.get("/v1/ledger/eu-1/~n3/2026-10-31T22:00:00.000Z/intervals").json()["rows"]
    assert [i["gpu_uuid"] for i in intervals] == ["GPU-e"]


def test_efficiency_is_over_time(client: TestClient) -> None:
    rows = client.get("/v1/efficiency?by=model&bucket=hour&cluster=eu-1&period=latest-day").json()["rows"]
    assert [(r["hour"], r["model"]) for r in rows if r["model"] == "coder-32b"] == [
        ("2026-10-31T22:00:00Z", "coder-32b"),
        ("2026-10-31T23:00:00Z", "coder-32b"),
    ]
    assert all(r["joules_per_token"] for r in rows if r["model"])


def test_figures_per_million_tokens_are_in_bills_and_efficiency_where_asked_for(client: TestClient) -> None:
    field = "cost_per_million_output"
    bill = client.get("/v1/chargeback?cluster=eu-1&period=latest-day&per_million=true").json()
    assert {row["tenant"]: row[field] is not None for row in bill["rows"]} == {
        "__unallocated__": False, "acme": True, "globex": True,
    }  # fmt: skip
    assert bill["total"]["joules_per_million_cached"] == 0
    header = client.get("/v1/efficiency?per_million=true&format=csv&limit=1").text.splitlines()[0]
    assert field in header.split(",")
    for plain in (
        client.get("/v1/chargeback"),
        client.get("/v1/efficiency?limit=1"),
        client.get("/v1/chargeback?format=csv"),
    ):
        assert "per_million" not in plain.text


def test_figures_of_money_per_million_are_withheld_with_the_cost(open_api: Callable[..., TestClient]) -> None:
    locked = open_api(api_jwt_key=SECRET)
    body = locked.get("/v1/efficiency?per_million=true&limit=5", headers=token(role="viewer")).json()
    assert {"cost", "cost_per_million_input", "cost_per_million_cached", "cost_per_million_output"} == set(
        body["withheld"]
    )
    assert all(row["cost_per_million_output"] is None for row in body["rows"])
    assert any(row["joules_per_million_output"] for row in body["rows"])


def test_the_fleet_is_grouped_over_time_and_compared(client: TestClient) -> None:
    by_cluster = client.get("/v1/fleet?by=cluster,hardware&period=latest-day").json()
    assert [(row["cluster"], row["gpus"]) for row in by_cluster["rows"]] == [("eu-1", 2), ("eu-1", 3), ("sim-1", 2)]
    assert by_cluster["total"]["gpus"] == 7 and "node" not in by_cluster["rows"][0]
    days = client.get("/v1/fleet?bucket=day&cluster=eu-1&format=csv").text.splitlines()
    assert days[0].startswith("day,gpus,energy_uj") and days[1].startswith("2026-10-31,5,")
    compared = client.get("/v1/fleet?compare=sim-1&cluster=eu-1&by=hardware&period=latest-day").json()
    assert {row["hardware"]: row["other_gpus"] for row in compared["rows"]} == {"A100": 0, "B200": 2, "H100": 0}
    for query, field in (("by=nodes", "by"), ("by=node,model", "by"), ("bucket=day&compare=all", "bucket")):
        answer = client.get(f"/v1/fleet?{query}")
        assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == field, query


def test_fleet_requests_latest_and_explain_have_answers(client: TestClient) -> None:
    assert len(client.get("/v1/fleet?cluster=eu-1").json()["rows"]) == 4
    assert {r["session_id"] for r in client.get("/v1/requests?session_id=s-1").json()["rows"]} == {"s-1"}
    assert client.get("/v1/latest?tenant=acme").json()["rows"][0]["tenant"] == "acme"
    explained = client.get("/v1/explain?tenant=acme&window=latest").json()
    assert explained["window_start"] == "2026-10-31T23:59:50.000Z"
    assert {p["kind"] for p in explained["parts"][0]["prices"]} == {"energy", "pue", "carbon"}


def test_requests_have_a_note_where_workers_do_not_store_them(open_api: Callable[..., TestClient]) -> None:
    noted = open_api(requests="none").get("/v1/requests?limit=1").json()
    assert "WATTLOG_REQUESTS=none" in noted["note"]
    assert len(noted["rows"]) == 1  # Earlier rows remain until they expire.
    assert open_api().get("/v1/requests?limit=1").json() == {**noted, "note": None}


def test_the_ledger_balances_where_single_requests_are_not_stored(open_api: Callable[..., TestClient]) -> None:
    assert open_api(requests="none").get("/v1/balance").json() == open_api().get("/v1/balance").json()


def test_the_ledger_balances(client: TestClient) -> None:
    body = client.get("/v1/balance").json()
    assert body["residual_uj"] == 0
    assert body["measured_uj"] == body["active_uj"] + body["idle_uj"] + body["unallocated_uj"]
    assert body["simulated"] is True


def test_a_forecast_has_ordered_intervals_and_a_backtest(client: TestClient) -> None:
    (row,) = client.get("/v1/forecast?measure=energy&horizon=10").json()["rows"]
    assert row["unit"] == "kWh" and row["simulated"] is True and len(row["steps"]) == 10
    assert row["steps"][0]["time"] == "2026-11-01T00:00:00.000Z"
    for step in row["steps"]:
        assert step["lower_95"] <= step["lower_80"] <= step["mean"] <= step["upper_80"] <= step["upper_95"]
    assert {"seasonal_naive", "run_rate"} <= {score["model"] for score in row["backtest"]}
    assert row["next_month"]["start"] == "2026-12-01T00:00:00.000Z"


def test_a_forecast_is_withheld_where_history_is_short(client: TestClient) -> None:
    (row,) = client.get("/v1/forecast?by=tenant&tenant=acme").json()["rows"]
    assert row["steps"] == [] and "too short" in row["withheld"]


def test_the_same_query_gives_the_same_forecast(client: TestClient) -> None:
    assert client.get("/v1/forecast?horizon=5").json() == client.get("/v1/forecast?horizon=5").json()


def test_anomalies_name_the_number_of_judged_series_and_the_skipped_ones(client: TestClient) -> None:
    body = client.get("/v1/anomalies?measure=cost&measure=joules_per_token").json()
    assert body["judged"] >= 2
    assert {"measure": "cost", "key": "acme"}.items() <= next(w for w in body["withheld"] if w["key"] == "acme").items()


FILES = {"/v1/bills/{month}/export", "/v1/bills/{month}/invoice"}
"""Routes that answer with a file, not with JSON."""


def test_the_document_describes_every_route_with_examples(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["info"]["title"] == "Wattlog"
    for path, methods in document["paths"].items():
        if path.startswith("/v1/"):
            content = methods["get"]["responses"]["200"]["content"]
            answers = list(content.values()) if path in FILES else [content["application/json"]]
            assert any("example" in answer for answer in answers) and all("schema" in answer for answer in answers), (
                path
            )
            assert {"422", "503", "401"} <= methods["get"]["responses"].keys(), path
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_examples_fit_the_schemas(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        if path.startswith("/v1/") and path not in FILES:
            answer = methods["get"]["responses"]["200"]["content"]["application/json"]
            schema = {**answer["schema"], "components": document["components"]}
            jsonschema_rs.validate(schema, answer["example"])


@pytest.mark.parametrize("route", ["chargeback", "efficiency"])
def test_an_answer_within_a_boundary_says_which_clusters_have_less(client: TestClient, route: str) -> None:
    measured, hosts = (client.get(f"/v1/{route}{query}").json() for query in ("", "?boundary=host"))
    assert (measured["boundary"], measured["clusters_outside"]) == (None, [])
    assert measured["clusters_excluded"] == hosts["clusters_excluded"] == []
    assert (hosts["boundary"], hosts["clusters_outside"]) == ("host", ["eu-1", "sim-1"])
    assert hosts["rows"] == measured["rows"]
    assert all((row["host_uj"], row["wall_uj"]) == (0, 0) for row in hosts["rows"])


@pytest.mark.parametrize("route", ["chargeback", "efficiency"])
@pytest.mark.parametrize(("query", "boundary"), [("", "all"), ("&boundary=host", "host")])
def test_csv_ends_with_the_boundary(client: TestClient, route: str, query: str, boundary: str) -> None:
    header, *lines = client.get(f"/v1/{route}?format=csv{query}").text.splitlines()
    assert header.endswith(",boundary")
    assert lines and all(line.endswith(f",{boundary}") for line in lines)


def test_an_unknown_boundary_is_a_problem_that_names_it(client: TestClient) -> None:
    answer = client.get("/v1/chargeback?boundary=rack")
    assert answer.status_code == 422
    assert "boundary" in answer.text


def test_the_balance_has_the_equation_of_each_part(client: TestClient) -> None:
    body = client.get("/v1/balance").json()
    names = ("measured_uj", "active_uj", "idle_uj", "unallocated_uj", "residual_uj")
    assert body["parts"] == {"gpu": {name: body[name] for name in names}}
