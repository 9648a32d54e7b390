"""Power loss: with `durable` an acknowledged insert has been synced; without it, no insert has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ledger_rows import row
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S
from warehouse.client import Warehouse
from warehouse.migrate import migrate
from warehouse.sink.durability import SETTINGS, set_durable
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

CHILD = """
import os, sys
from tests.support.ledger_rows import row
from warehouse.client import connect
from warehouse.sink.fence import Fence
from warehouse.migrate import migrate
from warehouse.sink.sink import Sink
with connect(sys.argv[1]) as warehouse:
    migrate(warehouse, durable=sys.argv[2] == "on")
    sink = Sink(warehouse)
    fence = Fence("log", (0,), sink.claim("log", [0], "a"))
    warehouse.command("SYSTEM STOP MERGES")
    for name in ("ledger", "marks"):
        os.path.exists(f"/wattlog-begins-{name}")
        sink.write(name, row(name), fence)
        os.path.exists(f"/wattlog-ends-{name}")
"""


def syncs(warehouse: Warehouse) -> int:
    rows = warehouse.query("SELECT sum(value) AS n FROM system.events WHERE event IN ('FileSync', 'DirectorySync')")
    return int(rows[0]["n"])


def test_migrate_makes_every_table_durable_and_reverts_it(unmigrated: Warehouse) -> None:
    migrate(unmigrated, durable=True)
    tables = unmigrated.ask("sink/durable_tables")
    assert {"ledger", "gpu_energy", "marks", "claims", "ledger_hour", "ledger_day", "prices"} <= {
        t["name"] for t in tables
    }
    assert all(t["synced"] for t in tables)
    migrate(unmigrated)
    assert all(t["synced"] for t in unmigrated.ask("sink/durable_tables"))
    assert set_durable(unmigrated, True) == []
    migrate(unmigrated, durable=False)
    assert not any(t["synced"] for t in unmigrated.ask("sink/durable_tables"))


def test_only_a_durable_write_is_synced_when_it_is_acknowledged(warehouse: Warehouse) -> None:
    sink = Sink(warehouse)
    fence = Fence("log", (0,), sink.claim("log", [0], "a"))
    for durable in (False, True):
        set_durable(warehouse, durable)
        for name in ("gpu_energy", "ledger", "marks"):
            before = syncs(warehouse)
            sink.write(name, row(name), fence)
            assert (syncs(warehouse) - before > 0) == durable, name


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: it shows the system calls")
@pytest.mark.parametrize("durable", [True, False])
def test_the_kernel_syncs_before_a_durable_insert_returns(tmp_path: Path, durable: bool) -> None:
    """Between the calls that frame an insert, strace sees its part synced: file, directory and table's directory."""
    trace = tmp_path / "trace"
    command = [
        "strace", "-f", "-y", "-o", str(trace), "-e", "trace=fsync,fdatasync,stat,newfstatat,statx,access",
        sys.executable, "-c", CHILD, f"chdb://{tmp_path}/w", "on" if durable else "off",
    ]  # fmt: skip
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    if "PTRACE" in process.stderr or "ptrace" in process.stderr:
        pytest.skip("strace may not trace here")
    assert process.returncode == 0, process.stderr[-2000:]
    lines = trace.read_text(errors="replace").splitlines()
    for name in ("ledger", "marks"):
        begins = next(i for i, line in enumerate(lines) if f"wattlog-begins-{name}" in line)
        ends = next(i for i, line in enumerate(lines) if f"wattlog-ends-{name}" in line)
        between = [line for line in lines[begins:ends] if re.search(r"f(data)?sync\(", line) and "/w/" in line]
        assert bool(between) == durable, between
        if durable:
            assert any(re.search(r"/data\.bin>", line) for line in between), between
            assert any("tmp_insert" in line for line in between), between


def test_the_settings_are_clickhouses(warehouse: Warehouse) -> None:
    known = warehouse.query(
        "SELECT name FROM system.merge_tree_settings WHERE name IN {names:Array(String)}", names=list(SETTINGS)
    )
    assert {k["name"] for k in known} == set(SETTINGS)
