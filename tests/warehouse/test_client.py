"""The client: two kinds of DSN, one behaviour; one writer, a bounded pool of readers; errors that name the fix."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from contracts.errors import BadInput, BadQuery, BadSetting, Unavailable, WattlogError
from tests.support.clickhouse_http import PASSWORD
from tests.support.ledger_rows import HOUR, WINDOW_MS, row
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S
from warehouse import client as client_module
from warehouse.client import INSERT_ROWS, Warehouse, connect


def run(code: str, *args: str, **env: str) -> str:
    """Output of a Python process of its own: one process may open only one chdb folder."""
    process = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, env={"PATH": "", **env},
        capture_output=True, text=True, timeout=HANG_S, check=True,
    )  # fmt: skip
    return process.stdout.strip()


@pytest.fixture(scope="session", params=["chdb", "http"])
def dsn(request: pytest.FixtureRequest, chdb_dsn: str, http_address: str) -> str:
    """Both kinds, here also in the quick tests."""
    return chdb_dsn if request.param == "chdb" else http_address


def test_parameters_are_bound_by_the_server(warehouse: Warehouse) -> None:
    hostile = "it's \\ a 'trap'\n\t{x:String} %s 100%"
    (row,) = warehouse.query(
        "SELECT {x:String} AS x, {n:Array(Int64)} AS n, {s:Array(String)} AS s, {t:DateTime64(3, 'UTC')} AS t",
        x=hostile, n=[-1, 2**62], s=[hostile, ""], t=datetime(2024, 1, 1, 12, tzinfo=UTC),
    )  # fmt: skip
    assert row == {"x": hostile, "n": [-1, 2**62], "s": [hostile, ""], "t": datetime(2024, 1, 1, 12, tzinfo=UTC)}


def test_a_long_parameter_passes(warehouse: Warehouse) -> None:
    names = [f"workload-{i:06}-" + "ü" * 40 for i in range(2_000)]
    assert warehouse.query("SELECT length({names:Array(String)}) AS n", names=names) == [{"n": 2_000}]


def test_times_are_aware_and_in_utc_and_money_is_decimal(warehouse: Warehouse) -> None:
    (row,) = warehouse.query(
        "SELECT fromUnixTimestamp64Milli({ms:Int64}, 'UTC') AS t, toStartOfHour(t) AS hour, "
        "toDateTime('2024-01-01 05:00:00') AS text, toDecimal64('0.123456789', 9) AS money", ms=HOUR + 123,
    )  # fmt: skip
    assert row["t"] == datetime(2024, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert row["hour"] == datetime(2024, 1, 1, tzinfo=UTC)
    assert row["text"] == datetime(2024, 1, 1, 5, tzinfo=UTC)
    assert all(t.utcoffset().total_seconds() == 0 for t in (row["t"], row["hour"], row["text"]))
    assert row["money"] == Decimal("0.123456789")


def test_times_do_not_depend_on_this_hosts_zone(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom warehouse.client import connect\nfrom datetime import datetime, UTC\n"
        "with connect(sys.argv[1], database='default') as w:\n"
        "    sql = \"SELECT toDateTime('2024-01-01 00:00:00') AS a, toStartOfHour({t:DateTime}) AS b\"\n"
        "    (found,) = w.query(sql, t=datetime(2024, 1, 1, tzinfo=UTC))\n"
        "    print(*(v.isoformat() for v in found.values()))\n"
    )
    assert run(code, f"chdb://{tmp_path}/w", TZ="Asia/Tokyo").split() == ["2024-01-01T00:00:00+00:00"] * 2


def repeated(n: int) -> dict[str, Any]:
    """A ledger row, `n` times."""
    return {c: list(v) * n if isinstance(v, list) else np.repeat(np.asarray(v), n) for c, v in row("ledger").items()}


def test_a_large_table_is_inserted_in_bounded_batches(warehouse: Warehouse) -> None:
    n = INSERT_ROWS + 7
    table = repeated(n)
    table["window_start"] = HOUR + np.arange(n) * WINDOW_MS  # 12 days, so 12 partitions
    table["active_uj"] = np.arange(n)
    assert warehouse.insert("ledger", table) == n
    (row,) = warehouse.query(
        "SELECT count() AS n, sum(active_uj) AS uj, uniqExact(window_start) AS w FROM ledger FINAL"
    )
    assert row == {"n": n, "uj": n * (n - 1) // 2, "w": n}


def test_a_history_of_many_days_is_inserted_at_once(warehouse: Warehouse) -> None:
    days = np.arange(200) * 86_400_000 + HOUR
    table = repeated(200)
    assert warehouse.insert("ledger", table | {"window_start": days}) == 200
    assert warehouse.query("SELECT count() AS n FROM ledger FINAL") == [{"n": 200}]


def test_an_empty_table_is_not_inserted(warehouse: Warehouse) -> None:
    assert warehouse.insert("ledger", {}) == 0


def test_a_table_without_a_schema_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(BadInput, match="table: 'ledgers': one of gpu_energy"):
        warehouse.insert("ledgers", row("ledger"))
    with pytest.raises(KeyError):
        warehouse.insert("ledger", {"tenant": ["a"]})


def test_an_arrow_answer_keeps_the_columns_types(warehouse: Warehouse) -> None:
    warehouse.insert("ledger", row("ledger", active_uj=2**60))
    table = warehouse.arrow("SELECT window_start, tenant, active_uj, window_ms FROM ledger FINAL")
    assert table.schema.types == [pa.timestamp("ms", tz="UTC"), pa.string(), pa.int64(), pa.uint32()]
    assert table.to_pylist()[0]["active_uj"] == 2**60


def test_a_query_is_run_by_name_with_identifiers_from_code(warehouse: Warehouse) -> None:
    warehouse.insert("ledger", row("ledger"))
    params = {"log_id": "log", "log_partition": 0, "after_ms": 0, "limit": 5}
    rows = warehouse.ask("sink/stored_keys", fragments={"table": "ledger", "columns": "tenant"}, **params)
    assert rows == [{"tenant": "acme"}]
    for name in ("no_such_question", "../../etc/passwd", ""):
        with pytest.raises(KeyError):
            warehouse.ask(name)


def test_settings_of_one_query_do_not_persist(dsn: str) -> None:
    with connect(dsn, database="default", readers=1) as warehouse:
        with pytest.raises(BadQuery, match="too slow or too large"), warehouse.reader() as client:
            client.query("SELECT number FROM numbers(10)", settings={"max_result_rows": 5})
        assert len(warehouse.query("SELECT number FROM numbers(10)")) == 10


ROWS_THEN_ERROR = "SELECT number, throwIf(number = 300000) FROM numbers(1000000)"
FAILURES: dict[str, Callable[[Warehouse], object]] = {
    "raises after some rows": lambda w: w.query(ROWS_THEN_ERROR),
    "raises as Arrow": lambda w: w.arrow(ROWS_THEN_ERROR),
    "fails to convert a value": lambda w: w.query("SELECT toUInt8(if(number < 90000, '1', 'x')) FROM numbers(100000)"),
    "has too many rows": lambda w: w.query(
        "SELECT number FROM numbers(1000000)", settings={"max_result_rows": 70_000, "result_overflow_mode": "throw"}
    ),
    "takes too long": lambda w: w.query(
        "SELECT number, sleepEachRow(0.001) FROM numbers(1000)",
        settings={"max_execution_time": 0.1, "max_block_size": 10},
    ),
    "takes too much memory": lambda w: w.query(
        "SELECT number, repeat('x', if(number > 500000, 1000000, 1)) FROM numbers(1000000)",
        settings={"max_memory_usage": 50_000_000, "max_block_size": 1000},
    ),
    "raises while its rows stream": lambda w: stream(w, ROWS_THEN_ERROR),
    "is abandoned while its rows stream": lambda w: stream(w, "SELECT number FROM numbers(1000000)", take=1),
    "is cancelled by its caller": lambda w: stream(w, "SELECT number FROM numbers(1000000)", error=KeyboardInterrupt()),
    "is a write that raises": lambda w: w.command(f"INSERT INTO tenants (tenant, version) {ROWS_THEN_ERROR}"),
    "raises on the writing client": lambda w: write_error(w),
}


def stream(warehouse: Warehouse, sql: str, take: int = 1_000_000, error: BaseException | None = None) -> None:
    with warehouse.reader() as client, client.query_row_block_stream(sql) as blocks:
        for _ in itertools.islice(blocks, take):
            if error is not None:
                raise error


def write_error(warehouse: Warehouse) -> None:
    with warehouse.writer() as client:
        client.query(ROWS_THEN_ERROR)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_question_after_a_failed_one_gets_its_own_rows(warehouse: Warehouse, failure: str) -> None:
    for _ in range(2):
        with suppress(DatabaseError, BadQuery, Unavailable, KeyboardInterrupt):
            FAILURES[failure](warehouse)
            assert "abandoned" in failure
        assert warehouse.query("SELECT 7 AS seven") == [{"seven": 7}]
        with warehouse.writer() as client:
            assert client.query("SELECT 9").result_rows == [(9,)]


def test_the_engine_goes_on_after_an_error_of_its_only_client(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom warehouse.client import connect\n"
        "with connect(sys.argv[1], database='default') as w:\n"
        "    w.command('CREATE TABLE t (x UInt8) ENGINE = Memory')\n"
        "    w.insert_rows('t', [{'x': 1}])\n"
        "    try:\n        w.command('INSERT INTO nothing SELECT 1')\n"
        "    except Exception as error:\n        print(type(error).__name__)\n"
        "    print(w.query('SELECT x FROM t'))\n"
    )
    assert run(code, f"chdb://{tmp_path}/w").splitlines() == ["Unavailable", "[{'x': 1}]"]


def test_an_error_in_sql_is_the_drivers_error(warehouse: Warehouse) -> None:
    with pytest.raises(DatabaseError, match="nope"):
        warehouse.query("SELECT nope FROM ledger")
    assert warehouse.query("SELECT 1 AS one") == [{"one": 1}]


def test_an_unmigrated_database_is_reported(unmigrated: Warehouse) -> None:
    with pytest.raises(Unavailable, match="wattlog migrate"):
        unmigrated.query("SELECT 1 FROM ledger")


def test_threads_share_a_warehouse(warehouse: Warehouse) -> None:
    def work(i: int) -> tuple[int, int]:
        warehouse.insert("ledger", row("ledger", tenant=f"t{i}", active_uj=i))
        (row_,) = warehouse.query("SELECT sum(active_uj) AS uj FROM ledger FINAL WHERE tenant = {t:String}", t=f"t{i}")
        return i, row_["uj"]

    with ThreadPoolExecutor(16) as pool:
        assert all(i == uj for i, uj in pool.map(work, range(48)))
    assert warehouse.query("SELECT count() AS n FROM ledger FINAL") == [{"n": 48}]


def test_the_number_of_concurrent_readers_is_bounded(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READER_WAIT_S", 0.05)
    with connect(dsn, database="default", readers=2) as warehouse:
        with warehouse.reader() as one, warehouse.reader() as other:
            assert one is not other
            with pytest.raises(Unavailable, match="All 2 readers"):
                warehouse.query("SELECT 1")
        with warehouse.reader() as again:
            assert again in (one, other)


def test_a_closed_warehouse_reports_it_and_may_be_closed_again(dsn: str) -> None:
    warehouse = connect(dsn, database="default")
    warehouse.query("SELECT 1")
    warehouse.close()
    warehouse.close()
    for use in (lambda: warehouse.query("SELECT 1"), lambda: warehouse.command("SELECT 1")):
        with pytest.raises(Unavailable, match="is closed"):
            use()


def test_closing_waits_for_the_query_in_progress(dsn: str) -> None:
    warehouse = connect(dsn, database="default", readers=1)
    arrival, go = threading.Event(), threading.Event()
    answers: list[int] = []

    def slow() -> None:
        with warehouse.reader() as client:
            arrival.set()
            go.wait(10)
            answers.append(client.query("SELECT 7").result_rows[0][0])

    thread = threading.Thread(target=slow)
    thread.start()
    assert arrival.wait(10)
    closer = threading.Thread(target=warehouse.close)
    closer.start()
    go.set()
    closer.join(10)
    thread.join(10)
    assert answers == [7]


@pytest.mark.parametrize(
    "dsn",
    [
        "", "wattlog", "chdb://relative", "chdb:///a?b=c", "clickhouse://h:9000/db", "http://", "http://:8123/x", "http://h:99999",
        "http://h:8123/bad-name", "http://h:8123/db?verify=0", "postgresql://secret:hunter2@h/db",
    ],
)  # fmt: skip
def test_an_invalid_dsn_is_refused_without_showing_a_password(dsn: str) -> None:
    with pytest.raises(BadSetting) as caught:
        connect(dsn)
    assert caught.value.field == "warehouse_dsn"
    assert "hunter2" not in str(caught.value)


def test_a_database_in_the_dsn_wins(http_address: str) -> None:
    with connect(f"{http_address}/default", database="other") as warehouse:
        assert warehouse.database == "default"
        assert warehouse.query("SELECT currentDatabase() AS db") == [{"db": "default"}]


def test_a_password_is_separate_from_the_dsn_and_never_shown(http_address: str) -> None:
    locked = http_address.replace("default@", "locked@") + "/default"
    with connect(locked, password=PASSWORD) as warehouse:
        assert warehouse.query("SELECT 1 AS one") == [{"one": 1}]
        assert PASSWORD not in f"{warehouse.where} {vars(warehouse)}"
    with pytest.raises(Unavailable, match="WATTLOG_WAREHOUSE_PASSWORD") as caught:
        connect(locked, password="wrong guess")
    assert "wrong guess" not in str(caught.value)


def test_an_absent_server_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9.*Check that the server runs"):
        connect("http://default@127.0.0.1:9/wattlog")


def test_a_second_folder_in_one_process_is_unavailable(chdb_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="one folder: close the other first"):
        connect(f"chdb://{tmp_path}/other")


def test_a_folder_opened_by_another_process_is_unavailable(chdb_dsn: str, chdb_root: Path) -> None:
    code = (
        "import sys\nfrom warehouse.client import connect\nfrom contracts.errors import Unavailable\n"
        "try:\n    connect(sys.argv[1])\nexcept Unavailable as error:\n    print(error)\n"
    )
    output = run(code, chdb_dsn)
    assert f"{chdb_root} is open in another process (process {os.getpid()})" in output
    assert "one process may open" in output


def test_a_folder_opened_by_another_process_gets_no_line_of_the_engine(chdb_dsn: str) -> None:
    code = (
        "import sys\nfrom warehouse.client import connect\nfrom contracts.errors import Unavailable\n"
        "try:\n    connect(sys.argv[1])\nexcept Unavailable:\n    pass\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, chdb_dsn], cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True,
        timeout=HANG_S, check=True,
    )  # fmt: skip
    assert process.stderr == ""


def test_a_folder_that_cannot_be_created_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be created"):
        connect("chdb:///proc/no/such")


def test_every_error_is_of_the_projects_family(http_address: str) -> None:
    for dsn in ("nonsense", "chdb:///proc/no/such", "http://127.0.0.1:9/x"):
        with pytest.raises(WattlogError):
            connect(dsn)


def test_opening_never_forks(tmp_path: Path) -> None:
    code = (
        "import sys\nforks = []\nwatched = 'os.fork', 'os.forkpty', 'subprocess.Popen', 'os.posix_spawn', 'os.system'\n"
        "sys.addaudithook(lambda event, _: forks.append(event) if event in watched else None)\n"
        "from warehouse.client import connect\n"
        "with connect(sys.argv[1], database='default') as w:\n    w.query('SELECT 1')\n    w.command('SELECT 1')\n"
        "print(forks)\n"
    )
    assert run(code, f"chdb://{tmp_path}/w") == "[]"
