"""A replay ends well only if bills hold it: hours and days, which are computed after the windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import wattlog
from tests.producers.recordings.replay import write

T0 = 1_760_954_400
SLOW = """
import streams.startup, time
from warehouse.sink.sink import Sink
streams.startup.EMBEDDED_STOP_WAIT_S = 0.05
refresh = Sink.refresh_hours
def slow(*args):
    time.sleep(2)
    refresh(*args)
Sink.refresh_hours = slow
"""
NEVER = """
import cli.log_feed
from contracts.errors import Unavailable
from warehouse.sink.sink import Sink
cli.log_feed.STALL_S = 2
def refuse(*args):
    raise Unavailable("the test refuses hours", "Wait.")
Sink.refresh_hours = refuse
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str | Path]:
    """Arguments of a replay of 4,000 J into the folder `data`."""
    tokens = write(
        tmp_path / "t.csv", "start,end,tenant,model,prompt_tokens,completion_tokens", f"{T0},{T0 + 9},a,m,1,2"
    )
    power = write(tmp_path / "p.csv", "time,gpu,power_w", *(f"{T0 + s},g,100" for s in range(41)))
    return ["replay", "csv", "--tokens", tokens, "--power", power, "--data", tmp_path / "data"]


def billed_uj(data: Path) -> int:
    rows = wattlog(
        "chargeback", "--json", "--from", "2025-10-20T00:00:00Z", "--to", "2025-10-21T00:00:00Z", "--data", data
    )
    assert rows.status == 0, rows.err
    return sum(row["energy_uj"] for row in rows.json["rows"])


@pytest.mark.slow
def test_a_slow_computation_of_hours_delays_the_end_of_a_replay(files: list[str | Path], tmp_path: Path) -> None:
    ran = wattlog(*files, fault=SLOW)
    assert ran.status == 0, ran.err
    assert wattlog("audit", "--data", tmp_path / "data").status == 0
    assert billed_uj(tmp_path / "data") == 4_000_000_000


@pytest.mark.slow
def test_a_replay_whose_hours_are_missing_fails_and_leaves_the_ledger_as_it_was(
    files: list[str | Path], tmp_path: Path
) -> None:
    ran = wattlog(*files, fault=NEVER)
    assert ran.status == 1
    assert "hours lack 4,000,000,000 µJ; bills read hours" in ran.err
    assert "replay again" in ran.err
    assert "residual 0" not in ran.out
    assert billed_uj(tmp_path / "data") == 0
    assert "over 0 windows" in wattlog("audit", "--data", tmp_path / "data").out
    assert wattlog(*files).status == 0
    assert billed_uj(tmp_path / "data") == 4_000_000_000
    assert wattlog("audit", "--data", tmp_path / "data").status == 0
