"""The seeded books of `seed.py`, laid once for the tests that only read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reads import seed
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate


@pytest.fixture(scope="module")
def books(chdb_dsn: str, request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    """A warehouse with two clusters' books, one of them SIMULATED. Read-only by agreement."""
    name = "books_" + request.module.__name__.rpartition(".")[2]
    with connect(chdb_dsn, database=name) as warehouse:
        migrate(warehouse)
        seed.lay(warehouse)
        yield warehouse
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command(f"DROP DATABASE IF EXISTS `{name}`")
