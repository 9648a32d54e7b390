"""The warehouse's own tests run over both kinds of DSN: chdb, and HTTP through a thin endpoint in front of it.

HTTP runs with `make test-all`, but for the client's own tests, which are quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clickhouse_http import serve


@pytest.fixture(scope="session")
def http_address(chdb_dsn: str, chdb_root: Path) -> Iterator[str]:
    """`http://user@host:port` of a ClickHouse-HTTP endpoint in front of this process's chdb."""
    with serve(chdb_root) as address:
        yield address


@pytest.fixture(scope="session", params=["chdb", pytest.param("http", marks=pytest.mark.slow)])
def dsn(request: pytest.FixtureRequest, chdb_dsn: str, http_address: str) -> str:
    return chdb_dsn if request.param == "chdb" else http_address
