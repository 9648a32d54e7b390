"""Options of `[produce.bindings]`: the sources of bindings, and how each is read."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from producers import registry
from producers.api import Kind
from producers.bindings.claims import tenant_fault, workload_fault
from producers.bindings.procfs import ProcessInfo
from producers.runtime.config import ProducerConfig, without_secrets

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def _to_list(value: Any) -> Any:
    """Return the names of a text: JSON, or names separated by commas. Other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.startswith("[") else [name.strip() for name in value.split(",")]


def _registered(name: str) -> str:
    names = registry.names(Kind.BINDING)
    if name not in names:
        raise ValueError(f"use one of {', '.join(names)}")
    return name


Listed = BeforeValidator(_to_list)
SourceName = Annotated[str, AfterValidator(_registered)]


class PodLabelNames(BaseModel):
    """Names of the labels of pods."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field(default="wattlog.io/workload", description="Workload, as its requests name it.")
    tenant: str = Field(default="wattlog.io/tenant", description="Who pays when it is idle.")
    team: str = Field(default="wattlog.io/team", description="Team.")
    cost_centre: str = Field(default="wattlog.io/cost-centre", description="Cost centre.")
    model: str = Field(default="wattlog.io/model", description="Model that it serves.")


class ProcessRule(BaseModel):
    """Workload of the processes that match all given patterns, in which `*` and `?` are wildcards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field(description="Workload, as its requests name it.")
    tenant: str = Field("", description="Who pays when it is idle.")
    team: str = Field("", description="Team.")
    cost_centre: str = Field("", description="Cost centre.")
    model: str = Field("", description="Model that it serves.")
    command: str = Field("", description="Pattern of the command line.")
    user: str = Field("", description="Pattern of the user's name, or of its number.")
    cgroup: str = Field("", description="Pattern of the control group's path.")
    container: str = Field("", description="Pattern of the container's id.")

    @field_validator("workload")
    @classmethod
    def _workload(cls, workload: str) -> str:
        if fault := workload_fault(workload):
            raise ValueError(fault)
        return workload

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, tenant: str) -> str:
        if tenant and (fault := tenant_fault(tenant)):
            raise ValueError(fault)
        return tenant

    @model_validator(mode="after")
    def _has_a_pattern(self) -> ProcessRule:
        if not (self.command or self.user or self.cgroup or self.container):
            raise ValueError("give at least one of command, user, cgroup and container")
        return self

    def matches(self, process: ProcessInfo) -> bool:
        """Return True if the process matches all patterns of the rule."""
        pairs = ((self.command, process.command), (self.cgroup, process.cgroup), (self.container, process.container))
        if not all(fnmatchcase(value, pattern) for pattern, value in pairs if pattern):
            return False
        return not self.user or any(fnmatchcase(user, self.user) for user in (process.user, str(process.uid)))


class BindingsConfig(ProducerConfig):
    """Options of bindings, which all sources of GPUs' energy share."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_BINDINGS_")
    name: ClassVar[str] = "bindings"
    source: Annotated[tuple[SourceName, ...], NoDecode, Listed] = Field(
        ("settings",),
        min_length=1,
        description="Sources of bindings; of several, each for the GPUs that those before leave.",
    )
    every_s: float = Field(10.0, ge=1, le=3600, description="Seconds between two readings.")
    keep_s: float = Field(
        300.0, ge=1, le=86_400, description="Seconds that a last answer is good while a source does not answer."
    )
    record_s: float = Field(60.0, ge=0, le=3600, description="Seconds between two records of the holders; 0: never.")
    labels: PodLabelNames = Field(default_factory=PodLabelNames, description="Names of the labels of pods.")
    tenant_from: Literal["label", "namespace"] = Field("label", description="Part of a pod that names its tenant.")
    resources: Annotated[tuple[str, ...], NoDecode, Listed] = Field(
        ("nvidia.com/gpu*", "nvidia.com/mig-*", "gpu.nvidia.com"),
        description="Resources, and drivers of claims, that are GPUs.",
    )
    kubelet: Path = Field(
        Path("/var/lib/kubelet/pod-resources/kubelet.sock"), description="The kubelet's socket of pod resources."
    )
    api: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Address of the Kubernetes API; empty: the cluster's own.", pattern="^(https?://.+)?$"
    )
    token: Path = Field(_ACCOUNT / "token", description="File with the service account's token.")
    ca: Path = Field(_ACCOUNT / "ca.crt", description="File with the API's CA certificates.")
    proc: Path = Field(Path("/proc"), description="Procfs of the processes: /proc, or the host's.")
    scontrol: Path | None = Field(None, description="Slurm's `scontrol`, for names and accounts of jobs.")
    rules: tuple[ProcessRule, ...] = Field((), description="Workloads of processes; the first match wins.")
