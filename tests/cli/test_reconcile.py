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
from cli.up_reconciliation import HourlyReconciliation
from contracts.settings import Settings
from contracts.units import MS_PER_HOUR
from tests.api.conftest import TestClient
from tests.support.ledger_rows import rows
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.reader import operator_reader
from warehouse.reconciliation.records import newest_run
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
            at, gpus_uj = START + hour * MS_PER_HOUR, 3_000_000 * _calls(hour) + 10**12
            windows.append(
                {
                    "window_start": at, "window_ms": MS_PER_HOUR, "workload": "code", "hardware": "wall less GPUs",
                    "requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "active_uj": gpus_uj // 3,
                }
            )  # fmt: skip
            usage += [
                {
                    "at": at + MS_PER_HOUR - 1, "t0": at, "t1": at + MS_PER_HOUR, "workload": workload, "tenant": "",
                    "meter": meter, "unit": "uJ", "quantity": [Decimal(energy_uj)],
                    "dimensions": [{"node": "n1", "zone": zone}], "log_offset": len(usage), "log_row": number,
                }
                for number, (workload, meter, zone, energy_uj) in enumerate(
                    (
                        ("code", "gpu_watts_energy_uj", "", gpus_uj - 5_000),
                        ("code", "gpu_unwatched_energy_uj", "", 5_000),
                        ("~n1", "host_energy_uj", "accel0", gpus_uj),
                        ("~n1", "host_energy_uj", "node", 2 * gpus_uj),
                        ("~n1", "host_energy_uj", "package-0", gpus_uj // 5),
                        ("~n1", "host_energy_uj", "psys", 7 * gpus_uj),
                    )
                )
            ]  # fmt: skip
        begin, end = START + (HOURS - 14) * MS_PER_HOUR, START + (HOURS - 10) * MS_PER_HOUR
        usage += [
            {
                "at": end - 1, "t0": begin + 30 * 60_000, "t1": end, "workload": "slurm/gpu", "tenant": "acme",
                "meter": "job_energy_uj", "unit": "uJ", "quantity": [Decimal(10**13)], "log_offset": len(usage),
                "dimensions": [{"node_list": node_list}], "log_row": number,
            }
            for number, node_list in enumerate(("n1", "n[1-2]"))
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


def test_gpus_are_compared_with_each_other_witness_of_their_energy(run: Run, ledger: Warehouse) -> None:
    run("reconcile")
    compared = ledger.query(
        "SELECT workload, concat(first_source, '/', second_source) AS pair, count() AS hours, "
        "max(abs(second_amount - first_amount)) AS most FROM reconciliation FINAL "
        "WHERE quantity = 'energy_uj' AND first_source IN ('GPUs', 'counter') GROUP BY workload, pair"
    )
    assert {(r["workload"], r["pair"], r["hours"]) for r in compared} == {
        ("code", "counter/watts", 24), ("code", "GPUs/wall", 24),
        ("slurm/gpu", "GPUs/Slurm", 1),
        ("~n1", "GPUs/wall", 24), ("~n1", "GPUs/accelerators", 24), ("~n1", "GPUs/host", 24),
    }  # fmt: skip
    assert {r["most"] for r in compared if r["pair"] in ("counter/watts", "GPUs/accelerators")} == {0}
    (job,) = ledger.query("SELECT first_amount, second_amount FROM reconciliation FINAL WHERE workload = 'slurm/gpu'")
    # Of a job whose other node has no agent, nothing is known. The first hour of four counts in half.
    hours = [3_000_000 * _calls(hour) + 10**12 for hour in range(HOURS - 14, HOURS - 10)]
    assert job == {"first_amount": sum(hours) - hours[0] // 2, "second_amount": 10**13}


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


def test_a_running_node_compares_once_an_hour_and_warns_of_a_finding_once(run: Run, ledger: Warehouse) -> None:
    reader, warnings = operator_reader(ledger), list[str]()
    hourly = HourlyReconciliation(warnings.append)
    begin_ms = (newest_run(reader).run_at or START) + MS_PER_HOUR
    runs = []
    for minutes in (0, 30, 59, 60, 119, 120):
        hourly.run_if_due(reader, begin_ms + minutes * 60_000)
        runs.append(((newest_run(reader).run_at or 0) - begin_ms) // 60_000)
    assert runs == [0, 0, 0, 60, 60, 120]
    (warning,) = warnings
    assert warning.startswith("two sources differ: eu/chat: ledger lacks 13 % of what servers counts")
