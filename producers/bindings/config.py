"""What `[produce.bindings]` may say: who is asked which workload holds which GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from producers.bindings.kubernetes.pods import PodLabelNames
from producers.bindings.processes.rules import ProcessRule
from producers.runtime.config import ProducerConfig, without_secrets

SourceName = Literal["kubernetes", "slurm", "processes", "settings"]
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def _listed(said: Any) -> Any:
    """One name, several with commas between them, or a list."""
    if not isinstance(said, str):
        return said
    return json.loads(said) if said.startswith("[") else [name.strip() for name in said.split(",")]


Listed = BeforeValidator(_listed)


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
