"""The audit's questions are the same SQL over both kinds of DSN: over HTTP, `make test-all` asks them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", params=["chdb", pytest.param("http", marks=pytest.mark.slow)])
def dsn(request: pytest.FixtureRequest, chdb_dsn: str, http_address: str) -> str:
    return chdb_dsn if request.param == "chdb" else http_address
