"""Routes of the listener: those of every registered plug-in of kind ROUTE."""

from __future__ import annotations

from collections.abc import Sequence

from producers import registry
from producers.api import Environment, Kind, Route
from producers.runtime.config import load_options


def open_routes(environment: Environment) -> Sequence[Route]:
    """Build every registered route. Raises BadSetting for options that cannot be used."""
    return [plugin.factory(load_options(plugin.options), environment) for plugin in registry.plugins(Kind.ROUTE)]
