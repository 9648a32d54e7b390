"""What `[produce.bindings]` may say: who is asked which workload holds which GPU."""

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


def _listed(said: Any) -> Any:
    """One name, several with commas between them, or a list."""
    if not isinstance(said, str):
        return said
    return json.loads(said) if said.startswith("[") else [name.strip() for name in said.split(",")]


def _registered(name: str) -> str:
    names = registry.names(Kind.BINDING)
    if name not in names:
        raise ValueError(f"use one of {', '.join(names)}")
    return name


Listed = BeforeValidator(_listed)
SourceName = Annotated[str, AfterValidator(_registered)]


class PodLabelNames(BaseModel):
    """What a pod's labels are called."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field("wattlog.io/workload", description="Workload, as its requests name it.")
    tenant: str = Field("wattlog.io/tenant", description="Who pays when it is idle.")
    team: str = Field("wattlog.io/team", description="Team.")
    cost_centre: str = Field("wattlog.io/cost-centre", description="Cost centre.")
    model: str = Field("wattlog.io/model", description="Model that it serves.")


class ProcessRule(BaseModel):
    """Processes for which everything holds that is given here are of this workload. Patterns may hold `*` and `?`."""

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
    def _says_something(self) -> ProcessRule:
        if not (self.command or self.user or self.cgroup or self.container):
            raise ValueError("give at least one of command, user, cgroup and container")
        return self

    def matches(self, process: ProcessInfo) -> bool:
        pairs = ((self.command, process.command), (self.cgroup, process.cgroup), (self.container, process.container))
        if not all(fnmatchcase(said, pattern) for pattern, said in pairs if pattern):
            return False
        return not self.user or any(fnmatchcase(said, self.user) for said in (process.user, str(process.uid)))


class BindingsConfig(ProducerConfig):
    """Which workload holds which GPU: options that every producer of GPUs' energy shares."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_BINDINGS_")
    name: ClassVar[str] = "bindings"
    source: Annotated[tuple[SourceName, ...], NoDecode, Listed] = Field(
        ("settings",), min_length=1, description="Who is asked; of several, each for the GPUs that those before leave."
    )
    every_s: float = Field(10.0, ge=1, le=3600, description="How often they are asked.")
    keep_s: float = Field(
        300.0, ge=1, le=86_400, description="How long their last word holds while they do not answer."
    )
    record_s: float = Field(60.0, ge=0, le=3600, description="How often it goes on record who held what; 0: never.")
    labels: PodLabelNames = Field(default_factory=PodLabelNames, description="What the labels of pods are called.")
    tenant_from: Literal["label", "namespace"] = Field("label", description="What of a pod is its tenant.")
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
    proc: Path = Field(Path("/proc"), description="Where processes are looked up: /proc, or the host's.")
    scontrol: Path | None = Field(None, description="Slurm's `scontrol`, to ask for names and accounts of jobs.")
    rules: tuple[ProcessRule, ...] = Field(
        (), description="Which processes are of which workload; the first match wins."
    )
