"""`wattlog usage`, `session` and `sessions` print the API's answers for people, programs and spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

from tests.cli.test_reports import Run, ledger, run

__all__ = ["ledger", "run"]

DAY = ("--period", "2026-10-31")


def test_a_table_of_usage_has_groups_meters_units_and_is_marked_simulated(run: Run) -> None:
    out = run("usage", *DAY, "--by", "tenant,dimensions.pod", "--meter", "gpu_minutes", "--bucket", "hour").stdout
    for word in ("tenant", "dimensions.pod", "quantity", "p-1", "30.5", "2026-10-31T22:00:00Z", "SIMULATED"):
        assert word in out
    assert "SIMULATED" not in run("usage", *DAY, "--cluster", "eu-1").stdout


def test_usage_as_json_and_csv_is_exact(run: Run) -> None:
    body = json.loads(run("usage", *DAY, "--json", "--meter", "external_spend").stdout)
    assert [(r["tenant"], r["quantity"], r["unit"]) for r in body["rows"]] == [("acme", "0.012500000001", "USD")]
    rows = list(csv.DictReader(io.StringIO(run("usage", *DAY, "--format", "csv", "--by", "meter").stdout)))
    assert [(r["meter"], r["unit"]) for r in rows][:2] == [("cpu_minutes", "min"), ("external_spend", "USD")]


def test_a_truncated_table_has_a_note_on_stderr(run: Run) -> None:
    assert "--limit" in run("usage", *DAY, "--limit", "2").stderr


def test_a_session_is_shown_for_people(run: Run) -> None:
    out = run("session", "s-1", "--tenant", "acme").stdout
    for word in ("session s-1", "of acme", "tool calls     3", "0.5 EUR", "plan", "t-1", "Steps"):
        assert word in out, out


def test_the_parts_of_a_session_in_csv_sum_to_its_total(run: Run) -> None:
    body = json.loads(run("session", "s-1", "--tenant", "acme", "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(run("session", "s-1", "--tenant", "acme", "--format", "csv").stdout)))

    def total(meter: str) -> Decimal:
        return sum((Decimal(r["quantity"]) for r in rows if r["meter"] == meter), Decimal(0))

    assert total("energy_uj") == body["energy_uj"]
    assert total("energy_cost") == Decimal(body["cost"])
    assert total("tool_calls") == Decimal(body["tool_calls"])


def test_an_ambiguous_session_needs_its_tenant(run: Run) -> None:
    result = run("session", "s-1")
    assert result.exit_code == 2 and "several tenants" in result.stderr


def test_sessions_of_a_period_are_listed(run: Run) -> None:
    assert "s-1" in run("sessions", "--period", "all", "--tenant", "acme").stdout
    (row,) = json.loads(run("sessions", "--period", "all", "--tenant", "acme", "--json").stdout)["rows"]
    assert (row["tenant"], row["session_id"]) == ("acme", "s-1")
    assert run("sessions", "--period", "all", "--format", "csv").stdout.startswith("tenant,session_id,")


def test_sessions_have_a_note_where_single_requests_are_not_stored(run: Run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WATTLOG_REQUESTS", "none")
    assert "WATTLOG_REQUESTS=none" in run("sessions", "--period", "all").stderr
