"""Rules of the configuration that say which quantities an event is counted as, by its type. Pure.

An event of a type without a rule counts 1 on a meter named by its type, without dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contracts.callers import Caller
from contracts.checks import MAX_DIMENSIONS, MAX_TEXT
from contracts.errors import BadInput, BadSetting
from producers.runtime.batching import UsageRow, decimal_text

EVENTS = "events"
"""The unit of meters that count events."""
ATTRIBUTES = ("subject", "source", "type")
"""Attributes of an event that a rule may name beside its data."""
_DIGITS = 64
"""Characters of a number that is given as text."""
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d{1,6})\]|\['([^'\]]{1,253})'\]")

DataPath = tuple[str | int, ...]


class CloudEvent(NamedTuple):
    """A decoded event. Times are UTC epoch ms.

    `tenant` is its extension attribute of that name, `data` its decoded JSON, or None if it has none.
    """

    id: str
    source: str
    type: str
    time_ms: int
    subject: str = ""
    tenant: str = ""
    trace_id: str = ""
    data: Any = None


class MeterRule(BaseModel):
    """A rule for one quantity of the events of one type.

    Paths are `$.name`, `$.outer.name`, `$.list[0]`, `$['any name']`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    slug: str = Field(min_length=1, max_length=MAX_TEXT, description="Name of the meter.")
    event_type: str = Field(min_length=1, max_length=MAX_TEXT, description="Type of the events that it counts.")
    aggregation: Literal["sum", "count"] = Field("sum", description="`sum` of a value, or `count` of events.")
    value: str = Field("", description="Path of the quantity in the data, for `sum`.")
    unit: str = Field("", max_length=MAX_TEXT, description="Its unit, for `sum`; `count`s are `events`.")
    group_by: Mapping[str, str] = Field({}, description="Dimensions: their names, and where their values are.")
    tenant: str = Field("subject", description="Who pays, where the sender may name tenants: `subject`, or a path.")
    workload: str = Field("", description="Its workload: a name, or a path. Empty: the producer's `workload`.")
    session_id: str = Field("$.session_id", description="Path of the session.")
    trace_id: str = Field("$.trace_id", description="Path of the trace; else the event's `traceparent`.")
    step: str = Field("$.step", description="Path of the step.")

    @field_validator("value", "session_id", "trace_id", "step")
    @classmethod
    def _check_path(cls, text: str) -> str:
        if text:
            path(text)
        return text

    @field_validator("tenant", "workload")
    @classmethod
    def _check_path_or_name(cls, text: str) -> str:
        if text.startswith("$"):
            path(text)
        return text

    @model_validator(mode="after")
    def _check_rule(self) -> MeterRule:
        if self.aggregation == "sum" and not (self.value and self.unit):
            raise ValueError("a sum needs `value`, the path of its quantity, and `unit`")
        if self.aggregation == "count" and self.value:
            raise ValueError("a count has no `value`; use aggregation = 'sum'")
        if self.tenant not in ("", *ATTRIBUTES) and not self.tenant.startswith("$"):
            raise ValueError(f"tenant: {self.tenant!r}: give 'subject', or a path such as '$.tenant'")
        if len(self.group_by) > MAX_DIMENSIONS:
            raise ValueError(f"group_by: at most {MAX_DIMENSIONS}")
        for place in self.group_by.values():
            if place not in ATTRIBUTES:
                path(place)
        return self


def path(text: str) -> DataPath:
    """Return the steps of a path such as `$.usage.total`. Raises ValueError for a form that is not supported."""
    if text == "$":
        return ()
    path_steps: list[str | int] = []
    offset = 1
    while text.startswith("$") and offset < len(text):
        step = _STEP.match(text, offset)
        if not step:
            break
        name, index, quoted = step.groups()
        path_steps.append(int(index) if index is not None else name if name is not None else quoted)
        offset = step.end()
    if not path_steps or offset < len(text):
        raise ValueError(f"{text!r} is no path: write $.name, $.outer.name, $.list[0] or $['any name']")
    return tuple(path_steps)


def at(data: Any, steps: DataPath) -> Any:
    """Return the value at a path, or None if there is none."""
    for step in steps:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


class MeteredRow(NamedTuple):
    """A row and its workload."""

    workload: str
    row: UsageRow


