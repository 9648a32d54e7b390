"""Meters by SQL: the rows of a window, from a real PostgreSQL and from ClickHouse's engine over HTTP."""

from __future__ import annotations

import json
import math
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.errors import BadInput, BadSetting, Unavailable
from contracts.settings import Settings
from producers.meters.query_config import QueryConfig
from producers.meters.sql import sql_query
from producers.meters.sql.config import SqlConfig
from producers.meters.sql.plugin import build
from producers.meters.window_query import QueryRow, RowTemplate, WindowQuery
from producers.meters.windows import MeterWindow
from producers.runtime.config import load
from tests.kafka.broker import free_ports
from tests.producers.frame import environment
from tests.producers.meters.collected_rows import MINUTE, NOW, T0, row_values
from tests.support.clickhouse_http import serve as serve_clickhouse
from tests.support.waiting import HANG_S
from warehouse.client import connect

PASSWORD = "correct horse"
QUERY = "SELECT team, tool, sum(calls) AS quantity FROM calls WHERE at >= {start} AND at < {end} GROUP BY team, tool"
MAPPED: dict[str, Any] = {"meter": "tool_calls", "unit": "1", "offset_s": 0, "columns": {"tenant": "team"}}
_DEBIANS = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))]
POSTGRES = next((path for path in (*_DEBIANS[-1:], shutil.which("postgres")) if path), None)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of these tests alone; its user `metering` needs a password."""
    if POSTGRES is None:
        pytest.skip("needs Debian's postgresql")
    # Not in pytest's own folder, which only root may enter: each pytest that starts closes it again.
    binaries, folder = Path(POSTGRES).parent, Path(tempfile.mkdtemp(prefix="wattlog-postgres-"))
    run_as: dict[str, Any] = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("postgres")
        run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, (port,) = folder / "data", free_ports(1)
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "metering", "-A", "scram-sha-256", "--pwfile", secret, "-N"],
        check=True, capture_output=True, cwd=folder, **run_as,
    )  # fmt: skip
    server = subprocess.Popen(
        [POSTGRES, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **run_as,
    )  # fmt: skip
    try:
        dsn = f"postgresql://metering@127.0.0.1:{port}/postgres"
        _until_ready(dsn, server)
        yield dsn
    finally:
        server.terminate()
        server.wait(HANG_S)
        shutil.rmtree(folder)


def _until_ready(dsn: str, server: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + HANG_S
    while True:
        try:
            psycopg.connect(dsn, password=PASSWORD, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < end_s, "PostgreSQL does not come up"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def calls_in_postgres(postgres: str) -> str:
    with psycopg.connect(postgres, password=PASSWORD, autocommit=True) as connection:
        connection.execute("CREATE TABLE calls (at timestamptz, team text, tool text, calls numeric)")
        connection.execute(
            "INSERT INTO calls SELECT to_timestamp(%s / 1000.0) + n * interval '20 seconds', 'acme', 'search%%', 0.5 "
            "FROM generate_series(-1, 3) AS n",
            (T0,),
        )
    return postgres


@pytest.fixture(scope="module")
def calls_in_clickhouse(chdb_dsn: str, chdb_root: Path) -> Iterator[str]:
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command(
            "CREATE TABLE IF NOT EXISTS calls (at DateTime64(3, 'UTC'), team String, tool String, calls Decimal(9, 1)) "
            "ENGINE = MergeTree ORDER BY at"
        )
        warehouse.command(
            f"INSERT INTO calls SELECT fromUnixTimestamp64Milli(toInt64({T0} + (number - 1) * 20000), 'UTC'), "
            "'acme', 'search%', 0.5 FROM numbers(5)"
        )
    with serve_clickhouse(chdb_root) as address:
        yield f"{address}/default"
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP TABLE calls")


@pytest.fixture(params=["calls_in_postgres", "calls_in_clickhouse"])
def dsn(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def question(dsn: str, query: str = QUERY, password: str = PASSWORD, **options: Any) -> WindowQuery:
    config = SqlConfig(dsn=dsn, password=password, queries=(QueryConfig(query=query, **MAPPED | options),))
    (source,) = build(config, environment(Settings(cluster="c1")))
    return source


def test_a_query_returns_the_rows_of_its_window_only(dsn: str) -> None:
    assert row_values(question(dsn)) == [("unassigned", "acme", "1.5", {"tool": "search%"})]


def test_a_query_cannot_write(dsn: str) -> None:
    with pytest.raises(BadInput, match="says"):
        question(dsn, "INSERT INTO calls (team) VALUES ('x')").collect(None, NOW)


@pytest.mark.parametrize("query", ["SELECT nothing FROM nowhere", "SELECT 1 AS calls"])
def test_an_invalid_query_or_one_without_a_quantity_is_reported(dsn: str, query: str) -> None:
    with pytest.raises(BadInput, match="query"):
        question(dsn, query).collect(None, NOW)


def test_a_required_password_is_used_and_never_shown(postgres: str) -> None:
    with pytest.raises(Unavailable) as caught:
        question(postgres, password="wrong horse").collect(None, NOW)
    assert "authentication" in str(caught.value)
    assert "horse" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "http"])
def test_an_absent_database_is_unavailable(scheme: str) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match="does not answer"):
        question(f"{scheme}://u@127.0.0.1:{port}/d").collect(None, NOW)


def rows(names: Sequence[str], *rows: Sequence[object]) -> tuple[list[QueryRow], list[str]]:
    """The rows of a result, and the refusals."""
    refused: list[str] = []
    template = RowTemplate(meter="m", unit="1", origin="sql://x/0", cluster="c", workload="w", tenant="", columns={})
    window = MeterWindow(T0, T0 + MINUTE)
    return list(sql_query.ask(lambda query, window: (names, rows), "SELECT", template, window, refused)), refused


@pytest.mark.parametrize("quantity", [None, "12", True, math.nan, Decimal("Infinity"), 10**20])
def test_a_non_numeric_quantity_is_left_out_alone(quantity: object) -> None:
    [good], [reason] = rows(["tool", "quantity"], ["a", quantity], ["b", 1])
    assert good.row.dimensions == {"tool": "b"}
    assert "row 0" in reason


def test_a_null_is_no_value() -> None:
    [row], _ = rows(["tool", "quantity"], [None, 1])
    assert row.row.dimensions == {}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dsn": "mysql://u@h/d"}, "postgresql://user@host"),
        ({"dsn": "postgresql://u:secret@h/d"}, "leave the password out"),
        ({"dsn": "postgresql://u@h/d?password=secret"}, "leave the password out"),
        ({"dsn": ""}, "give `dsn`"),
        ({"dsn": "postgresql://u@h/d", "queries": [MAPPED | {"query": "SELECT 1"}] * 2}, "a meter of its own"),
        ({"dsn": "postgresql://u@h/d", "queries": [MAPPED | {"query": "", "columns": {"who": "x"}}]}, "query"),
    ],
)
def test_invalid_options_are_named_and_no_password_is_shown(
    options: dict[str, Any], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_SQL_QUERIES", json.dumps([MAPPED | {"query": "SELECT 1"}]))
    for name, value in options.items():
        monkeypatch.setenv(f"WATTLOG_SQL_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(BadSetting, match=match) as caught:
        build(load(SqlConfig), environment(Settings()))
    assert "secret" not in str(caught.value)
