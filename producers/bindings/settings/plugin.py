"""Binding source `settings`: one workload for all GPUs of the node, the settings' `workload` and `owner`."""

from __future__ import annotations

from contracts.errors import BadSetting
from contracts.settings import Settings
from producers.api import BindingSource, Environment, Kind, Plugin
from producers.bindings.claims import Boards, ClaimReport, DeviceClaim, WorkloadHolder, tenant_fault, workload_fault
from producers.bindings.config import BindingsConfig

NAME = "settings"


class SettingsBinding:
    """Claims every board for one workload; nothing where `workload` is "". Raises BadSetting for an unfit name."""

    name = NAME

    def __init__(self, settings: Settings) -> None:
        workload, owner = settings.workload, settings.owner
        if workload and (fault := workload_fault(workload)):
            raise BadSetting("workload", workload, fault)
        if owner and (fault := tenant_fault(owner)):
            raise BadSetting("owner", owner, fault)
        self._holder = WorkloadHolder(workload, owner, NAME) if workload else None

    def read(self, topology: Boards, now_ms: int) -> ClaimReport:
        return ClaimReport([DeviceClaim(board.uuid, self._holder) for board in topology] if self._holder else ())


def build(options: BindingsConfig, environment: Environment) -> BindingSource:
    """Build the binding of the settings."""
    return SettingsBinding(environment.settings)


PLUGIN = Plugin(NAME, Kind.BINDING, "one workload for all GPUs of the node", build, BindingsConfig)
