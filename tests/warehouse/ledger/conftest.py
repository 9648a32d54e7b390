"""These queries run over chdb only: they are the same SQL over both kinds of DSN."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def dsn(chdb_dsn: str) -> str:
    return chdb_dsn
