"""Refusals of the warehouse have a reason and a fix; a write whose answer is lost is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from contracts.errors import Fenced, Unavailable
from contracts.rows import SCHEMAS
from tests.support.clickhouse_http import Fault, Faults, serve
from tests.support.ledger_rows import row
from warehouse.client import Warehouse, connect
from warehouse.error_codes import refusal
from warehouse.migrate import migrate
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

TEXTS = {
    243: "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)",
    252: "Too many parts (3000 with average size of 1.00 KiB) in table 'wattlog.ledger'. Merges are processing "
    "significantly slower than inserts. (TOO_MANY_PARTS)",
    241: "(total) memory limit exceeded: would use 1.8 GiB (attempt to allocate chunk). (MEMORY_LIMIT_EXCEEDED)",
    159: "Timeout exceeded: elapsed 60.1 seconds, maximum: 60. (TIMEOUT_EXCEEDED)",
    242: "Table is in readonly mode (replica path: /clickhouse/tables/1/replicas/1). (TABLE_IS_READ_ONLY)",
    202: "Too many simultaneous queries. Maximum: 100. (TOO_MANY_SIMULTANEOUS_QUERIES)",
    285: "Number of alive replicas (1) is less than requested quorum (2/3). (TOO_FEW_LIVE_REPLICAS)",
    999: "Session expired. (KEEPER_EXCEPTION)",
    1001: "std::exception. Code: 1001, type: std::__1::__fs::filesystem::filesystem_error, e.what() = filesystem "
    "error: in create_directory: No space left on device. (STD_EXCEPTION)",
    75: "Cannot write to file: , errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)",
}
PASSING = {
    243: "disk_full", 252: "too_many_parts", 241: "memory", 159: "timeout", 242: "read_only", 202: "busy",
    285: "replicas", 999: "replicas", 1001: "disk_full", 75: "disk_full",
}  # fmt: skip
LASTING = {
    60: "no_table",
    81: "no_table",
    516: "no_access",
    497: "no_access",
    16: "mismatch",
    53: "mismatch",
    49: "other",
}


@pytest.fixture(scope="module")
def dsn(chdb_dsn: str) -> str:
    """The tables are created in chdb; requests over HTTP go through `over_http`."""
    return chdb_dsn


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def over_http(warehouse: Warehouse, chdb_root: Path, faults: Faults) -> Iterator[Warehouse]:
    """The test's warehouse through an endpoint with these `faults`."""
    with serve(chdb_root, faults) as address, connect(f"{address}/{warehouse.database}") as client:
        yield client


def write(warehouse: Warehouse, *, fenced: bool) -> None:
    sink = Sink(warehouse)
    if fenced:
        sink.write("ledger", row("ledger"), Fence("log", (0,), 1))
    else:
        sink.write("ledger", row("ledger"))


@pytest.mark.parametrize("fenced", [False, True])
def test_a_refusal_has_a_reason_and_a_fix(over_http: Warehouse, faults: Faults, fenced: bool) -> None:
    Sink(over_http).claim("log", [0], "a")
    for code, reason in (PASSING | LASTING).items():
        faults.queue.append(Fault(code, TEXTS.get(code, "simulated")))
        with pytest.raises(Unavailable) as caught:
            write(over_http, fenced=fenced)
        assert (caught.value.reason, caught.value.lasting) == (reason, code in LASTING)
        assert caught.value.hint in str(caught.value)
    write(over_http, fenced=fenced)


def test_a_write_that_did_not_reach_the_server_is_transient(over_http: Warehouse, faults: Faults) -> None:
    Sink(over_http).claim("log", [0], "a")
    for fault in (Fault(), Fault(status=502), Fault(status=503), Fault(status=429)):
        faults.queue.append(fault)
        with pytest.raises(Unavailable) as caught:
            write(over_http, fenced=True)
        assert (caught.value.reason, caught.value.lasting) == ("away", False)


def test_a_write_whose_answer_is_lost_is_repeated_without_change(over_http: Warehouse, faults: Faults) -> None:
    sink = Sink(over_http)
    fence = Fence("log", (0,), sink.claim("log", [0], "a"))
    for name in SCHEMAS:
        faults.queue.extend([Fault(applied=True), Fault(status=504, applied=True)])
        for _ in range(2):
            with pytest.raises(Unavailable):
                sink.write(name, row(name), fence)
            assert over_http.query(f"SELECT count() AS n FROM {name} FINAL") == [{"n": 1}]
        sink.write(name, row(name), fence)
        assert over_http.query(f"SELECT count() AS n FROM {name} FINAL") == [{"n": 1}]


def test_a_claim_whose_answer_is_lost_may_be_repeated(over_http: Warehouse, faults: Faults) -> None:
    sink = Sink(over_http)
    faults.queue.append(Fault(applied=True))
    with pytest.raises(Unavailable):
        sink.claim("log", [0], "a")
    epoch = sink.claim("log", [0], "a")
    sink.write("ledger", row("ledger"), Fence("log", (0,), epoch))
    with pytest.raises(Fenced):
        sink.write("ledger", row("ledger"), Fence("log", (0,), epoch - 1))


def test_a_query_without_an_answer_is_unavailable_and_a_wrong_one_is_an_error(
    over_http: Warehouse, faults: Faults
) -> None:
    assert over_http.query("SELECT 1 AS one") == [{"one": 1}]
    faults.away = True
    with pytest.raises(Unavailable, match="does not answer"):
        over_http.query("SELECT 1")
    faults.away = False
    with pytest.raises(DatabaseError, match="nope"):
        over_http.query("SELECT nope FROM ledger")


def test_a_write_to_an_outdated_schema_is_reported(unmigrated: Warehouse) -> None:
    with unmigrated.writer() as client:
        client.command(f"CREATE DATABASE `{unmigrated.database}`", use_database=False)
    with pytest.raises(Unavailable, match="wattlog migrate") as caught:
        write(unmigrated, fenced=True)
    assert (caught.value.reason, caught.value.lasting) == ("no_table", True)
    migrate(unmigrated)
    write(unmigrated, fenced=False)


def test_every_reason_is_one_short_word() -> None:
    reasons = {refusal(code, "").reason for code in range(1100)} | {refusal(None, "").reason}
    assert all(r.replace("_", "").isalpha() and r.islower() and len(r) < 16 for r in reasons)
    assert len(reasons) < 16
