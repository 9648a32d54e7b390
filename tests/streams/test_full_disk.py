"""A full disk, for real: a warehouse on a disk of 48 MB that a file has filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import HANG_S


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small disk is a tmpfs, which only root may mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk is a tmpfs, and none can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_worker_waits_for_a_full_disk_and_loses_nothing(small_disk: Path) -> None:
    """In a process of its own, because one process may open one embedded warehouse."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.streams.full_disk", str(small_disk)], cwd=ROOT,
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["refused"] >= 2
    assert result["committed_while_full"] == []
    assert result["committed"] > 0
    assert result["exact"]
    assert "disk_full" in process.stderr
    assert "Free space on the server's disk" in process.stderr
