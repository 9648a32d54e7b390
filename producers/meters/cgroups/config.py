"""Options of `wattlog produce cgroups`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from producers.runtime.config import ProducerConfig


class CgroupRule(BaseModel):
    """A rule: cgroups whose path matches belong to this workload. `*` does not cross a '/', `**` does."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str = Field(description="Below the root: system.slice/vllm-*.service.", min_length=1)
    workload: str = Field(description="Their workload.", min_length=1)
    tenant: str = Field("", description="Who pays; empty: no tenant.")


class CgroupsConfig(ProducerConfig):
    """Options of `wattlog produce cgroups`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_CGROUPS_")
    name: ClassVar[str] = "cgroups"
    groups: tuple[CgroupRule, ...] = Field((), description="Rules for cgroups; the first match wins.")
    host: bool = Field(True, description="Whether the node itself is metered too, as workload `~NODE`.")
    interfaces: tuple[str, ...] = Field(("e*", "ib*"), description="Network interfaces that count as the node's.")
    every_s: float = Field(60.0, ge=1, le=3600, description="Seconds between two snapshots.")
    root: Path = Field(Path("/sys/fs/cgroup"), description="Where cgroup v2 is mounted.")
    proc: Path = Field(Path("/proc"), description="Where procfs is mounted.")
