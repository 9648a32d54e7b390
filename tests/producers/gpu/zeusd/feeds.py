"""Feeds of `wattlog produce zeusd`: a whole answer, the value of one GPU of two, and an event of the stream."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import httpx

from producers.common.http_client import Pages
from producers.common.zeusd_client import ZeusdClient
from producers.gpu.zeusd.power_stream import PowerStream
from producers.gpu.zeusd.sensor import ZeusdSensor
from tests.producers.conformance import Feed, Outcome, Piece, joules, refusals, sample
from tests.support.clocks import FakeClock

GPUS = [{"id": i, "name": "A40", "cumulative_energy_available": True} for i in (0, 1)]


def _energy(clock: FakeClock, second: bytes | None = None) -> bytes:
    counter = b"%d" % (300 * clock.now_ms)
    return b'{"0": {"energy_mj": %s}, "1": {"energy_mj": %s}}' % (counter, counter if second is None else second)


def _client(clock: FakeClock, place: str, piece: Piece) -> ZeusdClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/discover":
            return httpx.Response(200, json={"gpus": GPUS, "cpus": []})
        if request.url.path == "/gpu/get_power":
            return httpx.Response(200, json={"power_mw": {"0": 300_000, "1": 300_000}})
        if clock.now_ms != 3_000 or place == "event":
            return httpx.Response(200, content=_energy(clock))
        content = piece.read()
        return httpx.Response(200, content=content if place == "answer" else _energy(clock, content))

    return ZeusdClient("http://zeusd:4938", Pages(transport=httpx.MockTransport(answer)))


def _run(place: str, piece: Piece, folder: Path) -> Outcome:
    clock = FakeClock(6_000)
    log, metrics = sample(ZeusdSensor(_client(clock, place, piece), "n"), folder, clock)
    return Outcome(joules(log), 2 * 6 * 300, refusals(metrics))


class _Stream(PowerStream):
    """A stream of which one event came before the first sample."""

    def start(self, gpus: Sequence[int]) -> None:
        self._gpus = (0, 1)


def _run_event(piece: Piece, folder: Path) -> Outcome:
    clock = FakeClock(6_000)
    client = _client(clock, "event", piece)
    stream = _Stream(client, clock, threading.Event())
    stream.read([f"data: {piece.read().decode('utf-8', 'replace')}"])
    log, metrics = sample(ZeusdSensor(client, "n", stream=stream), folder, clock)
    return Outcome(joules(log), 2 * 6 * 300, refusals(metrics))


FEEDS = {
    "zeusd": [
        *(Feed(place, partial(_run, place), "page") for place in ("answer", "value")),
        Feed("event", _run_event, "page", errors={}),
    ]
}
