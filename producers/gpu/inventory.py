"""Sensors of this machine: which registered plug-in sees its GPUs, and which can show boards and processes."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from contracts.errors import Unavailable
from contracts.settings import Settings
from producers import registry
from producers.api import Environment, GpuInventory, GpuSensor, Kind
from producers.runtime.clock import SystemClock
from producers.runtime.config import load_options


def open_inventory(settings: Settings, resources: ExitStack) -> GpuInventory:
    """Open the first registered sensor that can show this machine's boards and processes; `resources` closes it.

    Raises Unavailable naming why each sensor cannot.
    """
    stop = threading.Event()
    reasons: list[str] = []
    for plugin in registry.plugins(Kind.GPU):
        with ExitStack() as own:
            try:
                sensor = plugin.factory(
                    load_options(plugin.options), Environment(settings, SystemClock(stop), stop, own)
                )
            except Exception as error:
                reasons.append(f"{plugin.name}: {error}")
                continue
            if isinstance(sensor, GpuInventory):
                resources.enter_context(own.pop_all())
                return sensor
    raise Unavailable(
        f"No GPU sensor shows boards and processes here: {'; '.join(reasons) or 'none has an inventory'}",
        "Run this where the GPUs' driver can be reached.",
    )


def find_sensor(environment: Environment) -> tuple[GpuSensor, list[str]]:
    """Return the sensor that meters this node, and the UUIDs of its GPUs: a configured one before one that needs no
    options. Raises Unavailable naming why each sensor sees no GPU."""
    candidates = [(plugin, load_options(plugin.options)) for plugin in registry.plugins(Kind.GPU)]
    candidates.sort(key=lambda pair: not getattr(pair[1], "model_fields_set", ()))
    reasons: list[str] = []
    for plugin, options in candidates:
        try:
            sensor: GpuSensor = plugin.factory(options, environment)
            return sensor, list(sensor.discover())
        except Exception as error:
            reasons.append(f"{plugin.name}: {error}")
    raise Unavailable(
        f"No GPU is metered here: {'; '.join(reasons)}", "Ask on the node, or configure the sensor that it runs."
    )
