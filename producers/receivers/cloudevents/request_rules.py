"""Rules of the configuration that say which events are requests of a model, by their type. Pure.

Such an event becomes a row of `wattlog.tokens.v1`, so it bears energy. Its fields are those of `/v1/requests`
(`producers.receivers.request_items`), each at a path in the event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.checks import MAX_TEXT
from contracts.errors import BadInput, BadSetting
from producers.api import ReceivedRequest
from producers.receivers.cloudevents.meter_rules import ATTRIBUTES, CloudEvent, at, path
from producers.receivers.request_items import FIELDS, ItemReader, RequestItem, quotable

PROMPT_KINDS = ("input", "prompt", "system")
COMPLETION_KINDS = ("output", "completion")
"""Values of `kind`: OpenMeter's events count the tokens of one kind each."""
_EVENT_FIELDS = ("id", *ATTRIBUTES)
_RESERVED = ("tenant", "workload", "cluster", "sender")
"""Fields that a rule names by options of its own, or that no event may name."""


class RequestRule(BaseModel):
    """A rule that makes a request of each event of one type. Paths are those of meters."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    event_type: str = Field(min_length=1, max_length=MAX_TEXT, description="Type of the events that are requests.")
    fields: Mapping[str, str] = Field(
        {}, description="Fields of a request, as in `/v1/requests`: a path in `data`, or `id`, `subject`, `source`."
    )
    tokens: str = Field("", description="Path of a count of tokens of one `kind`, where an event has one count only.")
    kind: str = Field("", description="Path of its kind: input, prompt, system; or output, completion.")
    time: Literal["start", "end"] = Field("end", description="The event's time: when the request began, or ended.")
    tenant: str = Field("subject", description="Who pays, where the sender may name tenants: `subject`, or a path.")
    workload: str = Field("", description="Its workload: a name, or a path; empty: `[[produce.requests.deployments]]`.")

    @model_validator(mode="after")
    def _check_rule(self) -> RequestRule:
        for name, place in self.fields.items():
            if name not in FIELDS or name in _RESERVED:
                raise ValueError(
                    f"fields: {name!r} is no field; there are: {', '.join(sorted(FIELDS - set(_RESERVED)))}"
                )
            if place not in _EVENT_FIELDS:
                path(place)
        if bool(self.tokens) != bool(self.kind):
            raise ValueError("give `tokens` and `kind`, or neither")
        for place in (self.tokens, self.kind, self.workload if self.workload.startswith("$") else ""):
            if place:
                path(place)
        if self.tenant not in ("", *ATTRIBUTES):
            path(self.tenant)
        if not self.tokens and not self.fields.keys() & {"prompt_tokens", "input_tokens", "usage"}:
            raise ValueError("say where its tokens are: `tokens` and `kind`, or prompt_tokens or usage in `fields`")
        return self


class RequestRules:
    """The rules by event type, and the reader of the requests that they make.

    Raises BadSetting where two rules have one type: an event would count twice.
    """

    def __init__(self, rules: Sequence[RequestRule], reader: ItemReader) -> None:
        self._rules = {rule.event_type: rule for rule in rules}
        self._reader = reader
        if len(self._rules) < len(rules):
            raise BadSetting("produce.http.requests", len(rules), "two rules have one event_type; remove one")

    def has(self, event_type: str) -> bool:
        return event_type in self._rules

    def read(self, event: CloudEvent, sent: ReceivedRequest, latest_ms: int) -> RequestItem:
        """Return the request of an event. Raises BadInput that names the field."""
        rule = self._rules[event.type]
        item = {name: _value(event, place) for name, place in rule.fields.items()}
        item.setdefault("request_id", event.id)
        item.setdefault(rule.time, event.time_ms)
        if not item.keys() & {"duration_ms", "duration_s", "start" if rule.time == "end" else "end"}:
            item["duration_ms"] = 0  # A moment: the request ran in the window of its time.
        if rule.tokens:
            item |= _counts(_value(event, rule.kind), _value(event, rule.tokens))
        item["tenant"] = event.tenant or _tenant(event, rule, sent)
        item["workload"] = _value(event, rule.workload) if rule.workload.startswith("$") else rule.workload or None
        item.setdefault("trace_id", event.trace_id)
        # The configuration names the workload here, so a tenant's own credential may have it.
        return self._reader.read(item, sent, latest_ms, trusted_place=not rule.workload.startswith("$"))


def _tenant(event: CloudEvent, rule: RequestRule, sent: ReceivedRequest) -> Any:
    """Return the tenant that an event names. A tenant's own events have subjects of their own."""
    if rule.tenant.startswith("$"):
        return _value(event, rule.tenant)
    return getattr(event, rule.tenant) if rule.tenant and sent.caller.tenants is None else None


def _counts(kind: Any, tokens: Any) -> dict[str, Any]:
    """Return the counts of an event that counts the tokens of one kind."""
    if isinstance(kind, str) and kind.lower() in PROMPT_KINDS:
        return {"prompt_tokens": tokens, "completion_tokens": 0}
    if isinstance(kind, str) and kind.lower() in COMPLETION_KINDS:
        return {"prompt_tokens": 0, "completion_tokens": tokens}
    raise BadInput("kind", quotable(kind), f"give one of {', '.join((*PROMPT_KINDS, *COMPLETION_KINDS))}")


def _value(event: CloudEvent, place: str) -> Any:
    """Return an attribute of an event, or the value at a path in its data, with ordinary numbers."""
    return _plain(getattr(event, place) if place in _EVENT_FIELDS else at(event.data, path(place)))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and abs(value) < 10**18 and value == int(value) else float(value)
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, dict) else value
