"""The way of a reading from NVML to a bill is short: the functions on it are counted.

A function is on the way if it is on the call stack where the reading is handed on: read, made an interval, stored as an
event, decoded, added to its window, attributed, inserted, priced, and answered (`HANDOVERS`). Helpers that return to
such a function are not counted, nor is what runs before the reading or beside it.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import pytest

with warnings.catch_warnings():  # Starlette would rather have a package that is not httpx.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

from api.app import create_app
from contracts import codec, topics
from contracts.settings import Settings
from producers.bindings.apportion import Binding
from producers.gpu.nvml.sensor import NvmlSensor
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.delivery import Delivery
from producers.runtime.event_sequence import heartbeat_batch
from producers.runtime.spool import Spool
from tests.producers.gpu.nvml.test_sensor import gpu, library, write
from tests.streams.driven_worker import T0, Driven
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock
from tests.support.paths import ROOT
from warehouse.client import Warehouse

__all__ = ["library"]

MAX_FUNCTIONS = 90
ROOMS = tuple(f"{ROOT / room}/" for room in ("contracts", "producers", "streams", "warehouse", "api"))
HANDOVERS = {
    "NvmlSensor._value", "split_interval", "Backlog.add",
    "Backlog.take", "split_intervals", "power_batch", "event_of", "encode", "Spool.put", "Spool.after",
    "Delivery._send",
    "Inbox.put", "Inbox.take_all", "_event", "PowerColumns.of", "WindowAccumulators.add",
    "OpenWindows.snapshot", "split_energy_over_tenants", "ledger_rows_of", "final_tables",
    "RetryingSink.until_accepted", "Warehouse.insert", "Warehouse._insert_through", "Sink.refresh_hours",
    "_caller_reader", "LedgerReader.ask", "_chargeback_row", "respond",
}  # fmt: skip


@contextmanager
def traced(functions: set[str], handovers: set[str]) -> Iterator[None]:
    """Add the functions on the stack at each hand-over, on this thread and on those that start meanwhile."""

    def trace(frame: FrameType | None, event: str, argument: object) -> None:
        if event != "call" or frame is None or frame.f_code.co_qualname not in HANDOVERS:
            return
        if not frame.f_code.co_filename.startswith(ROOMS):
            return
        handovers.add(frame.f_code.co_qualname)
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(ROOMS) and not code.co_name.startswith("<"):
                functions.add(f"{code.co_filename.removeprefix(f'{ROOT}/')}:{code.co_qualname}")
            frame = frame.f_back

    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # None ends it, as in sys.setprofile.


def test_a_reading_passes_few_functions_on_its_way_to_a_bill(
    warehouse: Warehouse, tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    control, clock = tmp_path / "gpus", FakeClock(0, epoch_ms=T0)
    monkeypatch.setenv("FAKE_NVML", str(control))
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library / "libnvidia-ml.so.1")))
    write(control, gpu(energy="1000"))
    functions, handovers = set[str](), set[str]()
    broker = FakeBroker(clock)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        bindings = {"GPU-a": Binding("llama", "acme")}
        agent = Agent(AgentConfig("c", "n"), NvmlSensor(), Delivery(spool, broker), clock, lambda: bindings)
        agent.sample()
        clock.now_ms += 1_000
        write(control, gpu(energy="301000"))
        with traced(functions, handovers):
            agent.sample()
            agent.publish()
        agent.publish()
    driven = Driven(warehouse)
    for event in broker.stored:
        driven.log.raw(codec.topic_of(event.batch), *codec.encode(event))

    async def join_and_store() -> None:
        await driven.stream_worker.assign([0])
        with traced(functions, handovers):
            await driven.read()
        for topic in topics.JOINED:
            driven.log.append(heartbeat_batch(topic, T0 + 60_000, node="n"))
        await driven.read()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        with traced(functions, handovers):
            await driven.stream_worker.store_once()
            await driven.stream_worker.store_once()

    asyncio.run(join_and_store())
    app = create_app(warehouse, Settings(), now_s=lambda: T0 / 1000)
    with TestClient(app, base_url="http://127.0.0.1:8787") as client, traced(functions, handovers):
        answer = client.get("/v1/chargeback?period=2023-11")
    assert [row["energy_uj"] for row in answer.json()["rows"]] == [300_000_000]
    assert handovers == HANDOVERS
    print(len(functions), "functions:", *sorted(functions), sep="\n")
    assert len(functions) <= MAX_FUNCTIONS
