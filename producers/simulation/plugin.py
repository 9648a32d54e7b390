"""`wattlog produce simulated`: a SIMULATED fleet's events as they come due."""

from __future__ import annotations

from producers.api import Environment, EventStream, Kind, Plugin
from producers.simulation.events import SimulatedFleet


def build(options: None, environment: Environment) -> EventStream:
    """Build the fleet of the argument `seed`, with the argument `faults` where there is one."""
    fleet: EventStream = SimulatedFleet(
        environment.arguments.get("seed", 1), faults=environment.arguments.get("faults")
    )
    return fleet


PLUGIN = Plugin("simulated", Kind.EVENTS, "SIMULATED: a seeded fleet of 48 GPUs with its tenants' requests", build)
