"""zeusd's stream of watts (SSE), for GPUs without a counter: a thread reads it, the agent takes what has come.

zeusd measures while somebody listens, at its own rate. Older daemons send all GPUs at once, and only what changed;
since then each sample is an event. Both are read. What comes closer together than EVERY_MS is thinned: ten rows a
second are enough. Times are those of its arrival, on this machine's clocks: another machine's clock may be wrong.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import httpx
import msgspec

from producers.common.zeusd_client import ZeusdClient
from producers.runtime.clock import Clock

log = logging.getLogger(__name__)

EVERY_MS = 100
MAX_WAITING = 6_000
"""Readings of a GPU that wait to be taken, ten minutes of them. Beyond that the oldest go: the trapezoid bridges it."""
SILENT_S = 10.0
"""A stream that says nothing for so long is opened anew; meanwhile the agent polls."""
RETRY_S = 5.0
_MAX_LINE = 65_536


class _Sample(msgspec.Struct):
    """Both forms of an event: `power_mw` by GPU, or of `gpu_id`."""

    power_mw: int | dict[int, int]
    gpu_id: int = -1


def samples(lines: Iterable[str]) -> Iterator[tuple[int, float]]:
    """(GPU, watts) of the events of a stream. What is no event of power is passed over."""
    for line in lines:
        if not line.startswith("data:") or len(line) > _MAX_LINE:
            continue
        try:
            sample = msgspec.json.decode(line.removeprefix("data:").strip(), type=_Sample, strict=False)
        except msgspec.DecodeError as error:
            log.debug("an event of zeusd's stream cannot be read: %s", error)
            continue
        if isinstance(sample.power_mw, dict):
            yield from ((gpu, mw / 1000) for gpu, mw in sample.power_mw.items())
        elif sample.gpu_id >= 0:
            yield sample.gpu_id, sample.power_mw / 1000


class PowerStream:
    """See the module. `stop` ends its thread within SILENT_S."""

    def __init__(self, zeusd: ZeusdClient, clock: Clock, stop: threading.Event) -> None:
        self._zeusd, self._clock, self._stop = zeusd, clock, stop
        self._lock = threading.Lock()
        self._come: dict[int, deque[tuple[int, int, float]]] = {}
        self._gpus: tuple[int, ...] = ()
        self._thread: threading.Thread | None = None

    def start(self, gpus: Sequence[int]) -> None:
        """Listen to these GPUs from now on; none: to nothing."""
        with self._lock:
            self._gpus = tuple(gpus)
        if gpus and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="zeusd-stream", daemon=True)
            self._thread.start()

    def take(self) -> Mapping[int, Sequence[tuple[int, int, float]]]:
        """What has come since the last time, by GPU: (wall ms, monotonic ms, watts). GPUs without are not in it."""
        with self._lock:
            come, self._come = self._come, {}
        return come

    def hear(self, lines: Iterable[str]) -> None:
        """Read a stream to its end, or until it is time to stop."""
        last_ms: dict[int, int] = {}
        for gpu, watts in samples(lines):
            now_ms = self._clock.monotonic_ms()
            if now_ms - last_ms.get(gpu, -EVERY_MS) < EVERY_MS:
                continue
            last_ms[gpu] = now_ms
            with self._lock:
                waiting = self._come.setdefault(gpu, deque(maxlen=MAX_WAITING))
                if gpu in self._gpus:
                    waiting.append((self._clock.wall_ms(), now_ms, watts))
                elif not waiting:
                    del self._come[gpu]
            if self._stop.is_set():
                return

    def _run(self) -> None:
        while not self._stop.is_set():
            url = f"{self._zeusd.base}/gpu/stream_power?gpu_ids={','.join(map(str, self._gpus))}"
            timeout = httpx.Timeout(SILENT_S)
            try:
                with self._zeusd.pages.client.stream("GET", url, timeout=timeout) as answer:
                    if answer.status_code == httpx.codes.OK:
                        self.hear(answer.iter_lines())
                    else:
                        log.warning("zeusd's stream answers %d; power is polled", answer.status_code)
            except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile.
                log.debug("zeusd's stream ended and is opened again: %s", error)
            self._stop.wait(RETRY_S)
