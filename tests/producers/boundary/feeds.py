"""Feeds of `[produce.boundary]`: the file of a power meter, a BMC's answer and value, values of other pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from producers.boundary.hwmon import HwmonPower
from producers.boundary.pages import Redfish, json_watts, page_watts
from producers.gpu.exporter_formats import Quantity
from producers.runtime.spool import Spool
from tests.producers.boundary.stand_ins import Gpus, agent_of, grace, wall_meter
from tests.producers.conformance import VALUES, Feed, Outcome, Piece, joules, refusals
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock

W = 1_000
SECONDS = 8


def _run(source: Callable[[Callable[[], bytes], Path], float], piece: Piece, folder: Path) -> Outcome:
    """Read a node of 1,000 W, 600 W of them its GPU's, once a second; the piece is there at one of the readings."""
    clock, registry = FakeClock(SECONDS * 1_000), CollectorRegistry()
    log = FakeBroker(clock)

    def value() -> bytes:
        content: bytes = piece.read() if clock.now_ms == 4_000 else b"%d" % W
        return content

    with closing(Spool(folder / "spool.db")) as spool:
        meter = wall_meter(lambda: source(value, folder))
        agent_of(clock, Gpus({"a": 600}), log, spool, meter, registry=registry).run()
    return Outcome(joules(log), SECONDS * 600 + (SECONDS - 1) * 400, refusals(registry))


def _hwmon(value: Callable[[], bytes], folder: Path) -> float:
    content = value()
    grace(folder / "hwmon", {"Grace Power Socket 0": content + b"000000" if content == b"%d" % W else content})
    return HwmonPower(folder / "hwmon").watts()


def _get(body: bytes) -> Callable[[str], tuple[int, str]]:
    return lambda url: (200, body.decode("utf-8", "replace"))


def _answer(value: Callable[[], bytes], folder: Path) -> float:
    content = value()
    body = b'{"PowerWatts": {"Reading": %d}}' % W if content == b"%d" % W else content
    return Redfish("https://bmc", "1", _get(body)).watts()


def _value(value: Callable[[], bytes], folder: Path) -> float:
    return Redfish("https://bmc", "1", _get(b'{"PowerWatts": {"Reading": %s}}' % value())).watts()


def _page(value: Callable[[], bytes], folder: Path) -> float:
    return page_watts("http://pdu", Quantity("watts", "W"), {}, _get(b"watts " + value() + b"\n"))


def _json(value: Callable[[], bytes], folder: Path) -> float:
    return json_watts("http://pdu", "outlets.0.watts", "W", _get(b'{"outlets": [{"watts": %s}]}' % value()))


FEEDS = {
    "boundary": [
        Feed("power meter", partial(_run, _hwmon), "kernel"),
        Feed("BMC's answer", partial(_run, _answer), "page", VALUES),
        Feed("BMC's value", partial(_run, _value), "page", VALUES),
        Feed("page's value", partial(_run, _page), "page", VALUES),
        Feed("JSON's value", partial(_run, _json), "page", VALUES),
    ]
}
