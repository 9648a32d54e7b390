"""Feeds of `wattlog produce host`: the counter file of one zone of two, or zeusd's answer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest.mock import patch

import httpx

from producers.common.http_client import Pages
from producers.common.zeusd_client import ZeusdClient
from producers.host import rapl
from producers.host.rapl import RaplCounters
from producers.host.source import HostCounters, HostEnergySource, ZoneReadings
from producers.host.zeusd import ZeusdHostCounters
from tests.producers.conformance import Feed, Outcome, Piece, poll, quantity, refusals
from tests.support.clocks import FakeClock

W = 100
"""Watts of each zone."""


class _PreparedCounters:
    """Counters that are set before each read."""

    def __init__(self, counters: HostCounters, clock: FakeClock, piece: Piece, folder: Path) -> None:
        self._counters, self._clock, self._piece, self._folder = counters, clock, piece, folder
        self.source, self.ranges = counters.source, counters.ranges

    def read(self) -> ZoneReadings:
        is_bad = self._clock.now_ms == 3_000
        for zone in ("intel-rapl:0", "intel-rapl:1"):
            file = self._folder / zone / "energy_uj"
            file.write_text(str(W * 1_000 * self._clock.now_ms))
            if is_bad and zone == "intel-rapl:0" and not self._piece.is_error:
                file.write_bytes(self._piece.content)
        if not (is_bad and self._piece.is_error):
            return self._counters.read()
        read = rapl._read_number
        with patch.object(rapl, "_read_number", lambda p: self._piece.read() if p.parent.name[-1] == "0" else read(p)):
            return self._counters.read()


def _source(counters: HostCounters) -> HostEnergySource:
    return HostEnergySource(counters, "c", "n", "b", every_ms=1_000)


def _run_rapl(piece: Piece, folder: Path) -> Outcome:
    clock = FakeClock(6_000)
    for number in (0, 1):
        zone = folder / f"intel-rapl:{number}"
        zone.mkdir()
        for name, text in (("name", f"package-{number}"), ("max_energy_range_uj", str(10**12)), ("energy_uj", "0")):
            (zone / name).write_text(text)
    log, metrics = poll([_source(_PreparedCounters(RaplCounters(folder), clock, piece, folder))], folder, clock)
    return Outcome(quantity(log), 2 * 5 * W * 10**6, refusals(metrics))


def _run_zeusd(place: str, piece: Piece, folder: Path) -> Outcome:
    clock = FakeClock(6_000)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/discover":
            return httpx.Response(200, json={"gpus": [], "cpus": [{"id": 0}, {"id": 1}]})
        counter = b"%d" % (W * 1_000 * clock.now_ms)
        content = piece.read() if clock.now_ms == 3_000 else counter
        body = b'{"0": {"cpu_energy_uj": %s}, "1": {"cpu_energy_uj": %s}}' % (content, counter)
        return httpx.Response(200, content=content if place == "answer" and content != counter else body)

    zeusd = ZeusdClient("http://zeusd:4938", Pages(transport=httpx.MockTransport(answer)))
    log, metrics = poll([_source(ZeusdHostCounters(zeusd, folder))], folder, clock)
    return Outcome(quantity(log), 2 * 5 * W * 10**6, refusals(metrics))


FEEDS = {
    "host": [
        Feed("RAPL", _run_rapl, "kernel"),
        *(Feed(f"zeusd's {place}", partial(_run_zeusd, place), "page") for place in ("answer", "value")),
    ]
}
