"""Binding source `processes`: rules for processes that compute on GPUs."""

from __future__ import annotations

from producers.api import BindingSource, Environment, Kind, Plugin
from producers.bindings.config import BindingsConfig
from producers.bindings.processes.rules import NAME, ProcessBindings
from producers.bindings.procfs import ProcFs


def build(options: BindingsConfig, environment: Environment) -> BindingSource:
    """Build the source over the machine's processes. Raises Unavailable where no sensor shows them."""
    return ProcessBindings(environment.inventory().running, ProcFs(options.proc), options.rules)


PLUGIN = Plugin(NAME, Kind.BINDING, "plain processes, by rules", build, BindingsConfig)
