"""Another package registers a recording: `wattlog replay NAME` replays it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, wattlog
from tests.producers.recordings.replay import write
from tests.support.paths import ROOT

T0 = 1_700_000_000
PLUGIN = """
from producers.api import Kind, Plugin
from producers.recordings.csv.recording import csv_recording

PLUGIN = Plugin("acme", Kind.RECORDING, "Acme's files", lambda options, environment: csv_recording)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of an installed package with the recording `acme`."""
    info = tmp_path / "acme_files-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-files\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wattlog.producers]\nacme = acme_files:PLUGIN\n")
    (tmp_path / "acme_files.py").write_text(PLUGIN)
    return tmp_path


def replay(package: Path, *args: str | Path) -> Ran:
    return wattlog("replay", *args, cwd=package, PYTHONPATH=os.pathsep.join((str(ROOT), str(package))))


@pytest.mark.slow
def test_files_of_the_plug_in_become_a_ledger(package: Path) -> None:
    tokens = write(
        package / "t.csv", "start,end,tenant,model,prompt_tokens,completion_tokens", f"{T0},{T0 + 4},a,m,1,2"
    )
    power = write(package / "p.csv", "time,gpu,power_w", *(f"{T0 + s},g,100" for s in range(5)))
    ran = replay(package, "acme", tokens, power, "--cluster", "c9", "--json", "--data", package / "data")
    assert ran.status == 0, ran.err
    assert (ran.json["cluster"], ran.json["energy_uj"], ran.json["residual_uj"]) == ("c9", 400_000_000, 0)


def test_the_plug_in_is_listed_beside_the_built_in_ones(package: Path) -> None:
    output = replay(package, "--help").out
    assert [name for name in ("mlperf", "azure", "csv", "acme") if f" {name} " in output] == [
        "mlperf", "azure", "csv", "acme",
    ]  # fmt: skip
    assert "Acme's files" in output


def test_an_unknown_recording_is_refused(package: Path) -> None:
    ran = replay(package, "acmes", "x")
    assert ran.status == 2
    assert "acmes" in ran.err
