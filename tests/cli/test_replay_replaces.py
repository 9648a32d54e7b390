"""A replay takes the place of the windows that it fills, and of no others, once all of it is stored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT, Ran, wattlog
from tests.producers.recordings.replay import write
from tests.support.waiting import HANG_S

OCTOBER = 1_760_954_400
NOVEMBER = OCTOBER + 31 * 86_400
TOKENS = "start,end,tenant,model,prompt_tokens,completion_tokens"


def recording(folder: Path, name: str, start_s: int, *, tenant: str = "acme", watts: object = 100) -> list[Path | str]:
    """Arguments of a replay of 40 s: one request, and a GPU that draws these watts."""
    tokens = write(folder / f"{name}-t.csv", TOKENS, f"{start_s},{start_s + 40},{tenant},m,1,2")
    power = write(folder / f"{name}-p.csv", "time,gpu,power_w", *(f"{start_s + s},g,{watts}" for s in range(0, 41, 10)))
    return ["replay", "csv", "--tokens", tokens, "--power", power, "--data", folder / "data"]


def bill(folder: Path) -> dict[str, int]:
    """Microjoules by tenant, as bills say."""
    ran = wattlog("chargeback", "--json", "--from", "2025-10-01", "--to", "2025-12-01", "--data", folder / "data")
    assert ran.status == 0, ran.err
    return {row["tenant"]: row["energy_uj"] for row in ran.json["rows"]}


def assert_balanced(folder: Path) -> None:
    ran = wattlog("audit", "--data", folder / "data")
    assert ran.status == 0, ran.out


def assert_replayed(ran: Ran) -> None:
    assert ran.status == 0, ran.err
    assert "residual       0 µJ" in ran.out


@pytest.mark.slow
def test_recordings_of_other_times_stay_and_another_one_of_the_same_time_needs_the_option(tmp_path: Path) -> None:
    october = recording(tmp_path, "october", OCTOBER)
    assert_replayed(wattlog(*october))
    # It begins where the first one ended: no window is shared.
    assert_replayed(wattlog(*recording(tmp_path, "next", OCTOBER + 40, watts=200)))
    assert_replayed(wattlog(*recording(tmp_path, "november", NOVEMBER, watts=300)))
    assert bill(tmp_path) == {"acme": 40 * 600_000_000}
    assert_replayed(wattlog(*october))
    corrected = recording(tmp_path, "corrected", OCTOBER, tenant="globex", watts=50)
    refused = wattlog(*corrected)
    assert refused.status == 2
    for part in ("csv", "2025-10-20T10:00:00.000Z", "2025-10-20T10:00:40.000Z", "--replace", "october-t"):
        assert part in refused.err.replace("\n", "")
    assert bill(tmp_path) == {"acme": 40 * 600_000_000}
    assert_replayed(wattlog(*corrected, "--replace"))
    assert bill(tmp_path) == {"acme": 40 * 500_000_000, "globex": 40 * 50_000_000}
    assert_balanced(tmp_path)


KILLED = """
import os
import warehouse.ledger.staging as staging
def die(*args, **fragments):
    os._exit(9)
staging.{} = die
"""


@pytest.mark.slow
def test_a_killed_replay_leaves_the_old_rows_or_is_completed(tmp_path: Path) -> None:
    assert_replayed(wattlog(*recording(tmp_path, "old", OCTOBER)))
    new = [*recording(tmp_path, "new", OCTOBER, tenant="globex", watts=50), "--replace"]
    assert wattlog(*new, fault=KILLED.format("compute_owed_hours")).status == 9
    assert bill(tmp_path) == {"acme": 4_000_000_000}
    assert wattlog(*new, fault=KILLED.format("Sink")).status == 9
    assert bill(tmp_path) == {"globex": 2_000_000_000}
    assert_balanced(tmp_path)


@pytest.mark.slow
def test_refused_rows_replace_nothing_and_tokens_without_energy_are_unmetered(tmp_path: Path) -> None:
    old = recording(tmp_path, "old", OCTOBER)
    assert_replayed(wattlog(*old))
    write(tmp_path / "old-t.csv", TOKENS, f"{OCTOBER},{OCTOBER - 4},acme,m,1,2")
    write(tmp_path / "old-p.csv", "time,gpu,power_w", f"{OCTOBER},g,x", f"{OCTOBER + 1},g,y")
    assert wattlog(*old, "--replace").status != 0
    assert bill(tmp_path) == {"acme": 4_000_000_000}
    write(tmp_path / "old-t.csv", TOKENS, f"{NOVEMBER},{NOVEMBER + 4},acme,m,1,2")
    write(tmp_path / "old-p.csv", "time,gpu,power_w", f"{OCTOBER + 86_400},g,10", f"{OCTOBER + 86_401},g,10")
    ran = wattlog(*old, "--workload", "other")
    assert_replayed(ran)
    assert "J/token        unmetered" in ran.out


HANGING = """
import time
from warehouse.sink.sink import Sink
Sink.refresh_hours = lambda *args: (print("hours", flush=True), time.sleep(10_000))
"""


@pytest.mark.slow
def test_a_signal_ends_a_replay_whose_warehouse_hangs(tmp_path: Path) -> None:
    args = list(map(str, recording(tmp_path, "old", OCTOBER)))
    code = f"{HANGING}\nfrom cli.main import main; main()"
    command: list[Any] = [sys.executable, "-c", code, *args]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "hours\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(HANG_S) == 128 + signal.SIGTERM
    assert bill(tmp_path) == {}
