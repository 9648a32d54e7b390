"""Options of the producers of meters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from producers.meters.cgroups.cgroup_files import CgroupRule
from producers.meters.kubelet.stats_summary import PodRule
from producers.runtime.config import ProducerConfig, without_secrets


def without_passwords(dsn: str) -> str:
    """A database's address that may be shown. Raises ValueError for one that bears a password."""
    if urlsplit(dsn).password or "password=" in dsn:
        raise ValueError("leave the password out of the address: it is shown; use `password`")
    return dsn


class CgroupsConfig(ProducerConfig):
    """Options of `wattlog produce cgroups`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_CGROUPS_")
    name: ClassVar[str] = "cgroups"
    groups: tuple[CgroupRule, ...] = Field((), description="Which cgroups are whose; the first match wins.")
    host: bool = Field(True, description="Whether the node itself is metered too, as workload `~NODE`.")
    interfaces: tuple[str, ...] = Field(("e*", "ib*"), description="Network interfaces that count as the node's.")
    every_s: float = Field(60.0, ge=1, le=3600, description="How often they are looked at.")
    root: Path = Field(Path("/sys/fs/cgroup"), description="Where cgroup v2 is mounted.")
    proc: Path = Field(Path("/proc"), description="Where procfs is mounted.")


class KubeletConfig(ProducerConfig):
    """Options of `wattlog produce kubelet`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_KUBELET_")
    name: ClassVar[str] = "kubelet"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Of the kubelet: https://NODE:10250.", pattern="^(https?://.+)?$"
    )
    rules: tuple[PodRule, ...] = Field((), description="Which pods are whose; the first match wins.")
    every_s: float = Field(60.0, ge=10, le=3600, description="How often it is asked; its own figures are 10 s old.")
    token_file: Path | None = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="Bearer token of the service account, read at each look; needs `get` on `nodes/stats`.",
    )
    ca_file: Path | None = Field(
        None, description="Certificate authority of the kubelet's certificate; else the system's."
    )


class _Asked(BaseModel):
    """What every question says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    meter: str = Field(description="Name of the meter.", min_length=1, max_length=253)
    unit: str = Field(description="Its unit, as UCUM writes it: `1`, `By`, `s`, `USD`.", min_length=1, max_length=253)
    query: str = Field(description="What is asked for each window.", min_length=1)
    every_s: int = Field(60, ge=10, le=86_400, description="Length of a window.")
    offset_s: int = Field(60, ge=0, le=86_400, description="How long after a window's end it is asked for.")
    cluster: str = Field("", description="Its cluster; empty: the setting `cluster`.")
    workload: str = Field("unassigned", description="Workload of rows that name none.", min_length=1, max_length=253)
    tenant: str = Field("", description="Who pays for rows that name nobody.")
    columns: dict[str, str] = Field(
        {}, description="Labels or columns that say cluster, workload, tenant, session_id, trace_id or step."
    )

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        if odd := columns.keys() - {"cluster", "workload", "tenant", "session_id", "trace_id", "step"}:
            raise ValueError(f"{', '.join(sorted(odd))}: map cluster, workload, tenant, session_id, trace_id or step")
        return columns


class PromQuery(_Asked):
    """One PromQL query."""


class SqlQuery(_Asked):
    """One SQL query."""


class PrometheusConfig(ProducerConfig):
    """Options of `wattlog produce prometheus`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_PROMETHEUS_")
    name: ClassVar[str] = "prometheus"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Of Prometheus, Thanos, Mimir or VictoriaMetrics: http://10.0.0.7:9090.",
        pattern="^(https?://.+)?$",
    )  # fmt: skip
    queries: tuple[PromQuery, ...] = Field((), description="The meters.")
    bearer: SecretStr | None = Field(None, description="Bearer token that it asks for.")


class SqlConfig(ProducerConfig):
    """Options of `wattlog produce sql`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_SQL_")
    name: ClassVar[str] = "sql"
    dsn: Annotated[str, AfterValidator(without_passwords)] = Field(
        "", description="postgresql://user@host/database, or http(s)://user@host:8123/database (ClickHouse)."
    )
    password: SecretStr | None = Field(None, description="Password of its user, kept out of the address.")
    queries: tuple[SqlQuery, ...] = Field((), description="The meters.")
