"""zeusd's stream of watts (server-sent events), for GPUs without a counter: a thread reads it, the sensor drains it.

zeusd measures while a client listens, at its own rate. Older daemons send all GPUs at once, and only what changed;
newer ones send each sample as an event. Both are read. Samples closer together than EVERY_MS are thinned, because ten
rows per second are enough. Times are those of arrival on this machine's clocks, since another machine's clock may be
wrong.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import httpx
import msgspec

from producers.common.zeusd_client import ZeusdClient
from producers.gpu.zeusd.sensor import PowerSample, to_watts
from producers.runtime.clock import Clock
from producers.runtime.refusals import read_each

log = logging.getLogger(__name__)

EVERY_MS = 100
MAX_WAITING = 6_000
"""Samples of a GPU that wait to be drained: ten minutes. Beyond, the oldest are dropped; the trapezoid bridges them."""
SILENT_S = 10.0
"""A stream without an event for so long is opened again; the agent polls in the meantime."""
RETRY_S = 5.0
MAX_LINE_BYTES = 65_536
MAX_REFUSED = 1_000
"""Malformed events that wait to be drained."""


class _PowerEvent(msgspec.Struct):
    """Both forms of an event: `power_mw` by GPU, or of `gpu_id`."""

    power_mw: int | dict[int, int]
    gpu_id: int = -1


def samples(lines: Iterable[str], refused: list[str]) -> Iterator[tuple[int, float]]:
    """Yield (GPU index, watts) of the events of a stream; refuse alone an event that is none of power."""
    placed = (("an event of the stream", line.removeprefix("data:")) for line in lines if line.startswith("data:"))
    for event in read_each(placed, _decode_event, refused, show=True):
        by_gpu = event.power_mw if isinstance(event.power_mw, dict) else {event.gpu_id: event.power_mw}
        for gpu, power_mw in by_gpu.items():
            if gpu >= 0 and (watts := to_watts(power_mw)) is not None:
                yield gpu, watts


def _decode_event(text: str) -> _PowerEvent:
    return msgspec.json.decode(text.strip(), type=_PowerEvent, strict=False)


def bounded_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a stream of bytes without those of more than MAX_LINE_BYTES."""
    line, is_too_long = b"", False
    for chunk in chunks:
        *ends, tail = chunk.split(b"\n")
        for end in ends:
            if not is_too_long and len(line) + len(end) <= MAX_LINE_BYTES:
                yield (line + end).decode("utf-8", "replace")
            line, is_too_long = b"", False
        line = b"" if is_too_long else line + tail
        if len(line) > MAX_LINE_BYTES:
            line, is_too_long = b"", True


class PowerStream:
    """Reader of the stream in a thread, which `stop` ends within SILENT_S."""

    def __init__(self, zeusd: ZeusdClient, clock: Clock, stop: threading.Event) -> None:
        self._zeusd, self._clock, self._stop = zeusd, clock, stop
        self._lock = threading.Lock()
        self._samples: dict[int, deque[PowerSample]] = {}
        self._refused: list[str] = []
        self._gpus: tuple[int, ...] = ()
        self._thread: threading.Thread | None = None

    def start(self, gpus: Sequence[int]) -> None:
        """Read the samples of these GPUs, by index, from now on."""
        with self._lock:
            self._gpus = tuple(gpus)
        if gpus and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="zeusd-stream", daemon=True)
            self._thread.start()

    def drain(self) -> Mapping[int, Sequence[PowerSample]]:
        """Return the samples since the last call, by GPU index. GPUs without a sample are not in it."""
        with self._lock:
            drained, self._samples = self._samples, {}
        return drained

    def drain_refused(self) -> Sequence[str]:
        """Return a sentence on each malformed event since the last call."""
        with self._lock:
            drained, self._refused = self._refused, []
        return drained

    def read(self, lines: Iterable[str]) -> None:
        """Read a stream to its end, or until `stop`."""
        last_ms: dict[int, int] = {}
        for line in lines:
            refused: list[str] = []
            for gpu, watts in samples([line], refused):
                self._add(gpu, watts, last_ms)
            with self._lock:
                self._refused += refused[: MAX_REFUSED - len(self._refused)]
            if self._stop.is_set():
                return

    def _add(self, gpu: int, watts: float, last_ms: dict[int, int]) -> None:
        """Keep a sample, unless it is of another GPU or too close to the one before, at `last_ms` by GPU."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - last_ms.get(gpu, -EVERY_MS) < EVERY_MS:
            return
        with self._lock:
            if gpu in self._gpus:
                last_ms[gpu] = now_ms
                waiting = self._samples.setdefault(gpu, deque(maxlen=MAX_WAITING))
                waiting.append(PowerSample(self._clock.wall_ms(), now_ms, watts))

    def _run(self) -> None:
        while not self._stop.is_set():
            url = f"{self._zeusd.base}/gpu/stream_power?gpu_ids={','.join(map(str, self._gpus))}"
            timeout = httpx.Timeout(SILENT_S)
            try:
                with self._zeusd.pages.client.stream("GET", url, timeout=timeout) as response:
                    if response.status_code == httpx.codes.OK:
                        self.read(bounded_lines(response.iter_bytes()))
                    else:
                        log.warning("zeusd's stream answers %d; power is polled", response.status_code)
            except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed in the meantime.
                log.debug("zeusd's stream ended and is opened again: %s", error)
            except Exception:  # The thread must not end silently.
                log.exception("zeusd's stream failed and is opened again; power is polled")
            self._stop.wait(RETRY_S)
