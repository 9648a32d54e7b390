"""Sources of `wattlog up`: each configured producer in a thread of its own, started again where it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from cli.up_metrics import serve_joined_metrics
from contracts.errors import BadSetting, Unavailable
from contracts.settings import Settings
from producers import registry
from producers.api import Kind
from producers.runtime.config import load_options
from producers.runtime.runner import OpenBroker, check, run

FIRST_RETRY_S, MAX_RETRY_S = 2.0, 60.0
SAME_ERROR_S = 600.0
"""How often the same error of a source is shown."""
STOP_WAIT_S = 4.0
"""How long the sources may take to send what they have; what remains waits on disk."""

Tell = Callable[[str], None]


def configured() -> list[registry.AnyPlugin]:
    """Return the producers to run: listeners, those with options, and one sensor of GPUs.

    Without a configured sensor it is the first that needs no options. Raises BadSetting for wrong options, and for two
    sensors, which would both count the GPUs.
    """
    chosen: list[registry.AnyPlugin] = []
    sensors: list[registry.AnyPlugin] = []
    without_options: list[registry.AnyPlugin] = []
    for plugin in registry.plugins(Kind.GPU, Kind.POLLED, Kind.LISTENER):
        is_set = bool(getattr(load_options(plugin.options), "model_fields_set", ()))
        if plugin.kind is Kind.GPU:
            sensors += [plugin] if is_set else []
            without_options += [plugin] if plugin.options is None else []
        elif is_set or plugin.kind is Kind.LISTENER:
            chosen.append(plugin)
    if len(sensors) > 1:
        names = ", ".join(plugin.name for plugin in sensors)
        raise BadSetting("produce", names, "these read the same GPUs: configure one of them")
    return [*(sensors or without_options[:1]), *chosen]


class Sources:
    """The configured producers. `step` and `warn` get a text, from any thread.

    Raises BadSetting for options that are wrong.
    """

    def __init__(self, settings: Settings, step: Tell, warn: Tell) -> None:
        self._plugins, self._step, self._warn = configured(), step, warn
        self._stop = threading.Event()

    @asynccontextmanager
    async def running(self, settings: Settings, broker: OpenBroker | None) -> AsyncIterator[None]:
        """Run them until the block ends; then they send what they have, within STOP_WAIT_S."""
        sources = [_Source(plugin, settings, broker, self._stop, self._step, self._warn) for plugin in self._plugins]
        serve_joined_metrics(settings, lambda: [source.metrics for source in sources])
        threads = [threading.Thread(target=source.run, name=f"source {source.name}", daemon=True) for source in sources]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.to_thread(_join, threads)


def _join(threads: list[threading.Thread]) -> None:
    until_s = time.monotonic() + STOP_WAIT_S
    for thread in threads:
        thread.join(max(until_s - time.monotonic(), 0))


class _Source:
    """One producer, run again after each failure with a growing pause. Its errors are shown at a bounded rate."""

    def __init__(
        self, plugin: registry.AnyPlugin, settings: Settings, broker: OpenBroker | None, stop: threading.Event,
        step: Tell, warn: Tell,
    ) -> None:  # fmt: skip
        self._plugin, self._stop, self._step, self._warn = plugin, stop, step, warn
        # One process has one page of metrics (`cli.up_metrics`): a source does not open one of its own.
        self._settings, self._broker = settings.model_copy(update={"metrics_port": 0}), broker
        self._last_warning, self._lines = ("", 0.0), set[str]()
        self.name, self.metrics = plugin.name, CollectorRegistry()

    def run(self) -> None:
        """Run the producer until `stop`."""
        delay_s = FIRST_RETRY_S
        while not self._stop.is_set():
            begun_s, self.metrics = time.monotonic(), CollectorRegistry()
            try:
                for line in self._sights():
                    if line not in self._lines:  # Each once, however often it is run again.
                        self._lines.add(line)
                        self._step(line)
                run(
                    self.name, self._settings, self._stop, broker=self._broker, metrics=self.metrics,
                    on_listening=self._listening,
                )  # fmt: skip
                return
            except _UnusedError:
                return
            except Exception as error:  # Of any class: one source never ends the others.
                if time.monotonic() - begun_s > MAX_RETRY_S:
                    delay_s = FIRST_RETRY_S
                self._show(f"{self._plugin.name}: {error or type(error).__name__}", f" (again in {delay_s:g} s)")
            self._stop.wait(delay_s)
            delay_s = min(2 * delay_s, MAX_RETRY_S)

    def _sights(self) -> Iterator[str]:
        """Yield what the source reads. Raises _UnusedError where its options are another's: those of a route."""
        plugin, is_configured = self._plugin, self._plugin.check is None or self._plugin.kind is not Kind.POLLED
        for where, result in check(plugin, self._settings):
            is_configured = True
            if isinstance(result, str):
                yield f"{plugin.name}: {where}: {result}" if where else f"{plugin.name}: {result}"
            elif plugin.kind is Kind.POLLED:  # The frame reads on; of other kinds the run raises the same.
                place = "" if where in str(result) else f"{where}: "
                self._show(
                    f"{plugin.name}: {place}{result}", " (tried again)" if isinstance(result, Unavailable) else ""
                )
        if not is_configured:
            raise _UnusedError

    def _listening(self, address: str) -> None:
        self._step(f"{self._plugin.name}: listening on {address}")

    def _show(self, text: str, end: str) -> None:
        last, at_s = self._last_warning
        if text != last or time.monotonic() - at_s > SAME_ERROR_S:
            self._last_warning = text, time.monotonic()
            self._warn(text + end)


class _UnusedError(Exception):
    """End of a source that has nothing to read."""
