"""Commands that read, over folders without a ledger or with one that is not migrated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import wattlog


def test_serve_refuses_to_start_before_the_migration(tmp_path: Path) -> None:
    (tmp_path / "data" / "warehouse").mkdir(parents=True)
    ran = wattlog("serve", "--data", tmp_path / "data", "--port", "0")
    assert ran.status != 0
    assert "Run `wattlog migrate`" in ran.err or "run `wattlog migrate`" in ran.err


READERS = (
    "serve", "chargeback", "usage", "session s-1", "sessions", "fleet", "efficiency", "latency", "anomalies",
    "forecast", "audit", "reconcile", "explain acme", "price", "sql SELECT",
)  # fmt: skip


@pytest.mark.parametrize("command", READERS)
def test_a_reader_of_a_misspelt_folder_creates_nothing_and_names_it(command: str, tmp_path: Path) -> None:
    ran = wattlog(*command.split(), "--data", tmp_path / "typo")
    assert ran.status == 2
    assert f"There is no ledger in {tmp_path / 'typo'}. Give the folder of one with --data" in ran.err
    assert not (tmp_path / "typo").exists()
