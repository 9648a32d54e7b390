"""What attribution takes: energy and work as columns, whose texts are codes into lists of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from contracts.units import I64

Index = npt.NDArray[np.intp]
Subject = tuple[str, str]
"""(cluster, workload)."""

PROMPT, CACHED, COMPLETION, COMPUTED_M, CACHED_M, COMPLETION_M, REQUESTS, FAILURES = range(8)
AMOUNTS = (
    "prompt_tokens", "cached_tokens", "completion_tokens",
    "computed_mtok", "cached_mtok", "completion_mtok", "requests", "failures",
)  # fmt: skip
"""The rows of `Tokens.amounts`, as columns of contracts.rows.TOKEN_USAGE (the first six of REQUEST_ENERGY too)."""


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

    `amounts` is (8, n): prompt, cached, completion tokens; computed, cached, completion thousandths of tokens;
    requests; failures.
    """

    window_start: I64 = field(default_factory=_none)
    subject: I64 = field(default_factory=_none)
    tenant: I64 = field(default_factory=_none)
    model: I64 = field(default_factory=_none)
    amounts: I64 = field(default_factory=lambda: np.zeros((8, 0), np.int64))


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
