"""`wattlog produce cgroups`: CPU, memory, storage and network of a node's cgroups and of the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contracts.errors import BadSetting
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.meters.cgroups import cgroup_files
from producers.meters.cgroups.config import CgroupsConfig
from producers.meters.observations import ObservedSource, describe_observation


def cgroups_source(options: CgroupsConfig, environment: Environment) -> ObservedSource:
    """Build the source of the node's cgroups. Raises BadSetting where nothing is configured."""
    if not (options.groups or options.host):
        raise BadSetting("produce.cgroups.groups", [], "say which cgroups are whose, or set host = true")
    node = environment.node
    cgroups = cgroup_files.CgroupReader(
        options.groups, node, root=options.root, proc=options.proc, host=options.host, interfaces=options.interfaces
    )
    every_ms = round(1000 * options.every_s)
    return ObservedSource(cgroup_files.KIND, node, environment.settings.cluster, node, every_ms, cgroups.observe)


def build(options: CgroupsConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the node's cgroups."""
    return [cgroups_source(options, environment)]


def check(options: CgroupsConfig, environment: Environment) -> Iterator[Finding]:
    """Yield how many cgroups are whose; nothing where none is configured."""
    if options.groups:
        yield describe_observation(cgroups_source(options, environment), environment.clock)


PLUGIN = Plugin(
    "cgroups", Kind.POLLED,
    "CPU, memory, storage and network of a node's cgroups (containers, services, jobs) and of the node", build,
    CgroupsConfig, check,
)  # fmt: skip
