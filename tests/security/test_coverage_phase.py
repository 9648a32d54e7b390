"""schemathesis' coverage phase: every boundary value of every parameter of the API's and the receivers' documents."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from api.app import create_app
from contracts.settings import Settings
from producers.runtime.receiver.routes import open_routes
from producers.runtime.receiver.server import create_app as create_receiver
from tests.producers.frame import environment
from tests.producers.runtime.receiver.listener import listening
from tests.support.waiting import HANG_S, wait_until
from warehouse.client import Warehouse

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


def _cover(address: str, folder: Path) -> None:
    """Run the phase. Raises AssertionError with its report where a check failed."""
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{address}/openapi.json", "--phases=coverage",
        f"--checks={CHECKS}", f"--request-timeout={HANG_S:g}", "--no-color",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-2_000:]


@pytest.mark.slow
def test_every_boundary_value_of_the_api_is_answered_as_documented(books: Warehouse, tmp_path: Path) -> None:
    with _serving(create_app(books, Settings())) as address:
        _cover(address, tmp_path)


@pytest.mark.slow
def test_every_boundary_value_of_the_receivers_is_answered_as_documented(tmp_path: Path) -> None:
    here = environment(Settings(cluster="c1", data=tmp_path))
    routes = [route for route in open_routes(here) if route.kind != "cloudevents"]
    with listening(tmp_path, intakes=routes) as listener:
        own = next(route for route in open_routes(here) if route.kind == "cloudevents")
        with _serving(create_receiver(listener._handler, listener.line, [own, *routes])) as address:
            _cover(address, tmp_path)