class MeterRules:
    """The rules by event type. Raises BadSetting if two of them would create the same row of an event.

    `unknown` says whether events of other types are counted or refused. `workload` is that of rows whose rule
    names none.
    """

    def __init__(
        self, rules: Sequence[MeterRule], *, workload: str, unknown: Literal["count", "refuse"] = "count"
    ) -> None:
        self._workload, self._refuse = workload, unknown == "refuse"
        self._rules: dict[str, list[_Rule]] = {}
        for rule in rules:
            of_type = self._rules.setdefault(rule.event_type, [])
            if rule.slug in (other.slug for other in of_type):
                raise BadSetting(
                    "produce.http.meters", rule.slug, f"two meters of {rule.event_type!r} have this name; rename one"
                )
            of_type.append(_Rule(rule))

    def has(self, event_type: str) -> bool:
        return event_type in self._rules

    def rows(self, event: CloudEvent, caller: Caller) -> Iterator[MeteredRow]:
        """Yield the rows of an event. Raises BadInput for a value that cannot be counted, AccessDenied for a tenant
        that the caller may not name.
        """
        rules = self._rules.get(event.type)
        if rules is None:
            if self._refuse:
                raise BadInput("type", event.type, f"no meter counts it; known are {', '.join(self._rules) or 'none'}")
            named = {"slug": event.type, "event_type": event.type, "aggregation": "count"}
            rules = [_Rule(MeterRule.model_validate(named))]
        for rule in rules:
            yield rule.metered_row(event, caller, self._workload)


class _Rule:
    """A rule with parsed paths."""

    def __init__(self, rule: MeterRule) -> None:
        self.slug = rule.slug
        self._unit = rule.unit or EVENTS
        self._value = path(rule.value) if rule.value else None
        self._value_name = _data_name(rule.value)
        self._group_by = [(name, place, _path(place)) for name, place in rule.group_by.items()]
        self._tenant, self._tenant_path = rule.tenant, _path(rule.tenant)
        self._workload, self._workload_path = rule.workload, _path(rule.workload)
        self._texts = [(place, _path(place)) for place in (rule.session_id, rule.trace_id, rule.step)]

    def metered_row(self, event: CloudEvent, caller: Caller, workload: str) -> MeteredRow:
        session, trace, step = (self._text(event, place, steps) for place, steps in self._texts)
        dimensions = ((name, self._text(event, place, steps)) for name, place, steps in self._group_by)
        row = UsageRow(
            meter=self.slug,
            unit=self._unit,
            quantity=self._quantity(event),
            t0_ms=event.time_ms,
            t1_ms=event.time_ms,
            tenant=self._payer(event, caller),
            origin=event.source,
            event_id=event.id,
            session_id=session,
            trace_id=trace or event.trace_id,
            step=step,
            dimensions={name: text for name, text in dimensions if text},
        )
        row_workload = self._text(event, self._workload, self._workload_path) if self._workload_path else self._workload
        return MeteredRow(row_workload or workload, row)

    def _payer(self, event: CloudEvent, caller: Caller) -> str:
        """Return the tenant: the event's attribute, or the value at the rule's path.

        The subject is used only if the caller may name tenants, because a tenant's own events have subjects of
        their own.
        """
        named = event.tenant or (self._text(event, self._tenant, self._tenant_path) if self._tenant_path else "")
        if not named and caller.tenants is None and self._tenant and not self._tenant_path:
            named = getattr(event, self._tenant)
        if named.startswith("__"):
            raise BadInput("tenant", named, "names that begin with '__' are Wattlog's own")
        return caller.payer(named)

    def _quantity(self, event: CloudEvent) -> str:
        if self._value is None:
            return "1"
        name, value = self._value_name, at(event.data, self._value)
        hint = "give a number, 0 or more"
        if isinstance(value, str) and len(value) <= _DIGITS:
            try:
                value = Decimal(value)
            except InvalidOperation:
                raise BadInput(name, value, hint) from None
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise BadInput(name, value, hint)
        text = decimal_text(name, value)
        if text.startswith("-"):
            raise BadInput(name, value, hint)
        return text

    def _text(self, event: CloudEvent, place: str, steps: DataPath | None) -> str:
        """Return a text to group by, made of a text, a number or a boolean, or "" if there is none."""
        value = getattr(event, place) if place in ATTRIBUTES else at(event.data, steps) if steps is not None else None
        if value is None:
            return ""
        name = _data_name(place)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | Decimal):
            return decimal_text(name, value)
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            raise BadInput(name, value, f"give a text of at most {MAX_TEXT} printable characters")
        return value


def _path(place: str) -> DataPath | None:
    """Return the steps of a path, or None for the name of an attribute."""
    return path(place) if place.startswith("$") else None


def _data_name(place: str) -> str:
    """Return the name of a path's field, for errors."""
    return f"data{place[1:]}" if place.startswith("$") else place
