"""Rules for reading spans: `[produce.otel.spans]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload_names import UNNAMED_TENANT
from producers.gateways.otel.span_roles import OPERATION
from producers.gateways.otel.spans import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER
from producers.gateways.request_fields import FieldPaths

SERVICE = "service.name"
Kind = Literal["client", "internal", "server", "producer", "consumer"]
KINDS: Mapping[int, Kind] = {
    0: "internal", INTERNAL: "internal", SERVER: "server", CLIENT: "client", PRODUCER: "producer", CONSUMER: "consumer",
}  # fmt: skip


class SpanRules(BaseModel):
    """Rules for reading spans.

    The first attribute with a value wins: on the span, on its ancestors in the same message, then on the resource.
    A name with the prefix `span:` or `resource:` is looked for there only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: FieldPaths = Field(
        default=("wattlog.tenant", "tenant.id"),
        description="Who pays: an attribute that your gateway or Collector sets, never what a client sends.",
    )
    otherwise: str = Field(
        default=UNNAMED_TENANT, description="Who pays for a span that has none of them; empty: such spans are refused."
    )
    kinds: tuple[Kind, ...] = Field(default=("client", "internal"), description="Span kinds that count.")
    operations: tuple[str, ...] = Field(
        default=(), description=f"Values of `{OPERATION}` that count; empty: every call of a model, whatever its name."
    )
    scopes: tuple[str, ...] = Field(default=(), description="Instrumentation scopes that count; empty: all.")
    session: FieldPaths = Field(
        default=("gen_ai.conversation.id", "session.id", "langfuse.session.id"),
        description="Session that a call belongs to.",
    )
    step: FieldPaths = Field(
        default=("wattlog.step",), description="Step of its session; for tools, else the tool's name."
    )
    route: FieldPaths = Field(
        default=("wattlog.route", SERVICE), description="Attribute that rules for workloads match as `route`."
    )
    application: FieldPaths = Field(
        default=("wattlog.application", SERVICE), description="Application that made the call."
    )
    user: FieldPaths = Field(
        default=("user.id", "enduser.id", "langfuse.user.id"),
        description="User that the call was for; stored as a keyed hash (setting `user_identity`).",
    )
    feature: FieldPaths = Field(default=("wattlog.feature",), description="Feature of the application.")
    priority: FieldPaths = Field(default=("wattlog.priority",), description="Priority of the call.")
    other_calls: Literal["agents", "all", "none"] = Field(
        default="agents",
        description="Client spans of HTTP APIs, databases and MCP that are metered: those of traces with calls of "
        "models, agents or tools and of sessions; all; none.",
    )
    region: FieldPaths = Field(
        default=("wattlog.region", "cloud.region"), description="Region that the call is counted in."
    )

    def names(self) -> set[str]:
        """Return the names of all attributes that these rules read."""
        paths = (
            self.tenant, self.session, self.step, self.route, self.application, self.user, self.feature, self.priority,
            self.region,
        )  # fmt: skip
        return {name.removeprefix("span:").removeprefix("resource:") for names in paths for name in names}
