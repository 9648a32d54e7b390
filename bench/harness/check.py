"""Do the contestants agree? A figure of a design that loses rows is worth nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.harness.fleet import Totals

FLOAT_RELATIVE = 1e-9
"""How far a design that sums energy in floating point may be from the exact sum."""
_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "requests", "rows")


class DisagreementError(AssertionError):
    """A contestant's ledger is not what was put on the log. The text says who, what, by how much."""


def check(name: str, stored: Mapping[str, Any], expected: Totals, *, exact: bool) -> None:
    """Hold what a contestant stored against the input: energy, and whichever counts it gives, none missing if `exact`.

    Raises DisagreementError.
    """
    energy = stored.get("energy_uj")
    if energy is None:
        raise DisagreementError(f"{name} did not say how much energy it stored")
    tolerance = 0 if exact else FLOAT_RELATIVE * expected.energy_uj
    if abs(energy - expected.energy_uj) > tolerance:
        raise DisagreementError(
            f"{name} stored {energy:,} uJ, not {expected.energy_uj:,}: {energy - expected.energy_uj:+,} uJ"
        )
    for count in _COUNTS:
        want = getattr(expected, count)
        if count in stored and stored[count] != want:
            raise DisagreementError(f"{name} stored {stored[count]:,} {count}, not {want:,}")
        if exact and count not in stored and count != "rows":
            raise DisagreementError(f"{name} did not say how many {count} it stored")


def check_alike(tenants: Mapping[str, Mapping[str, int]]) -> None:
    """Tenant by tenant, exact contestants of one input agree to the microjoule. Raises DisagreementError."""
    names = list(tenants)
    for name in names[1:]:
        first, other = tenants[names[0]], tenants[name]
        for tenant in sorted(first.keys() | other.keys()):
            if first.get(tenant) != other.get(tenant):
                raise DisagreementError(
                    f"{names[0]} and {name} disagree on {tenant}: {first.get(tenant)} uJ and {other.get(tenant)} uJ"
                )


def furthest(exact: Mapping[str, int], stored: Mapping[str, float]) -> float:
    """The largest relative deviation of a tenant's energy, for a design whose attribution is approximate by nature."""
    return max((abs(stored.get(t, 0) - uj) / uj for t, uj in exact.items() if uj), default=0.0)
