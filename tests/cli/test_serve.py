"""`wattlog serve` over a warehouse that is not migrated."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import wattlog


def test_serve_refuses_to_start_before_the_migration(tmp_path: Path) -> None:
    ran = wattlog("serve", "--data", tmp_path / "data", "--port", "0")
    assert ran.status != 0
    assert "Run `wattlog migrate`" in ran.err or "run `wattlog migrate`" in ran.err
