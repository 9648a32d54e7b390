"""Quantities: what is priced. From the ledger's sums and the usage rows, each with its place and its class of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.places import Place
from billing.price_book import ComputeUnit

INPUT, CACHE_READ, CACHE_WRITE, OUTPUT = "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"
PARTS: Mapping[str, tuple[str, ...]] = {
    INPUT: ("audio_input_tokens", "image_input_tokens"),
    OUTPUT: ("reasoning_tokens", "audio_output_tokens", "image_output_tokens"),
}
"""Meters that are a part of another one. A part with a rate of its own is priced there, and no longer in the whole."""
REQUESTS, FAILURES = "requests", "failures"
ALLOCATED, USED = "gpu_allocated_seconds", "gpu_used_seconds"
"""Time of GPUs: all of it, for whoever holds them, used or not; and divided over tenants as their energy is."""

LEDGER_METERS: Mapping[str, str] = {
    INPUT: "token", CACHE_READ: "token", CACHE_WRITE: "token", OUTPUT: "token",
    **{part: "token" for parts in PARTS.values() for part in parts},
    REQUESTS: "request", FAILURES: "request", ALLOCATED: "s", USED: "s",
}  # fmt: skip
"""Meters that the ledger knows, with their units. All others are usage rows' meters."""

_COLUMNS = {
    "audio_input_tokens": "audio_prompt_tokens",
    "image_input_tokens": "image_prompt_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "audio_output_tokens": "audio_completion_tokens",
    "image_output_tokens": "image_completion_tokens",
}


@dataclass(frozen=True, slots=True)
class MeteredQuantity:
    """So many units of a meter, of one place, in all segments of one class."""

    meter: str
    unit: str
    quantity: Decimal
    place: Place
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCharge:
    """A place's energy in a period with its money by the clusters' tariffs, exact to millionths; None is unknown."""

    place: Place
    energy_uj: int
    kwh_facility: Decimal | None
    cost: Decimal | None
    currency: str
    gco2: Decimal | None
    lacks: tuple[str, ...] = ()


def token_quantities(
    sums: Mapping[str, int], place: Place, number: int, priced: frozenset[str]
) -> Iterator[MeteredQuantity]:
    """Yield the tokens and requests of a ledger row's sums, so that no token is in two quantities.

    `priced` are the meters that have rates. A part (audio, reasoning) is taken out of its whole where it has one; it is
    at most what is left of that, as a part that was read from the cache is billed there.
    """
    totals = {
        INPUT: sums["prompt_tokens"] - sums["cached_tokens"] - sums["cache_write_tokens"],
        OUTPUT: sums["completion_tokens"],
    }
    counts = {CACHE_READ: sums["cached_tokens"], CACHE_WRITE: sums["cache_write_tokens"]}
    for name, parts in PARTS.items():
        for part in parts:
            if part in priced:
                counts[part] = min(sums[_COLUMNS[part]], max(totals[name], 0))
                totals[name] -= counts[part]
    counts |= totals | {REQUESTS: sums["requests"], FAILURES: sums["failures"]}
    for meter, count in counts.items():
        if count:
            yield MeteredQuantity(meter, LEDGER_METERS[meter], Decimal(count), place, number)


def with_compute_units(
    quantities: Iterable[MeteredQuantity], units: Iterable[ComputeUnit]
) -> Iterator[MeteredQuantity]:
    """Yield the quantities, and after them those of the book's compute units: sums of others, each by its weight."""
    weights = {(meter, unit.name): weight for unit in units for meter, weight in unit.weights}
    by_meter: dict[str, list[str]] = {}
    for meter, name in weights:
        by_meter.setdefault(meter, []).append(name)
    sums: dict[tuple[str, Place, int], Decimal] = {}
    for quantity in quantities:
        yield quantity
        for name in by_meter.get(quantity.meter, ()):
            key = (name, quantity.place, quantity.number)
            sums[key] = sums.get(key, Decimal(0)) + weights[quantity.meter, name] * quantity.quantity
    for (name, place, number), amount in sums.items():
        yield MeteredQuantity(name, "unit", amount, place, number)
