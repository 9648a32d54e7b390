"""Binding source `slurm`: jobs whose processes compute on GPUs."""

from __future__ import annotations

from producers.api import BindingSource, Environment, Kind, Plugin
from producers.bindings.config import BindingsConfig
from producers.bindings.procfs import ProcFs
from producers.bindings.slurm.jobs import NAME, Scontrol, SlurmBindings


def build(options: BindingsConfig, environment: Environment) -> BindingSource:
    """Build the source over the machine's processes. Raises Unavailable where no sensor shows them."""
    scontrol = Scontrol(options.scontrol) if options.scontrol else None
    return SlurmBindings(environment.inventory().running, ProcFs(options.proc), scontrol)


PLUGIN = Plugin(NAME, Kind.BINDING, "Slurm's jobs: the control groups of processes", build, BindingsConfig)
