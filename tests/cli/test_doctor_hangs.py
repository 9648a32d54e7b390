"""`wattlog doctor` beside servers that accept connections and never answer: each check ends, with a finding."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.health_checks import run_checks
from contracts.settings import Settings


@pytest.fixture
def silent_address() -> Iterator[str]:
    """An address that accepts connections, into its backlog, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_every_check_ends_with_a_finding_where_nothing_answers(
    silent_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    settings = Settings(kafka_bootstrap=silent_address, warehouse_dsn=f"http://default@{silent_address}", data=tmp_path)
    findings = {finding.check: finding for finding in run_checks(settings, limit_s=0.2)}
    for check in ("broker", "warehouse"):
        assert findings[check].state == "failed"
        assert "no whole answer within 0.2 s" in findings[check].says
    assert findings["api"].state == "ok"
