"""High cardinality in a worker of its own: the ledger balances, within the stated memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.streams.flood import AS_IN_THE_IMAGE, ROOT
from tests.support.waiting import HANG_S


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "keys"), [("tenants", 16_000), ("workloads", 20_000)])
def test_high_cardinality_ends_balanced_within_the_stated_memory(kind: str, keys: int) -> None:
    arguments = ["--keys", str(keys), "--windows", "2", "--max-open-rows", "10000"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.streams.flood", kind, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    result = json.loads(run.stdout)
    assert result["balanced"], result
    if kind == "workloads":  # The tenants' messages are so few that all may be in memory at once.
        assert result["windows_closed_early"] > 0
        assert "max_open_rows (10000) is met" in run.stderr
    assert result["peak_mb"] <= result["allowed_mb"], result


def test_memory_is_measured_with_the_allocator_of_the_image() -> None:
    dockerfile = Path(ROOT, "Dockerfile").read_text("utf-8")
    assert all(f"{name}={value}" in dockerfile for name, value in AS_IN_THE_IMAGE.items())
