"""The program of docs/access.md verifies an audit log without Wattlog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from access.audit_chain import verify
from access.audit_log import AuditLog
from tests.project.fences import blocks
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S


def ran(log: Path) -> subprocess.CompletedProcess[str]:
    [program] = (block.body for block in blocks((ROOT / "docs/access.md").read_text("utf-8")) if "python" in block.info)
    command = [sys.executable, "-I", "-c", program, str(log)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)


def test_a_stranger_gets_the_head_or_the_first_line_that_does_not_follow(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for query in ("day=1", 'größer "als"\n\ud800', "x"):
        AuditLog(path).record("ann@desk", "export", "chargeback", "done", query=query)
    with path.open("rb") as file:
        head = verify(file).link.head
    assert (ran(path).returncode, ran(path).stdout) == (0, f"{head}\n")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"ann", b"bob") + lines[2])
    assert ran(path).stderr == "line 2 was changed or cut off\n"
    path.write_bytes(lines[0] + lines[2])
    assert ran(path).stderr == "line 2 does not follow the line before it\n"
    path.write_bytes(b"".join(lines)[:-9])
    assert ran(path).stderr == "line 3 was changed or cut off\n"
