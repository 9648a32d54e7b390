"""Which workload served a request: a gateway knows models, addresses and routes, the ledger clusters and workloads.

A small list of rules, first match wins. What matches none is no reason to lose tokens: it goes to `unmatched/MODEL`, a
workload that no GPU has and that so shows as unmetered, and its names are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contracts import topics
from contracts.errors import WattlogError
from contracts.events import MAX_TEXT
from producers.runtime.batching import RequestRow

UNMATCHED = "unmatched/"
"""Before a model's name: not the name of any workload that has GPUs, which would be a guess."""
MAX_UNMATCHED = 1_000
"""Names that failed to match, that are remembered to be told."""


class Deployment(BaseModel):
    """A rule: requests whose `model`, `api_base` and `route` match what is given here went to this workload. Patterns
    may hold `*` and `?`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field(description="Workload that serves them: as the agents of its GPUs say.")
    cluster: str = Field("", description="Its cluster; empty: the setting `cluster`.")
    model: str = Field("", description="Model, as the gateway calls it.")
    api_base: str = Field("", description="Address that the gateway sends them to.")
    route: str = Field("", description="Route or deployment name of the gateway.")

    @field_validator("workload")
    @classmethod
    def _name(cls, workload: str) -> str:
        try:
            topics.check_name("workload", workload)
        except WattlogError as error:
            raise ValueError(str(error)) from None
        return workload

    @model_validator(mode="after")
    def _says_something(self) -> Deployment:
        if not (self.model or self.api_base or self.route):
            raise ValueError("give at least one of model, api_base and route")
        return self

    def matches(self, row: RequestRow) -> bool:
        pairs = ((self.model, row.model), (self.api_base, row.api_base), (self.route, row.route))
        return all(fnmatchcase(said, pattern) for pattern, said in pairs if pattern)


class UnmatchedRoute(NamedTuple):
    """What a request said of where it went, and no rule knew."""

    model: str
    api_base: str
    route: str

    def __str__(self) -> str:
        return ", ".join(f"{name} {value!r}" for name, value in self._asdict().items() if value)


class Deployments:
    """Rules, and what they did not match."""

    def __init__(self, rules: Sequence[Deployment], cluster: str) -> None:
        self._rules, self.cluster = rules, cluster
        self._unmatched: set[UnmatchedRoute] = set()
        self._told: set[UnmatchedRoute] = set()
        self.unmatched_requests = 0

    def group_by_workload(self, rows: Iterable[RequestRow]) -> Mapping[tuple[str, str], list[RequestRow]]:
        """Rows by (cluster, workload)."""
        found: dict[tuple[str, str], list[RequestRow]] = {}
        for row in rows:
            found.setdefault(self._of(row), []).append(row)
        return found

    def match(self, row: RequestRow) -> tuple[str, str] | None:
        """(cluster, workload) that a rule names; None where none does."""
        rule = next((rule for rule in self._rules if rule.matches(row)), None)
        return None if rule is None else (rule.cluster or self.cluster, rule.workload)

    def new_unmatched(self) -> list[UnmatchedRoute]:
        """Names that have failed to match since the last call, each told once."""
        new = sorted(u for u in self._unmatched if u not in self._told)
        self._told.update(new)
        return new

    def _of(self, row: RequestRow) -> tuple[str, str]:
        match = self.match(row)
        if match is not None:
            return match
        self.unmatched_requests += 1
        if len(self._unmatched) < MAX_UNMATCHED:
            self._unmatched.add(UnmatchedRoute(row.model, row.api_base, row.route))
        return self.cluster, (UNMATCHED + row.model)[:MAX_TEXT]
