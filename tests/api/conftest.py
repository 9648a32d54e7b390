"""The API over the seeded ledger, in process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest

with warnings.catch_warnings():  # Starlette would rather have a package that is not httpx.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

from api.app import create_app
from contracts.settings import Settings
from warehouse.client import Warehouse

NOW_S = 1_793_491_260.0
"""A minute after the newest final window of the seeded ledger."""
LOOPBACK = "http://127.0.0.1:8787"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", f"{tmp_path}/none.toml")
    monkeypatch.setenv("WATTLOG_DATA", f"{tmp_path}/data")


@pytest.fixture
def open_api(books: Warehouse) -> Iterator[Callable[..., TestClient]]:
    """Make a client of an API with these settings."""
    clients: list[TestClient] = []

    def make(base_url: str = LOOPBACK, **settings: object) -> TestClient:
        app = create_app(books, Settings(**settings), now_s=lambda: NOW_S)  # type: ignore[arg-type]
        clients.append(TestClient(app, base_url=base_url))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(open_api: Callable[..., TestClient]) -> TestClient:
    """An open API on loopback."""
    return open_api()
