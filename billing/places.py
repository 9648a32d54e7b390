"""Places, and the scopes of rows of the price book. Of several rows that apply, the most specific one counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Place(NamedTuple):
    """The owner and the kind of a quantity, in the order of specificity; an empty value is unknown or none."""

    tenant: str = ""
    team: str = ""
    cost_centre: str = ""
    workload: str = ""
    workload_type: str = ""
    model: str = ""
    hardware: str = ""
    sla: str = ""
    region: str = ""
    provider: str = ""
    cluster: str = ""


SCOPES = Place._fields
"""Names that a scope may give, from most to least specific."""


class PriceScope(NamedTuple):
    """Values that a place must have; an empty one applies everywhere. Values are sorted by specificity."""

    values: tuple[tuple[str, str], ...] = ()

    @property
    def specificity(self) -> tuple[bool, ...]:
        """Flags of the names that have values, the most specific first: the greater tuple is the more specific."""
        values = dict(self.values)
        return tuple(name in values for name in SCOPES)

    def applies(self, place: Place) -> bool:
        """Return whether a place has all values of the scope."""
        return all(getattr(place, name) == value for name, value in self.values)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.values) or "all"


EVERYWHERE = PriceScope()


def scope_of(values: Mapping[str, str]) -> PriceScope:
    """Return the scope of named values. Raises KeyError for a name that is not in SCOPES."""
    unknown = [name for name in values if name not in SCOPES]
    if unknown:
        raise KeyError(unknown[0])
    return PriceScope(tuple((name, values[name]) for name in SCOPES if name in values))


def overlap(one: PriceScope, other: PriceScope) -> bool:
    """Return whether a place could lie in both scopes and neither is more specific."""
    if one.specificity != other.specificity:
        return False
    return one.values == other.values
