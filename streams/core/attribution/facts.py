"""What attribution takes: energy and work as columns, whose texts are codes into lists of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from contracts.events import TOKENS
from contracts.units import I64

Index = npt.NDArray[np.intp]
Subject = tuple[str, str]
"""(cluster, workload)."""

MTOKS = ("computed_mtok", "cached_mtok", "completion_mtok")
"""Thousandths of tokens by the weight that they are worked out with."""
AMOUNTS = (*TOKENS, *MTOKS, "requests", "failures")
"""The rows of `Tokens.amounts`: columns of contracts.rows.TOKEN_USAGE, all but the last two also of REQUEST_ENERGY."""
PROMPT, CACHED, COMPLETION = map(AMOUNTS.index, ("prompt_tokens", "cached_tokens", "completion_tokens"))
COMPUTED_M, CACHED_M, COMPLETION_M = map(AMOUNTS.index, MTOKS)
REQUESTS, FAILURES = AMOUNTS.index("requests"), AMOUNTS.index("failures")


def _none() -> I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Energy:
    """Measured energy, one row a GPU and window (or any finer rows). Text columns are codes into `Facts`' names."""

    window_start: I64 = field(default_factory=_none)
    subject: I64 = field(default_factory=_none)
    hardware: I64 = field(default_factory=_none)
    owner: I64 = field(default_factory=_none)
    energy_uj: I64 = field(default_factory=_none)
    covered_ms: I64 = field(default_factory=_none)
    method: I64 = field(default_factory=_none)


@dataclass(frozen=True)
class Tokens:
    """Work done, one row a tenant, model and window (or any finer rows).

    `amounts` is (len(AMOUNTS), n).
    """

    window_start: I64 = field(default_factory=_none)
    subject: I64 = field(default_factory=_none)
    tenant: I64 = field(default_factory=_none)
    model: I64 = field(default_factory=_none)
    amounts: I64 = field(default_factory=lambda: np.zeros((len(AMOUNTS), 0), np.int64))


@dataclass(frozen=True)
class Facts:
    """What was measured and done in some windows. Each names list holds the texts that its codes stand for."""

    subjects: Sequence[Subject]
    hardwares: Sequence[str]
    owners: Sequence[str]
    tenants: Sequence[str]
    models: Sequence[str]
    energy: Energy
    tokens: Tokens
