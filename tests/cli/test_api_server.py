"""The API's listener: a port that is taken is reported once, with the reason, and addresses are ones to click."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from cli.api_server import running_api
from contracts.errors import Unavailable
from contracts.settings import Settings
from warehouse.client import Warehouse


async def address(warehouse: Warehouse, settings: Settings) -> str:
    async with running_api(settings, warehouse) as url:
        return url


def test_a_port_that_is_taken_is_reported_once_with_its_reason(
    warehouse: Warehouse, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        settings = Settings(api_port=other.getsockname()[1])
        with pytest.raises(Unavailable, match=r"Address already in use.*WATTLOG_API_PORT=0"):
            asyncio.run(address(warehouse, settings))
    assert "Errno" not in capfd.readouterr().err


def test_an_address_of_ipv6_is_in_brackets(warehouse: Warehouse) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert asyncio.run(address(warehouse, Settings(api_host="::1", api_port=0))).startswith("http://[::1]:")
