"""`wattlog produce runai`: what Run:ai measures, as metered quantities."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from contracts import topics
from contracts.errors import BadInput, BadSetting, Unavailable, WattlogError
from contracts.settings import Settings
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.runai import meters, schedule
from producers.runai.client import RunAiClient, RunAiCredentials
from producers.runai.listing import RunAiListing
from producers.runai.metrics import RunAiMetrics
from producers.runai.normalise import RowTerms, TenantRule
from producers.runai.source import UNREADABLE, RunAiOptions, RunAiSource
from producers.runtime.clock import Clock
from producers.runtime.config import ProducerConfig, without_secrets

Filter = Annotated[str, Field(pattern=r"^\w{1,64}(==|!=|<=|>=|=@|!@|=\^|=\$)[^,]{1,200}$")]


class RunAiConfig(ProducerConfig):
    """Options of `wattlog produce runai`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_RUNAI_")
    name: ClassVar[str] = "runai"
    url: str = Field("", description="Run:ai's own address: https://acme.run.ai.")
    app_id: str = Field("", description="Id of the application or access key.")
    app_secret: SecretStr | None = Field(None, description="Its secret.")
    grant: Literal["app_token", "client_credentials"] = Field(
        "app_token",
        description="Kind of these credentials: of an application, or the access key of a service account or user.",
    )
    schedule: str = Field("@every 1m", description="When windows end: `@every 1m`, `@hourly`, or cron, in UTC.")
    metrics_offset_s: float = Field(
        60.0, ge=0, le=86_400, description="How long after its end a window is read: samples come late."
    )
    resource: Literal["workloads", "pods", "both"] = Field("workloads", description="Resources that are metered.")
    workload_metrics: tuple[str, ...] = Field(tuple(meters.WORKLOAD), description="Metrics of workloads.")
    pod_metrics: tuple[str, ...] = Field(
        meters.BASIC_POD, description="Metrics of pods; the others need Run:ai's GPU profiling."
    )
    samples: int = Field(
        0, ge=0, le=1_000, description="Samples of a window that are averaged; 0: one for each 15 s, 1: the last."
    )
    activity: Literal["ratio", "percent"] = Field(
        "ratio", description="Whether this Run:ai gives SM activity and the like out of 1 or of 100."
    )
    tenant_by: Literal["project", "department"] = Field("project", description="Whose name is the tenant's.")
    tenants: dict[str, str] = Field({}, description="Tenants of projects (departments) that have another name.")
    other_tenant: str = Field("", description="Tenant of all that `tenants` does not name; empty: their own name.")
    cluster: str = Field("", description="Cluster of all rows; empty: Run:ai's name of each.")
    filter: tuple[Filter, ...] = Field((), description="Which workloads, as Run:ai's `filterBy`: `projectName==x`.")
    page_size: int = Field(500, ge=2, le=500, description="Workloads or pods a page.")
    timeout_s: float = Field(30.0, ge=0.1, le=300, description="How long an answer may take.")
    concurrency: int = Field(8, ge=1, le=64, description="Calls at a time.")
    max_windows: int = Field(60, ge=1, le=10_000, description="Missed windows that are read in one turn.")
    give_up_s: float = Field(
        86_400.0, ge=60, le=31_536_000, description="How long something that cannot be read is tried again."
    )

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("give an http:// or https:// address")
        return without_secrets(url).rstrip("/")

    @field_validator("schedule")
    @classmethod
    def _readable(cls, text: str) -> str:
        with _as_value_errors():
            schedule.parse_schedule(text)
        return text

    @field_validator("workload_metrics")
    @classmethod
    def _of_workloads(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        with _as_value_errors():
            return meters.check_metrics("workload", metrics)

    @field_validator("pod_metrics")
    @classmethod
    def _of_pods(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        with _as_value_errors():
            return meters.check_metrics("pod", metrics)

    @field_validator("cluster")
    @classmethod
    def _a_cluster(cls, name: str) -> str:
        with _as_value_errors():
            return topics.check_name("cluster", name) if name else ""

    @field_validator("tenants", "other_tenant")
    @classmethod
    def _payers(cls, tenants: dict[str, str] | str) -> dict[str, str] | str:
        if any(name.startswith("__") for name in (tenants.values() if isinstance(tenants, dict) else (tenants,))):
            raise ValueError("tenants that begin with '__' are Wattlog's own")
        return tenants


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """Raise BadInput as ValueError, to which pydantic adds the name of the option."""
    try:
        yield
    except BadInput as error:
        raise ValueError(error.fix) from None


def api_of(config: RunAiConfig, clock: Clock, transport: httpx.BaseTransport | None = None) -> RunAiClient:
    """Return the configured client. Raises BadSetting for a required option that is missing."""
    for option in ("url", "app_id", "app_secret"):
        if not getattr(config, option):
            mend = "producers/runai/README.md has an example; give the secret as WATTLOG_RUNAI_APP_SECRET"
            raise BadSetting(f"produce.runai.{option}", "", mend)
    assert config.app_secret is not None
    credentials = RunAiCredentials(config.grant, config.app_id, config.app_secret.get_secret_value())
    return RunAiClient(
        config.url, credentials, clock, random.random, timeout_s=config.timeout_s, connections=config.concurrency,
        transport=transport,
    )  # fmt: skip


def source_of(settings: Settings, config: RunAiConfig, api: RunAiClient, metrics: RunAiMetrics) -> RunAiSource:
    """The configured Run:ai as a source."""
    host = urlsplit(config.url).netloc
    pods = config.pod_metrics if config.resource != "workloads" else ()
    workloads = config.workload_metrics if config.resource != "pods" else ()
    options = RunAiOptions(
        schedule=schedule.parse_schedule(config.schedule),
        offset_ms=round(1000 * config.metrics_offset_s),
        workload_metrics=workloads,
        pod_metrics=pods,
        give_up_ms=round(1000 * config.give_up_s),
        max_windows=config.max_windows,
        concurrency=config.concurrency,
        cluster=config.cluster,
        default_cluster=settings.cluster,
        filtered=bool(config.filter),
    )
    rule = TenantRule(config.tenant_by, config.tenants, config.other_tenant)
    terms = RowTerms(f"runai://{host}", rule, config.samples, config.activity)
    return RunAiSource(host, api, RunAiListing(api, config.page_size, config.filter), terms, options, metrics)


def build(options: RunAiConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the configured Run:ai."""
    api = environment.resources.enter_context(api_of(options, environment.clock))
    return [source_of(environment.settings, options, api, RunAiMetrics(environment.metrics))]


def check(options: RunAiConfig, environment: Environment) -> Iterator[Finding]:
    """Yield how many workloads the configured Run:ai lists, or why it gives no token or no list."""
    if not options.url:
        return
    with api_of(options, environment.clock) as api:
        listing = RunAiListing(api, options.page_size, options.filter)
        try:
            workloads = listing.count()
            clusters = options.cluster or _clusters(listing)
            yield options.url, f"{workloads} workloads that may have pods, of {clusters}"
        except WattlogError as error:
            yield options.url, error


def _clusters(listing: RunAiListing) -> str:
    try:
        return ", ".join(sorted(listing.clusters().values())) or "no cluster"
    except Unavailable as error:
        if error.reason not in UNREADABLE:
            raise
        return "clusters whose names may not be read: set `cluster`, or they go under their ids"


PLUGIN = Plugin(
    "runai", Kind.POLLED, "Run:ai's workloads and pods: GPU-, CPU- and memory-minutes from its control plane", build,
    RunAiConfig, check,
)  # fmt: skip
