"""`chat` on the gateway, `llama` on the agents: bills leave the cost open, and audit, doctor and metrics name both."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from api.metrics import LedgerCollector
from cli.main import app
from contracts.units import MS_PER_HOUR
from tests.support.ledger_rows import HOUR, rows
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.reference_data.prices import Price, put_prices
from warehouse.sink.sink import Sink

Run = Callable[..., Result]
QUESTION = "workload eu/chat has tokens and no GPU, workload eu/llama has GPUs and no tokens: the same?"
LINES = ("[[produce.litellm.deployments]]", 'model = "llama-3"', 'workload = "llama"')
CHAT: dict[str, Any] = {
    "workload": "chat", "model": "llama-3", "hardware": "", "method": 3, "prompt_tokens": 90, "completion_tokens": 10,
    "requests": 1,
}  # fmt: skip
LLAMA: dict[str, Any] = {"workload": "llama", "model": "", "tenant": "lab", "idle_uj": 3_600_000_000_000}


@pytest.fixture(scope="module")
def ledger(chdb_dsn: str) -> Iterator[Warehouse]:
    """An hour of both workloads, in the folder of `--data`."""
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
    with connect(chdb_dsn) as warehouse:
        migrate(warehouse)
        warehouse.insert("ledger", rows("ledger", CHAT, LLAMA))
        of_facts = {name: CHAT[name] for name in CHAT if name not in ("hardware", "method")}
        warehouse.insert("token_usage", rows("token_usage", of_facts))
        energy = {"workload": "llama", "energy_uj": LLAMA["idle_uj"]}
        warehouse.insert("gpu_energy", rows("gpu_energy", energy))
        source = {"topic": "wattlog.tokens.v1", "source": "litellm://eu/gw/chat", "received": 1}
        warehouse.insert("sources", rows("sources", source))
        Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat", "llama"])
        put_prices(warehouse, [Price("energy", "*", Decimal(2), currency="USD"), Price("pue", "*", Decimal(1))])
        yield warehouse
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


@pytest.fixture
def run(ledger: Warehouse, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"WATTLOG_DATA": str(data_dir)})

    return command


def test_a_table_shows_an_open_cost_and_how_many_tokens_have_none(run: Run) -> None:
    result = run("chargeback")
    header, acme = (next(line for line in result.stdout.splitlines() if word in line) for word in ("tenant", "acme"))
    assert "unmetered tokens" in header
    assert acme.split() == ["acme", "100", "1", "-", "-", "-", "-", "100", "1"]
    assert "100 of 100 tokens (1 request) have no measured energy" in result.stderr


def test_csv_and_json_leave_it_empty(run: Run) -> None:
    acme, lab = csv.DictReader(io.StringIO(run("chargeback", "--format", "csv").stdout))
    assert [acme[name] for name in ("kwh", "kwh_facility", "cost", "gco2", "unmetered_tokens")] == [
        "",
        "",
        "",
        "",
        "100",
    ]
    assert (lab["cost"], lab["unmetered_tokens"], acme["unmetered_tokens"]) == ("2.000000", "0", "100")
    body = json.loads(run("chargeback", "--json").stdout)
    assert (body["rows"][0]["cost"], body["total"]["cost"], body["total"]["unmetered_tokens"]) == (
        None,
        "2.000000",
        100,
    )


def test_measured_microjoules_are_integers_in_csv_and_json_that_add_up(run: Run) -> None:
    acme, lab = csv.DictReader(io.StringIO(run("chargeback", "--format", "csv").stdout))
    assert (acme["energy_uj"], lab["energy_uj"]) == ("0", str(LLAMA["idle_uj"]))
    body = json.loads(run("chargeback", "--json").stdout)
    amounts = [int(row["energy_uj"]) for row in body["rows"]]
    assert (sum(amounts), amounts[0]) == (int(body["total"]["energy_uj"]), 0)


def test_an_explanation_says_that_nothing_was_measured(run: Run) -> None:
    assert "no energy of this workload was measured in the window: its cost is open" in run("explain", "acme").stdout


def test_a_strict_audit_fails_and_asks_whether_they_are_the_same(run: Run) -> None:
    assert run("audit", "--patience", "0").exit_code == 0
    strict = run("audit", "--strict", "--patience", "0")
    assert strict.exit_code == 3
    assert QUESTION in strict.stdout and all(f"    {line}\n" in strict.stdout for line in LINES)


def test_doctor_fails_with_the_line_that_joins_them(run: Run) -> None:
    result = run("doctor", "--json")
    [finding] = [finding for finding in json.loads(result.stdout) if finding["check"] == "names"]
    assert (result.exit_code, finding["state"]) == (1, "failed")
    assert finding["says"].startswith(QUESTION) and "\n".join(LINES) in finding["hint"]


def test_doctor_and_a_metric_name_workloads_with_calls_of_no_tenant(run: Run, ledger: Warehouse) -> None:
    unnamed = {**CHAT, "tenant": "unknown", "workload": "code", "window_start": HOUR}
    ledger.insert("ledger", rows("ledger", unnamed))
    Sink(ledger).refresh_hours([HOUR], ["eu"], ["code"])
    findings = json.loads(run("doctor", "--json").stdout)
    [finding] = [finding for finding in findings if finding["check"] == "tenants"]
    assert finding["state"] == "note"
    assert finding["says"] == "unknown pays for 1 request of workload eu/code in a day: the sender named no tenant"
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger, lambda: (HOUR + MS_PER_HOUR) / 1000))
    line = 'wattlog_workload_unnamed_tenant_requests{cluster="eu",workload="code"} 1.0'
    assert line in generate_latest(registry).decode()


def test_the_metric_of_the_alert_names_both(ledger: Warehouse) -> None:
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger, lambda: (HOUR + MS_PER_HOUR) / 1000))
    line = 'wattlog_workload_unmetered_requests{cluster="eu",with_gpus="llama",workload="chat"} 1.0'
    assert line in generate_latest(registry).decode()
