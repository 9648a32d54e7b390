"""Input of the attribution: energy and tokens as columns, with texts as codes into lists of names."""

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

WORK_AMOUNTS = ("computed_mtok", "cached_mtok", "completion_mtok", "request_ms")
"""What work is worked out from, in thousandths of a token or of a request-second, in the order of the weights."""
AMOUNTS = (*TOKENS, *WORK_AMOUNTS, "requests", "failures")
"""The rows of `Tokens.amounts`: columns of contracts.rows.TOKEN_USAGE, all but the last two also of REQUEST_ENERGY."""
PROMPT, CACHED, COMPLETION = map(AMOUNTS.index, ("prompt_tokens", "cached_tokens", "completion_tokens"))
COMPUTED_M, CACHED_M, COMPLETION_M, REQUEST_MS = map(AMOUNTS.index, WORK_AMOUNTS)
REQUESTS, FAILURES = AMOUNTS.index("requests"), AMOUNTS.index("failures")


def _empty() -> I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Energy:
    """Measured energy, one row per GPU and window (or any finer rows). Text columns are codes into `Facts`' names."""

    window_start: I64 = field(default_factory=_empty)
    subject: I64 = field(default_factory=_empty)
    hardware: I64 = field(default_factory=_empty)
    owner: I64 = field(default_factory=_empty)
    energy_uj: I64 = field(default_factory=_empty)
    covered_ms: I64 = field(default_factory=_empty)
    method: I64 = field(default_factory=_empty)


@dataclass(frozen=True)
class Tokens:
    """Work of tenants, one row per tenant, model and window (or any finer rows).

    `amounts` is (len(AMOUNTS), n).
    """

    window_start: I64 = field(default_factory=_empty)
    subject: I64 = field(default_factory=_empty)
    tenant: I64 = field(default_factory=_empty)
    model: I64 = field(default_factory=_empty)
    amounts: I64 = field(default_factory=lambda: np.zeros((len(AMOUNTS), 0), np.int64))


@dataclass(frozen=True)
class Facts:
    """Energy and tokens of some windows. Each list of names has the texts that codes stand for."""

    subjects: Sequence[Subject]
    hardwares: Sequence[str]
    owners: Sequence[str]
    tenants: Sequence[str]
    models: Sequence[str]
    energy: Energy
    tokens: Tokens
