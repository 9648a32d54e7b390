"""Access to producers for tests: a plug-in's findings for the doctor, an environment for its source, its counters."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from contracts.settings import Settings
from producers import registry
from producers.api import PRODUCERS, Environment, Finding, Kind, TokenCounters
from producers.runtime.clock import SystemClock
from producers.runtime.runner import check


def findings(name: str, settings: Settings) -> list[Finding]:
    """Return what `wattlog doctor` shows of a producer or of shared options."""
    return list(check(registry.get(name, *PRODUCERS, Kind.SHARED), settings))


def environment(settings: Settings) -> Environment:
    """Return an environment whose resources stay open until the test ends."""
    stop = threading.Event()
    return Environment(settings, SystemClock(stop), stop, ExitStack())


def token_counters(server: str) -> TokenCounters:
    """Return the counters of a registered inference server."""
    counters: TokenCounters = registry.get(server, Kind.SERVER).factory(None, environment(Settings()))
    return counters
