"""What a candidate is: `fit(values, seasons)` gives a `Fitted` that predicts and draws paths.

Values reach a model complete (no NaN) and of order 1; the caller scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forecasting.series import F64

LEVELS = (0.80, 0.95)
"""Nominal coverages of the two intervals, in the order of every `lower` and `upper` below."""


class Unfit(Exception):  # noqa: N818 - not an error: this candidate stands aside, and says why
    """The candidate cannot be fitted to this series; `str()` is the reason, shown beside its name."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """`mean` has shape (horizon,), `lower` and `upper` (2, horizon) for LEVELS; lower <= mean <= upper, 95 holds 80."""

    mean: F64
    lower: F64
    upper: F64


class Fitted(Protocol):
    """A fitted candidate."""

    @property
    def converged(self) -> bool: ...

    def predict(self, horizon: int) -> Prediction: ...

    def paths(self, horizon: int, n: int, rng: np.random.Generator) -> F64:
        """`n` possible futures, shape (n, horizon), whose errors are correlated as the model's are."""
        ...


class Model(Protocol):
    """A candidate. `seasons` are periods in steps, ascending; each fits the values at least twice."""

    @property
    def name(self) -> str: ...

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        """Raises Unfit with the reason."""
        ...


def conformal_quantile(sizes: F64, level: float) -> float:
    """The smallest size that covers `level` of a further draw: the ceil((n+1) level)-th (Vovk; n/(n+1) corrected)."""
    n = len(sizes)
    return float(np.quantile(sizes, min(1.0, np.ceil((n + 1) * level) / n), method="inverted_cdf")) if n else 0.0
