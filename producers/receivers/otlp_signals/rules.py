"""Rules that OTLP's metrics and logs share: which services count, who pays, which session."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload_names import UNNAMED_TENANT
from producers.gateways.calls import text_or_empty
from producers.gateways.request_fields import FieldPaths
from producers.receivers.otlp_signals.decoding import AttributeValue, scalars

SERVICE = "service.name"


class SignalRules(BaseModel):
    """Rules for reading metrics and logs. Attributes are looked for on the point or record, then on the resource.

    A name with the prefix `resource:` is looked for on the resource only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    services: tuple[str, ...] = Field(
        default=("*",),
        description="Services (`service.name`) that count: those whose spans are not counted. Patterns may hold `*`.",
    )
    tenant: FieldPaths = Field(
        default=("resource:wattlog.tenant", "resource:tenant.id"),
        description="Who pays: an attribute that your Collector sets, never what a client sends.",
    )
    otherwise: str = Field(
        default=UNNAMED_TENANT, description="Who pays where none of them has a value; empty: refused."
    )
    session: FieldPaths = Field(
        default=("session.id", "gen_ai.conversation.id", "conversation.id"), description="Session of the calls."
    )

    def names(self) -> set[str]:
        """Return the names of the attributes that the rules read."""
        return {name.removeprefix("resource:") for name in (*self.tenant, *self.session)} | {SERVICE}

    def select(self, pairs: Collection[Any]) -> dict[str, AttributeValue]:
        """Return the attributes that the rules name."""
        return scalars(pairs, self.names())

    def counts(self, resource: Mapping[str, AttributeValue]) -> bool:
        """Return whether the service of a resource counts."""
        service = str(resource.get(SERVICE, ""))
        return any(fnmatchcase(service, pattern) for pattern in self.services)

    def tenant_of(self, own: Mapping[str, AttributeValue], resource: Mapping[str, AttributeValue]) -> str:
        return _first(self.tenant, own, resource)

    def session_of(self, own: Mapping[str, AttributeValue], resource: Mapping[str, AttributeValue]) -> str:
        return text_or_empty(_first(self.session, own, resource))


def _first(names: Sequence[str], own: Mapping[str, AttributeValue], resource: Mapping[str, AttributeValue]) -> str:
    """Return the first of these attributes that has a value, or ""."""
    for name in names:
        bare = name.removeprefix("resource:")
        for place in (resource,) if bare != name else (own, resource):
            if place.get(bare) not in (None, ""):
                return str(place[bare])
    return ""
