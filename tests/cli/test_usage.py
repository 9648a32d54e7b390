"""`wattlog usage`, `session`, `sessions`: what the API answers, for people, programs and sheets."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

from tests.cli.test_reports import Run, ledger, run

__all__ = ["ledger", "run"]

DAY = ("--period", "2026-10-31")


def test_usage_as_a_table_has_groups_meters_units_and_says_simulated(run: Run) -> None:
    out = run("usage", *DAY, "--by", "tenant,dimensions.pod", "--meter", "gpu_minutes", "--bucket", "hour").stdout
    for word in ("tenant", "dimensions.pod", "quantity", "p-1", "30.5", "2026-10-31T22:00:00Z", "SIMULATED"):
        assert word in out
    assert "SIMULATED" not in run("usage", *DAY, "--cluster", "eu-1").stdout


def test_usage_as_json_and_csv_is_exact(run: Run) -> None:
    body = json.loads(run("usage", *DAY, "--json", "--meter", "external_spend").stdout)
    assert [(r["tenant"], r["quantity"], r["unit"]) for r in body["rows"]] == [("acme", "0.012500000001", "USD")]
    rows = list(csv.DictReader(io.StringIO(run("usage", *DAY, "--format", "csv", "--by", "meter").stdout)))
    assert [(r["meter"], r["unit"]) for r in rows][:2] == [("cpu_minutes", "min"), ("external_spend", "USD")]


def test_more_usage_than_the_limit_is_told_on_stderr(run: Run) -> None:
    assert "--limit" in run("usage", *DAY, "--limit", "2").stderr


def test_a_session_for_people(run: Run) -> None:
    out = run("session", "s-1", "--tenant", "acme").stdout
    for word in ("session s-1", "of acme", "tool calls     3", "0.5 EUR", "plan", "t-1", "Steps"):
        assert word in out, out


def test_a_session_as_csv_sums_to_itself(run: Run) -> None:
    body = json.loads(run("session", "s-1", "--tenant", "acme", "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(run("session", "s-1", "--tenant", "acme", "--format", "csv").stdout)))

    def total(meter: str) -> Decimal:
        return sum((Decimal(r["quantity"]) for r in rows if r["meter"] == meter), Decimal(0))

    assert total("energy_uj") == body["energy_uj"]
    assert total("energy_cost") == Decimal(body["cost"])
    assert total("tool_calls") == Decimal(body["tool_calls"])


def test_whose_session_it_is_must_be_said(run: Run) -> None:
    result = run("session", "s-1")
    assert result.exit_code == 2 and "several tenants" in result.stderr


def test_sessions_of_a_period(run: Run) -> None:
    assert "s-1" in run("sessions", "--period", "all", "--tenant", "acme").stdout
    (row,) = json.loads(run("sessions", "--period", "all", "--tenant", "acme", "--json").stdout)["rows"]
    assert (row["tenant"], row["session_id"]) == ("acme", "s-1")
    assert run("sessions", "--period", "all", "--format", "csv").stdout.startswith("tenant,session_id,")


def test_sessions_without_single_requests_say_so(run: Run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WATTLOG_REQUESTS", "none")
    assert "WATTLOG_REQUESTS=none" in run("sessions", "--period", "all").stderr
