"""Runs the API and its page in this process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.app import create_app
from api.auth import check_exposure
from cli.ledger_access import check_ledger_exists, check_migrated, mend, open_warehouse
from contracts.connection_bounds import HEAD_BYTES, KEEP_ALIVE_S, TURN_S, ConnectionBounds, bounded_protocol
from contracts.errors import Unavailable
from contracts.host_port import host_port
from contracts.settings import Settings
from warehouse.client import Warehouse


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the caller, who runs the event loop, and closes slow connections every 0.1 s."""

    def __init__(self, config: uvicorn.Config, bounds: ConnectionBounds) -> None:
        super().__init__(config)
        self._bounds = bounds

    async def on_tick(self, counter: int) -> bool:
        self._bounds.close_slow(self.server_state.connections, time.monotonic())
        return bool(await super().on_tick(counter))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def running_api(settings: Settings, warehouse: Warehouse) -> AsyncIterator[str]:
    """Serve the API and its page until the block ends. Yields the address.

    Raises Unavailable if it cannot listen there.
    """
    bounds = ConnectionBounds()
    config = uvicorn.Config(
        create_app(warehouse, settings), host=settings.api_host, port=settings.api_port, log_level="warning",
        access_log=False, server_header=False, ws="none", proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_S,
        http=bounded_protocol(H11Protocol, bounds), h11_max_incomplete_event_size=HEAD_BYTES,
    )  # fmt: skip
    sys.setswitchinterval(TURN_S)
    server, refusal = _Server(config, bounds), _BindRefusal()
    logging.getLogger("uvicorn.error").addFilter(refusal)
    serving = asyncio.create_task(_serve(server, settings, refusal))
    try:
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{host_port(settings.api_host, port)}"
    finally:
        server.should_exit = True
        logging.getLogger("uvicorn.error").removeFilter(refusal)
        await serving


class _BindRefusal(logging.Filter):
    """Keeps the error with which an address was refused, which uvicorn logs: it is reported once, with what to do."""

    reason = ""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, OSError):
            self.reason = os.strerror(record.msg.errno) if record.msg.errno else str(record.msg)
            return False
        return True


async def _serve(server: uvicorn.Server, settings: Settings, refusal: _BindRefusal) -> None:
    try:
        await server.serve()
    except SystemExit:  # uvicorn exits if it cannot listen.
        address, reason = host_port(settings.api_host, settings.api_port), refusal.reason
        raise Unavailable(
            f"the API cannot listen on {address}{f': {reason}' if reason else ''}",
            "Is the port taken? Set WATTLOG_API_PORT=0 for a free one.",
        ) from None


async def serve_until_stopped(settings: Settings, step: Callable[[str], None]) -> None:
    """Serve the API and its page until cancelled. `step` gets the address.

    Raises BadSetting if other machines could use the API without a key, Unavailable where there is no
    ledger, and before `wattlog migrate`.
    """
    check_exposure(settings)
    check_ledger_exists(settings)
    with open_warehouse(settings) as warehouse:
        check_migrated(warehouse)
        mend(warehouse, step)
        async with running_api(settings, warehouse) as address:
            step(f"listening on {address}")
            await asyncio.Event().wait()
