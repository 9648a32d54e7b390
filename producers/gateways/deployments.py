"""Rules that map a request to the workload that served it.

A gateway knows models, addresses and routes; the ledger knows clusters and workloads. The first matching rule wins.
A request that no rule matches keeps its tokens: it goes to the workload `unmatched/MODEL`, which has no GPUs and
therefore shows as unmetered, and the log names what did not match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from fnmatch import fnmatchcase
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from contracts import topics
from contracts.errors import WattlogError
from contracts.events import MAX_TEXT
from contracts.workload_names import UNMATCHED_PREFIX
from producers.api import Environment
from producers.runtime.batching import RequestRow
from producers.runtime.dimension_values import DimensionValues

MAX_UNMATCHED = 1_000
"""Routes without a rule that are remembered, so that the log names each once."""


class Deployment(BaseModel):
    """A rule: requests with this `model`, `api_base` and `route` went to this workload. Patterns may hold `*` and `?`;
    one that is empty matches anything."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field(description="Workload that serves them, by its name on the agents of its GPUs.")
    cluster: str = Field("", description="Its cluster; empty: the setting `cluster`.")
    model: str = Field("", description="Model, as the gateway calls it.")
    api_base: str = Field("", description="Address that the gateway sends them to.")
    route: str = Field("", description="Route or deployment name of the gateway.")

    @field_validator("workload", "cluster")
    @classmethod
    def _check_name(cls, name: str, info: ValidationInfo) -> str:
        field = info.field_name or ""
        try:
            return topics.check_name(field, name) if name or field == "workload" else ""
        except WattlogError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check_patterns(self) -> Deployment:
        if not (self.model or self.api_base or self.route):
            raise ValueError("give at least one of model, api_base and route")
        return self

    def matches(self, row: RequestRow) -> bool:
        pairs = ((self.model, row.model), (self.api_base, row.api_base), (self.route, row.route))
        return all(fnmatchcase(value, pattern) for pattern, value in pairs if pattern)


class UnmatchedRoute(NamedTuple):
    """Model, address and route of a request that no rule matched."""

    model: str
    api_base: str
    route: str

    def __str__(self) -> str:
        return ", ".join(f"{name} {value!r}" for name, value in self._asdict().items() if value)


class Deployments:
    """The rules, and the routes that none of them matched. With `dimensions`, those of requests are bounded."""

    def __init__(self, rules: Sequence[Deployment], cluster: str, dimensions: DimensionValues | None = None) -> None:
        self._rules, self.cluster, self._dimensions = rules, cluster, dimensions
        self._may_use: Callable[[str, str], bool] = lambda cluster, workload: True
        self._unmatched: set[UnmatchedRoute] = set()
        self._reported: set[UnmatchedRoute] = set()

    def within(self, may_use: Callable[[str, str], bool]) -> Deployments:
        """Return these rules without those whose (cluster, workload) a sender may not use. Its notes are these, too."""
        view = copy(self)
        view._may_use = may_use
        return view

    def group_by_workload(self, rows: Iterable[RequestRow]) -> Mapping[tuple[str, str], list[RequestRow]]:
        """Group rows by (cluster, workload)."""
        groups: dict[tuple[str, str], list[RequestRow]] = {}
        for row in rows:
            groups.setdefault(self._workload_of(row), []).append(self.bound(row))
        return groups

    def match(self, row: RequestRow) -> tuple[str, str] | None:
        """Return the (cluster, workload) of the first rule that matches, or None."""
        places = ((rule.cluster or self.cluster, rule.workload) for rule in self._rules if rule.matches(row))
        return next((place for place in places if self._may_use(*place)), None)

    def bound(self, row: RequestRow) -> RequestRow:
        """Return a request with its dimensions as they may be sent."""
        return row if self._dimensions is None else self._dimensions.bound(row)

    def new_notes(self) -> list[str]:
        """Return a message for each route that no rule matched, and for each dimension with too many values, once."""
        new = sorted(self._unmatched - self._reported)
        self._reported.update(new)
        notes = [
            f"no rule of `deployments` names the workload of {route}: its requests show as unmetered" for route in new
        ]
        return notes if self._dimensions is None else notes + self._dimensions.new_notes()

    def _workload_of(self, row: RequestRow) -> tuple[str, str]:
        match = self.match(row)
        if match is not None:
            return match
        if len(self._unmatched) < MAX_UNMATCHED:
            self._unmatched.add(UnmatchedRoute(row.model, row.api_base, row.route))
        return self.cluster, (UNMATCHED_PREFIX + row.model)[:MAX_TEXT]


def deployments_of(rules: Sequence[Deployment], environment: Environment) -> Deployments:
    """Return the rules of a plug-in in its environment."""
    return Deployments(rules, environment.settings.cluster, environment.dimension_values)
