"""Runner of plug-ins: builds a source from its options and passes it to the loop of its kind, until a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from contracts.settings import Settings
from producers import registry
from producers.api import Environment, Finding, Kind, RecordingReader
from producers.gpu.inventory import open_inventory
from producers.recordings.base import Recording
from producers.runtime.clock import SystemClock
from producers.runtime.config import load_options
from producers.runtime.delivery import Broker

OpenBroker = Callable[[], AbstractContextManager[Broker]]


def run(
    name: str, settings: Settings, stop: threading.Event, *, kafka: Mapping[str, object] | None = None,
    broker: OpenBroker | None = None, metrics: CollectorRegistry | None = None, **arguments: Any,
) -> None:  # fmt: skip
    """Run `wattlog produce NAME` until `stop`. `kafka` overrides client properties; `arguments` are the command's.

    `broker` opens the log that takes the events instead of the settings' Kafka; `metrics` gets the source's metrics.

    Raises BadSetting for a name or an option that is wrong, Unavailable where a prerequisite is missing at the start or
    where rows could be neither sent nor stored at the end.
    """
    plugin = registry.get(name)
    with open_environment(settings, stop, arguments, broker, metrics) as environment:
        source = plugin.factory(load_options(plugin.options), environment)
        if plugin.kind is Kind.GPU:
            from producers.runtime.agent_runner import run_gpu_sensor

            run_gpu_sensor(source, environment, kafka or {})
        elif plugin.kind is Kind.POLLED:
            from producers.runtime.poll_loop import run_polled_sources

            run_polled_sources(name, source, environment, kafka or {})
        elif plugin.kind is Kind.EVENTS:
            from producers.runtime.pacing import run_event_stream

            run_event_stream(source, environment, kafka or {})
        else:
            from producers.runtime.receiver.runner import run_listener

            run_listener(name, source, environment, kafka or {})


def check(plugin: registry.AnyPlugin, settings: Settings) -> Iterator[Finding]:
    """Yield a plug-in's findings for `wattlog doctor`: none where it has no check or is not configured."""
    if plugin.check is not None:
        with open_environment(settings, threading.Event(), {}) as environment:
            yield from plugin.check(load_options(plugin.options), environment)


def open_recording(name: str, settings: Settings, *files: Any, **options: Any) -> Recording:
    """Open the recording of `wattlog replay NAME`. Raises BadInput for files that are no such recording."""
    plugin = registry.get(name, Kind.RECORDING)
    with open_environment(settings, threading.Event(), {}) as environment:
        reader: RecordingReader = plugin.factory(load_options(plugin.options), environment)
        return reader(*files, **options)


@contextmanager
def open_environment(
    settings: Settings,
    stop: threading.Event,
    arguments: Mapping[str, Any],
    broker: OpenBroker | None = None,
    metrics: CollectorRegistry | None = None,
) -> Iterator[Environment]:
    """Yield a plug-in's environment, and close its resources at the end."""
    with ExitStack() as resources:
        inventory = partial(open_inventory, settings, resources)
        yield Environment(
            settings,
            SystemClock(stop),
            stop,
            resources,
            inventory=inventory,
            arguments=arguments,
            broker=broker,
            metrics=metrics or CollectorRegistry(),
        )


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set, so that a source can send its rows and end. Main thread only.

    The second SIGINT ends the process at once.
    """
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not set here: the main thread may be inside stop.wait(), holding the very lock that set() takes.
        threading.Thread(target=stop.set, name="stop", daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop
