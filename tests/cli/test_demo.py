"""`wattlog demo` makes a ledger that balances and is the same each time; queries on it have known answers."""

from __future__ import annotations

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from producers.simulation.events import SimulatedFleet
from producers.simulation.history import history
from tests.cli.conftest import ROOT, DemoRun, wattlog
from tests.support.waiting import HANG_S


def test_the_demo_balances_to_the_microjoule(demo: DemoRun) -> None:
    a = demo.answer
    assert a["measured_uj"] == a["active_uj"] + a["idle_uj"] + a["unallocated_uj"]
    assert a["residual_uj"] == 0
    assert a["unallocated_uj"] > 0


def test_the_rows_sum_to_the_measured_energy(demo: DemoRun) -> None:
    assert sum(row["energy_uj"] for row in demo.answer["ledger"]) == demo.answer["measured_uj"]


def test_energies_are_integers_and_money_is_text(demo: DemoRun) -> None:
    for row in demo.answer["ledger"]:
        assert isinstance(row["energy_uj"], int)
        assert isinstance(row["cost"], str) and Decimal(row["cost"]) > 0
        assert {"tenant", "tokens", "joules_per_token"} <= row.keys()


def test_every_tenant_of_the_fleet_has_a_row(demo: DemoRun) -> None:
    tenants = {row["tenant"] for row in demo.answer["ledger"]}
    assert tenants == {t.name for t in SimulatedFleet(1).spec.tenants} | {"__unallocated__"}


def test_the_demo_is_marked_simulated(demo: DemoRun) -> None:
    assert demo.answer["simulated"] is True
    assert "SIMULATED" in demo.ran.err


def test_data_is_on_stdout_and_progress_on_stderr(demo: DemoRun) -> None:
    for part in ("event log", "warehouse", "worker", "history", "API and page", "stream"):
        assert f"✓ {part}" in demo.ran.err
    assert "✓" not in demo.ran.out


@pytest.mark.slow
def test_a_seed_determines_the_ledger(demo: DemoRun, tmp_path: Path) -> None:
    again = wattlog("demo", "--exit", "--json", "--data", tmp_path / "again", "--port", "0").json
    other = wattlog("demo", "--exit", "--json", "--data", tmp_path / "again", "--port", "0", "--seed", "2").json
    assert again == demo.answer
    assert other["ledger_sha256"] != demo.answer["ledger_sha256"]
    assert other["residual_uj"] == 0


def test_an_audit_after_the_demo_finds_no_residual(demo: DemoRun) -> None:
    ran = wattlog("audit", "--json", "--data", demo.data)
    assert ran.status == 0
    assert ran.json["residual_uj"] == 0
    assert ran.json["sequence_gaps"] == 0
    assert ran.json["coverage_ratio"] == pytest.approx(1, abs=0.001)
    assert ran.json["windows"] > 2_916 * 8


@pytest.mark.slow
def test_the_planted_anomalies_are_found(demo: DemoRun) -> None:
    anomalies = wattlog("anomalies", "--json", "--data", demo.data).json
    episodes = anomalies["episodes"]
    from cli.demo_history import HISTORY_START_MS, LIVE_START_MS
    from contracts.units import epoch_ms

    for planted in history(1, HISTORY_START_MS, end_ms=LIVE_START_MS).planted:
        assert any(epoch_ms(e["start"]) < planted.end_ms and epoch_ms(e["end"]) > planted.start_ms for e in episodes), (
            planted.note
        )


@pytest.mark.slow
def test_a_real_cluster_of_the_same_name_is_never_replaced(tmp_path: Path) -> None:
    code = (
        "import sys; from warehouse.client import connect; from warehouse.migrate import migrate;"
        "from contracts.rows import SCHEMAS, conform;"
        "w = connect(f'chdb://{sys.argv[1]}/warehouse'); migrate(w);"
        "row = {c: 'us-east' if k == 'text' else 1 for c, k in SCHEMAS['ledger'].items()};"
        "w.insert('ledger', conform('ledger', row | {'deleted': 0})); w.close()"
    )
    (tmp_path / "real").mkdir()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "real")], cwd=ROOT, check=True, timeout=HANG_S)
    ran = wattlog("demo", "--exit", "--data", tmp_path / "real", "--port", "0")
    assert ran.status == 2
    assert "us-east" in ran.err and "--data" in ran.err


@pytest.mark.slow
def test_the_demo_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from cli.main import main; main()",
        "demo",
        "--data",
        str(tmp_path / "d"),
        "--port",
        "0",
    ]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    seen = []
    for text in running.stdout:
        seen.append(text)
        if "Ctrl-C" in text:
            break
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=HANG_S)
    assert running.returncode == 0, errors
    output = "".join(seen)
    assert "residual 0 µJ" in output
    assert "http://127.0.0.1:" in output
    assert "SIMULATED" in output
    assert "Traceback" not in errors
