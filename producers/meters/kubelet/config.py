"""Options of `wattlog produce kubelet`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from producers.runtime.config import ProducerConfig, without_secrets


class PodRule(BaseModel):
    """A rule: pods whose namespace and name match belong to this workload. Patterns may hold `*` and `?`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    namespace: str = Field("*", description="Namespace.")
    pod: str = Field("*", description="Pod's name.")
    workload: str = Field(description="Their workload.", min_length=1)
    tenant: str = Field("", description="Who pays; empty: no tenant.")

    def matches(self, namespace: str, pod: str) -> bool:
        return fnmatchcase(namespace, self.namespace) and fnmatchcase(pod, self.pod)


class KubeletConfig(ProducerConfig):
    """Options of `wattlog produce kubelet`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_KUBELET_")
    name: ClassVar[str] = "kubelet"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Address of the kubelet: https://NODE:10250.", pattern="^(https?://.+)?$"
    )
    rules: tuple[PodRule, ...] = Field((), description="Rules for pods; the first match wins.")
    every_s: float = Field(
        60.0, ge=10, le=3600, description="Seconds between two snapshots; the kubelet's own figures are 10 s old."
    )
    token_file: Path | None = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="Bearer token of the service account, read each time; needs `get` on `nodes/stats`.",
    )
    ca_file: Path | None = Field(
        None, description="Certificate authority of the kubelet's certificate; else the system's."
    )
