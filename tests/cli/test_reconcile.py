"""`wattlog reconcile` on a stored ledger and servers' counters: rows are kept, and the command, the API and the metric
tell the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from api.app import create_app
from api.metrics import LedgerCollector
from cli.main import app
from contracts.settings import Settings
from contracts.units import MS_PER_HOUR
from tests.api.conftest import TestClient
from tests.support.ledger_rows import rows
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.sink.sink import Sink

Run = Callable[..., Result]
START = 1_704_067_200_000
HOURS = 96
LOST_FROM = HOURS - 24
"""From this hour on the ledger has seven of eight calls of `chat`."""
METERS = {"server_prompt_tokens": 100, "server_completion_tokens": 40, "server_requests": 1}
"""Tokens per call, by meter."""


def _calls(hour: int) -> int:
    return int(4_000 * (1.2 + np.sin(hour / 24 * 2 * np.pi)))


@pytest.fixture(scope="module")
def ledger(chdb_dsn: str) -> Iterator[Warehouse]:
    """Four days of two workloads, with the counters of their servers, in the folder of `--data`."""
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
    with connect(chdb_dsn) as warehouse:
        migrate(warehouse)
        windows: list[dict[str, Any]] = []
        usage: list[dict[str, Any]] = []
        for hour in range(HOURS):
            for workload in ("chat", "code"):
                at, calls = START + hour * MS_PER_HOUR, _calls(hour)
                counted = calls * 7 // 8 if workload == "chat" and hour >= LOST_FROM else calls
                windows.append(
                    {
                        "window_start": at, "window_ms": MS_PER_HOUR, "workload": workload,
                        "requests": counted,
                        "prompt_tokens": 100 * counted, "completion_tokens": 40 * counted,
                        "active_uj": 3_000_000 * calls + 10**12,
                    }
                )  # fmt: skip
                usage += [
                    {
                        "at": at + MS_PER_HOUR - 1, "t0": at, "t1": at + MS_PER_HOUR, "workload": workload,
                        "tenant": "", "meter": meter, "unit": "tokens", "quantity": [Decimal(per_call * calls)],
                        "log_offset": len(usage), "log_row": number,
                    }
                    for number, (meter, per_call) in enumerate(METERS.items())
                ]  # fmt: skip
        warehouse.insert("ledger", rows("ledger", *windows))
        warehouse.insert("usage", rows("usage", *usage))
        Sink(warehouse).refresh_hours(sorted({window["window_start"] for window in windows}), ["eu"], ["chat", "code"])
        yield warehouse
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


@pytest.fixture
def run(ledger: Warehouse, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"WATTLOG_DATA": str(data_dir)})

    return command


def test_a_loss_is_named_with_its_source_and_kept(run: Run, ledger: Warehouse) -> None:
    result = run("reconcile", "--json")
    body = json.loads(result.stdout)
    assert result.exit_code == 3, result.output
    [finding] = body["findings"]
    assert (finding["kind"], finding["source"], finding["workload"]) == ("lost", "ledger", "chat")
    assert finding["says"].startswith("eu/chat: ledger lacks 13 % of what servers counts: lost (")
    again = json.loads(run("reconcile", "--json").stdout)
    assert again["findings"] == body["findings"]
    (stored,) = ledger.query("SELECT count() AS rows FROM reconciliation FINAL WHERE quantity = 'requests'")
    assert stored["rows"] == 24 * 2 * 2 + 2  # Beside servers, and beside the table of hours; and one day's end.


def test_the_command_says_it_in_words(run: Run) -> None:
    assert "ledger lacks 13 % of what servers counts" in run("reconcile").stdout


def test_api_and_metric_show_the_newest_run(run: Run, ledger: Warehouse) -> None:
    run("reconcile")
    with TestClient(create_app(ledger, Settings()), base_url="http://127.0.0.1:8787") as client:
        body = client.get("/v1/reconciliation?period=all&workload=chat&limit=5").json()
        assert [finding["kind"] for finding in body["findings"]] == ["lost"]
        assert len(body["rows"]) == 5 and body["next"]
        after = client.get("/v1/reconciliation", params={"period": "all", "workload": "chat", "cursor": body["next"]})
        assert body["rows"][-1] not in after.json()["rows"]
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger, lambda: (START + HOURS * MS_PER_HOUR) / 1000))
    line = 'wattlog_reconciliation_findings{cluster="eu",kind="lost",source="ledger",workload="chat"} 1.0'
    assert line in generate_latest(registry).decode()
