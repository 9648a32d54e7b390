"""Protocols of a forecast model: `fit(values, seasons)` returns a `FittedModel`, which predicts and draws paths.

The caller passes values without NaN, scaled to order 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forecasting.series import F64

LEVELS = (0.80, 0.95)
"""Nominal coverages of the two intervals, in the order of the rows of `lower` and `upper`."""


class CannotFit(Exception):  # noqa: N818 - An expected outcome rather than an error.
    """Signal that a model cannot be fitted to this series. `str()` is the reason, shown beside the model's name."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Forecast with intervals: `mean` of shape (horizon,), `lower` and `upper` of shape (2, horizon) for LEVELS.

    lower <= mean <= upper, and the 95 % interval contains the 80 % one.
    """

    mean: F64
    lower: F64
    upper: F64


class FittedModel(Protocol):
    """Model fitted to a history."""

    @property
    def converged(self) -> bool:
        """False if the optimiser stopped before it converged."""
        ...

    def predict(self, horizon: int) -> Prediction:
        """Predict the `horizon` steps after the history."""
        ...

    def paths(self, horizon: int, n: int, rng: np.random.Generator) -> F64:
        """Draw `n` possible futures of shape (n, horizon), with errors correlated as the model's are."""
        ...


class ForecastModel(Protocol):
    """Forecast model that can be fitted to a history."""

    @property
    def name(self) -> str:
        """Unique name, shown beside its scores."""
        ...

    def fit(self, values: F64, seasons: tuple[int, ...]) -> FittedModel:
        """Fit the model. `seasons` are periods in steps, ascending; `values` cover each at least twice.

        Raises CannotFit with the reason.
        """
        ...


def conformal_quantile(sizes: F64, level: float) -> float:
    """Return the size that a further draw stays below with probability `level`: the ceil((n+1) level)-th smallest.

    Conformal prediction (Vovk), with its n/(n+1) correction. Returns 0 without sizes.
    """
    n = len(sizes)
    return float(np.quantile(sizes, min(1.0, np.ceil((n + 1) * level) / n), method="inverted_cdf")) if n else 0.0
