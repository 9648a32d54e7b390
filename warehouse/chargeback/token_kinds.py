"""Energy, money and grams per 1,000,000 tokens by kind: input (computed prompt), cached and output (completion).

A kind's energy is its share of the work of each window's row (`kind_rows.sql`), so it adds up over any groups. Its
money and grams are those of that energy, by the prices of its window. They are divided by the kind's tokens with
measured energy. Energy without a kind (idle time, images, `__unallocated__`) is in no quotient.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from contracts.units import UJ_PER_KWH

KINDS = ("input", "cached", "output")
FIELDS = (
    *(f"{measure}_per_million_{kind}" for measure in ("joules", "gco2", "cost") for kind in KINDS),
    "energy_without_kind_uj",
    "kinds_unknown",
)
"""Fields of `ChargebackRow` that a bill has where tokens by kind were asked for."""
MONEY_FIELDS = tuple(f"cost_per_million_{kind}" for kind in KINDS)

_TOKENS = {
    "input": "c.prompt_tokens - c.cached_tokens",
    "cached": "c.cached_tokens",
    "output": "c.completion_tokens",
}
_PLACES = 6
_UNIT = UJ_PER_KWH * 10**18
"""A price's unit of money or grams: energy_uj x nano(PUE) x nano(price)."""

NO_FRAGMENTS = {"kind_sums": "", "kind_units": "", "kind_columns": ""}
"""Fragments of chargeback.sql for a bill without tokens by kind."""


def _list(*parts: str) -> str:
    return "".join(f", {part}" for part in parts)


FRAGMENTS = {
    "kind_sums": _list(
        *(f"sum(toInt128(c.{kind}_uj)) AS {kind}_uj" for kind in (*KINDS, "unknown")),
        *(f"sumIf({tokens}, c.method != 3) AS metered_{kind}_tokens" for kind, tokens in _TOKENS.items()),
    ),
    "kind_units": _list(
        *(f"sum(h.{kind}_uj) AS {kind}_uj" for kind in (*KINDS, "unknown")),
        *(f"sum(h.metered_{kind}_tokens) AS metered_{kind}_tokens" for kind in KINDS),
        *(f"sum(h.{kind}_uj * p.pue * p.tariff) AS {kind}_cost_units" for kind in KINDS),
        *(f"sum(h.{kind}_uj * p.pue * p.carbon) AS {kind}_gco2_units" for kind in KINDS),
    ),
    "kind_columns": _list(
        *(f"{kind}_uj" for kind in (*KINDS, "unknown")),
        *(f"{kind}_{unit}" for kind in KINDS for unit in ("cost_units", "gco2_units")),
        *(f"metered_{kind}_tokens" for kind in KINDS),
    ),
}  # fmt: skip
"""Fragments of chargeback.sql for a bill with tokens by kind."""


def per_million(row: Mapping[str, Any], energy_uj: int) -> dict[str, Any]:
    """Return the `FIELDS` of a row of chargeback.sql, whose energy this is; none of them without tokens by kind.

    A quotient is None without tokens of the kind, where its money or grams are unknown, and where some energy of the
    row cannot be divided: `kinds_unknown` says why.
    """
    if "input_uj" not in row:
        return {}
    fields: dict[str, Any] = dict.fromkeys(FIELDS)
    fields["energy_without_kind_uj"] = energy_uj - sum(row[f"{kind}_uj"] for kind in KINDS)
    fields["kinds_unknown"] = ""
    if row["unknown_uj"]:
        fields["kinds_unknown"] = f"{row['unknown_uj']} uJ are of rows that name work weights which are not stored"
        return fields
    for kind in KINDS:
        tokens = row[f"metered_{kind}_tokens"]
        if tokens <= 0:
            continue
        fields[f"joules_per_million_{kind}"] = row[f"{kind}_uj"] / tokens  # 1 J in 1,000,000 tokens is 1 uJ in one
        for measure in ("cost", "gco2"):
            if row[f"{measure}_micro"] is not None:
                quotient = _per_million(row[f"{kind}_{measure}_units"], tokens)
                fields[f"{measure}_per_million_{kind}"] = quotient
    return fields


def _per_million(units: int, tokens: int) -> Decimal:
    """Return money or grams per 1,000,000 tokens, rounded half up to millionths."""
    scaled, divisor = units * 10 ** (6 + _PLACES), _UNIT * tokens
    return Decimal((2 * scaled + divisor) // (2 * divisor)).scaleb(-_PLACES)
