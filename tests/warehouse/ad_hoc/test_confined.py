"""Questions of the embedded engine run in a child: its rows, its bounds, and what it cannot reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from contracts.errors import BadQuery
from tests.support.ledger_rows import rows
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S
from warehouse.ad_hoc import confined, copies
from warehouse.ad_hoc.answers import Bounds
from warehouse.ad_hoc.confined import ask_child
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.read_only_sql import read_only
from warehouse.reader import LedgerReader, operator_reader, tenant_reader


@pytest.fixture(scope="module")
def warehouse(chdb_dsn: str) -> Iterator[Warehouse]:
    """One warehouse for all tests of this module: none of them changes it."""
    with connect(chdb_dsn, database="confined") as warehouse:
        migrate(warehouse)
        warehouse.insert("ledger", rows("ledger", {"tenant": "a", "active_uj": 1}, {"tenant": "b", "active_uj": 2}))
        yield warehouse
        warehouse.command("DROP DATABASE confined")


@pytest.fixture
def operator(warehouse: Warehouse) -> LedgerReader:
    return operator_reader(warehouse)


def test_an_operator_reads_all_rows_and_a_tenant_its_own(warehouse: Warehouse, operator: LedgerReader) -> None:
    sql = "SELECT tenant, active_uj FROM ledger FINAL PREWHERE active_uj > 0 ORDER BY tenant"
    assert read_only(operator, sql) == (["tenant", "active_uj"], [("a", 1), ("b", 2)])
    assert read_only(tenant_reader(warehouse, "b"), sql) == (["tenant", "active_uj"], [("b", 2)])
    assert read_only(tenant_reader(warehouse, "nobody"), sql) == (["tenant", "active_uj"], [])


def test_a_tenant_has_the_tables_of_tenants_and_of_prices_only(warehouse: Warehouse, operator: LedgerReader) -> None:
    names = {row[0] for row in read_only(tenant_reader(warehouse, "a"), "SHOW TABLES")[1]}
    assert names == copies.FOR_TENANTS
    assert names < {row[0] for row in read_only(operator, "SHOW TABLES")[1]}
    with pytest.raises(BadQuery, match="gpu_energy"):
        read_only(tenant_reader(warehouse, "a"), "SELECT count() FROM gpu_energy")


def test_values_keep_their_types(operator: LedgerReader) -> None:
    columns, (values,) = read_only(
        operator,
        "SELECT toInt64(-9007199254740993) AS i, toDecimal64('0.10', 9) AS d, 1.5 AS f, inf AS n, 'é' AS s, "
        "NULL AS u, [1, 2] AS a, map('k', 1) AS m, toDateTime64('2024-01-01 12:00:00.5', 3, 'UTC') AS t, "
        "toDate('2024-01-01') AS y",
    )
    assert str(values[1]) == "0.100000000"
    assert columns == ["i", "d", "f", "n", "s", "u", "a", "m", "t", "y"]
    assert values == (
        -9007199254740993, Decimal("0.10"), 1.5, float("inf"), "é", None, [1, 2], {"k": 1},
        datetime(2024, 1, 1, 12, 0, 0, 500_000, UTC), date(2024, 1, 1),
    )  # fmt: skip


def test_more_rows_than_the_limit_are_refused_not_cut_off(operator: LedgerReader) -> None:
    with pytest.raises(BadQuery, match="Limit for result exceeded"):
        read_only(operator, "SELECT number FROM numbers(11)", limit_rows=10)
    assert len(read_only(operator, "SELECT number FROM numbers(11)", limit_rows=11)[1]) == 11


BOMBS = {
    "time": "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)",
    "time while it is explained": "EXPLAIN SELECT (SELECT sum(sipHash64(number)) FROM numbers(1000000000000))",
    "memory of an aggregate": "SELECT groupArray(number) FROM numbers(10000000000)",
    "memory of a constant": "SELECT length(repeat(repeat('x', 1000000), 100000))",
    "memory of an array": "SELECT length(range(toUInt64(400000000)))",
    "bytes of its answer": "SELECT repeat('x', 1000000) FROM numbers(10000)",
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_question_that_takes_too_much_is_stopped(operator: LedgerReader, bomb: str) -> None:
    with pytest.raises(BadQuery, match=r"(?i)timeout|memory|limit|too large|exceed"):
        ask_child(operator, BOMBS[bomb], Bounds(timeout_s=1, bytes=1_000_000))


def test_a_child_that_hangs_is_killed(operator: LedgerReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "LOAD_S", 0)
    monkeypatch.setattr(confined, "_START", "import time; time.sleep(1000)")
    with pytest.raises(BadQuery, match="longer than 1 s"):
        ask_child(operator, "SELECT 1", Bounds(timeout_s=1))


def test_tables_too_large_to_copy_are_refused(operator: LedgerReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MAX_COPY_BYTES", 10)
    with pytest.raises(BadQuery, match="too much to copy"):
        read_only(operator, "SELECT count() FROM ledger")
    assert read_only(operator, "SELECT 1 AS one") == (["one"], [(1,)])


def test_copies_are_private_and_removed(
    operator: LedgerReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes = []

    def record(sql: str, task: dict[str, object], _: Bounds) -> dict[str, object]:
        modes.append(Path(str(task["folder"])).stat().st_mode & 0o777)
        return {"refusal": "seen"}

    monkeypatch.setattr(confined, "_run", record)
    with pytest.raises(BadQuery, match="seen"):
        read_only(operator, "SELECT count() FROM ledger")
    assert modes == [0o700]
    assert list(tmp_path.iterdir()) == []


def in_child(code: str, folder: Path) -> list[object]:
    """Values that Python code prints as JSON, one a line, in a child that is confined as a question's is."""
    start = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
from warehouse.ad_hoc.child import confine_to
from warehouse.ad_hoc.confined import limits
from warehouse.ad_hoc.answers import Bounds
confined = confine_to({str(folder)!r}, limits(Bounds(timeout_s=1)))
def attempt(do):
    try:
        print(json.dumps(do()))
    except Exception as error:
        print(json.dumps(type(error).__name__))
{code}
"""
    process = subprocess.run(
        [sys.executable, "-I", "-c", start], env={}, cwd=folder, capture_output=True, text=True, timeout=HANG_S
    )
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_a_child_opens_no_file_of_the_host_and_no_connection(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("marked")
    folder = tmp_path / "own"
    folder.mkdir()
    code = f"""
print(json.dumps(confined))
attempt(lambda: open({str(outside)!r}).read())
attempt(lambda: open("/etc/passwd").read()[:4])
attempt(lambda: open("/proc/{os.getpid()}/environ").read()[:4])
attempt(lambda: os.listdir("/"))
attempt(lambda: os.execv("/bin/true", ["true"]))
attempt(lambda: open("own.txt", "w").write("x"))
import socket
attempt(lambda: socket.create_connection(("127.0.0.1", 9), 1))
"""
    landlock, *attempts = in_child(code, folder)
    if not landlock:
        pytest.skip("this kernel has no Landlock")
    assert attempts == ["PermissionError"] * 5 + [1, "PermissionError"]


def test_a_child_has_no_environment_and_none_of_its_parents_files(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        environment, files = in_child(
            "for v in sorted(os.environ), os.listdir('/proc/self/fd'):\n    print(json.dumps(v))", tmp_path
        )
    finally:
        os.close(descriptor)
    assert environment in ([], ["LC_CTYPE"], ["TMPDIR"], ["LC_CTYPE", "TMPDIR"])
    assert str(descriptor) not in files
