"""zeusd's stream of watts: both its forms, thinned, and beside polled values."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from producers.common.http_client import Pages
from producers.common.zeusd_client import ZeusdClient
from producers.gpu.readings import GpuReading
from producers.gpu.zeusd.power_stream import PowerStream, bounded_lines, samples
from producers.gpu.zeusd.sensor import PowerSample, ZeusdSensor
from tests.producers.gpu.zeusd.test_sensor import A40, BARE, Daemon
from tests.support.clocks import FakeClock
from tests.support.http_server import Request, Response, serving
from tests.support.waiting import wait_until

SNAPSHOT = 'data: {"timestamp_ms": 5, "power_mw": {"0": 75000, "1": 120500}}'
SAMPLE = 'data: {"timestamp_ms": 5, "gpu_id": 1, "power_mw": 120500}'


def test_both_forms_of_the_stream_are_read_and_other_lines_are_skipped() -> None:
    assert list(samples([SNAPSHOT, "", ": comment", "data: {", SAMPLE, 'data: {"cpu_id": 0}'], [])) == [
        (0, 75.0), (1, 120.5), (1, 120.5),
    ]  # fmt: skip


def test_the_stream_is_thinned_to_ten_readings_a_second_of_the_requested_gpus() -> None:
    time = FakeClock(100_000)

    def lines() -> Iterator[str]:
        for _ in range(100):
            yield SNAPSHOT
            time.wait(0.02)

    stream = PowerStream(BARE, time, threading.Event())
    stream._gpus = (1,)
    stream.read(lines())
    drained = stream.drain()
    assert set(drained) == {1}
    assert [monotonic_ms for _, monotonic_ms, _ in drained[1]] == list(range(0, 2_000, 100))
    assert stream.drain() == {}


@pytest.mark.parametrize(
    "line",
    [
        "data: " + "[" * 100_000, 'data: {"power_mw": NaN}', 'data: {"gpu_id": 0, "power_mw": 1e400}',
        'data: {"gpu_id": 0, "power_mw": ' + "9" * 4_000 + "}", 'data: {"gpu_id": 0, "power_mw": -5}',
        'data: {"power_mw": {"x": 5}}', 'data: {"gpu_id": "\udcff", "power_mw": 5}', "data: \x00",
    ],
)  # fmt: skip
def test_a_malformed_event_affects_no_other(line: str) -> None:
    assert list(samples([line, SAMPLE], [])) == [(1, 120.5)]


def test_an_endless_line_is_bounded_and_later_ones_are_read() -> None:
    endless = [b"data: ", *[b"x" * 10_000] * 20, b"\n", SAMPLE[:9].encode(), SAMPLE[9:].encode(), b"\n", b"a\nb"]
    assert list(bounded_lines(endless)) == [SAMPLE, "a"]


class Streamed:
    """A stream whose lines the test writes."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.come: dict[int, list[PowerSample]] = {}

    def start(self, gpus: list[int]) -> None:
        self.started = list(gpus)

    def drain(self) -> dict[int, list[PowerSample]]:
        come, self.come = self.come, {}
        return come


def test_a_gpu_without_a_counter_is_read_from_the_stream_and_polled_while_that_is_silent() -> None:
    stream, time = Streamed(), FakeClock(10_000)
    gpus = ZeusdSensor(Daemon().client(), "n1", stream=stream)  # type: ignore[arg-type]
    assert [r.gpu_uuid for r in gpus.readings(time)] == ["zeusd-n1-0", "zeusd-n1-1"]
    assert stream.started == [1]
    start_ms = time.wall_ms()
    stream.come = {1: [PowerSample(start_ms + ms, ms, 100.0 + ms) for ms in (100, 200, 300)]}
    time.wait(0.4)
    a, *streamed = gpus.readings(time)
    assert a.counter_mj == 1_000
    assert streamed == [GpuReading("zeusd-n1-1", A40, start_ms + ms, ms, None, 100.0 + ms) for ms in (100, 200, 300)]


def test_a_stream_is_read_in_a_thread_of_its_own(serve_stream: str) -> None:
    stop = threading.Event()
    with Pages() as pages:
        stream = PowerStream(ZeusdClient(serve_stream, pages), FakeClock(0), stop)
        stream.start([1])
        come: dict[int, Sequence[PowerSample]] = {}

        def read() -> bool:
            come.update(stream.drain())
            return bool(come)

        wait_until(read, "the stream gives a sample")
        stop.set()
    assert [watts for _, _, watts in come[1]] == [120.5]


@pytest.fixture
def serve_stream() -> Iterator[str]:
    def answer(request: Request) -> Response:
        assert (request.path, request.query) == ("/gpu/stream_power", {"gpu_ids": ["1"]})
        return Response(200, f"{SAMPLE}\n\n".encode(), {"Content-Type": "text/event-stream"})

    with serving(answer) as url:
        yield url
