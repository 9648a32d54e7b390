"""Options of `wattlog produce servers`."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from producers.runtime.config import ProducerConfig, without_secrets
from producers.servers.counter_names import parse_name
from producers.servers.scrape import CountAs

_SELECTOR_CHARS = re.compile(r"[\w.,/()!=\s-]+", re.ASCII)


def _counter_name(text: str) -> str:
    parse_name(text)
    return text


def _http(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("give an http:// or https:// address")
    return without_secrets(url)


Name = Annotated[str, AfterValidator(_counter_name)]
Several = Annotated[tuple[Name, ...], Field(min_length=1)]


class OwnNames(BaseModel):
    """A server that Wattlog does not know, by the names of its counters; of several, the first on the page counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompt: Several
    completion: Several
    cached: tuple[Name, ...] = ()
    requests: tuple[Name, ...] = ()
    failures: tuple[Name, ...] = ()
    life_s: tuple[Name, ...] = Field(
        (), description="Sums the seconds of finished requests, if tokens count at their finish."
    )
    failed: frozenset[str] = Field(frozenset(), description="Values of labels that mark a request as a failure.")
    model_labels: tuple[str, ...] = ("model_name", "model")
    tenant_labels: tuple[str, ...] = Field(
        (), description="Labels that name the tenant; the first with a value counts."
    )


class Served(BaseModel):
    """Options of a server, however it is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    server: str = Field(description="What it is: a server of `wattlog produce --list`, or a name under `names`.")
    tenant: str = Field("", description="Who pays for tokens that no label gives to a tenant; empty: `tenant` of all.")
    cluster: str = Field("", description="Its cluster; empty: the setting `cluster`.")
    tenant_labels: tuple[str, ...] = Field((), description="Labels of its counters that name the tenant.")
    gpu: str = Field("", description="Type of its GPUs (H100), for the limit of its tokens per second.")
    gpus: int = Field(8, ge=1, le=100_000, description="Number of its GPUs, for the limit.")
    count: CountAs = Field("requests", description="`requests`, or `compare`: only usage to compare with a gateway's.")


class At(Served):
    """One server."""

    url: Annotated[str, AfterValidator(_http)] = Field(description="Of its metrics: http://10.0.0.5:8000/metrics.")
    workload: str = Field(description="Workload that it serves: as the agents of its GPUs say.")
    models: tuple[str, ...] = Field((), description="Models of this workload (patterns with `*`), where it has others.")


class PodsAt(Served):
    """Servers in the pods of a Kubernetes namespace, by the pods' labels or by the Service in front of them."""

    namespace: str = Field(description="Namespace of the pods.", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    selector: str = Field("", description="Label selector of the pods: app=vllm,tier!=test.", max_length=1_000)
    service: str = Field(
        "",
        description="Service, headless or not, whose pods are read.",
        pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
    )
    port: int | str = Field(8000, description="Port of the metrics: its number, or its name in the pod.")
    path: str = Field("/metrics", description="Path of the metrics.", pattern=r"^/[!-~]*$")
    scheme: str = Field("http", description="http or https.", pattern="^https?$")
    workload: str = Field("", description="Workload; empty: by the pod's label, as the agents name it.")
    this_node: bool = Field(False, description="Read the pods of this node (setting `node`) only: one producer a node.")

    @field_validator("selector")
    @classmethod
    def _selector(cls, selector: str) -> str:
        if selector and not _SELECTOR_CHARS.fullmatch(selector):
            raise ValueError("give a label selector of Kubernetes, such as app=vllm")
        return selector

    @model_validator(mode="after")
    def _names_pods(self) -> PodsAt:
        if bool(self.selector) is bool(self.service):
            raise ValueError("give either `selector` or `service`")
        return self

    @property
    def name(self) -> str:
        """Name for people and metrics."""
        return f"{self.namespace}/{self.service or self.selector}"


class ServersConfig(ProducerConfig):
    """Options of `wattlog produce servers`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_SERVERS_")
    name: ClassVar[str] = "servers"
    at: tuple[At, ...] = Field((), description="The servers, by address.")
    pods: tuple[PodsAt, ...] = Field((), description="Servers in pods of Kubernetes, as many as there are.")
    tenant: str = Field("", description="Who pays for tokens of servers that name no tenant of their own.")
    every_s: float = Field(10.0, ge=0.5, le=3600, description="How often each is read.")
    bearer: SecretStr | None = Field(None, description="Bearer token that the servers ask for.")
    names: dict[str, OwnNames] = Field(
        {}, description="Servers that Wattlog does not know, by the names of their counters."
    )
    max_tokens_per_s: dict[str, Annotated[int, Field(ge=1, le=10**12)]] = Field(
        {}, description="Most tokens per second of one GPU, by its type; '' of those whose type is not given."
    )
