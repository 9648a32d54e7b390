"""Pairs of series: one quantity by hour, as two sources tell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

REQUESTS, PROMPT, CACHED, COMPLETION = "requests", "prompt_tokens", "cached_tokens", "completion_tokens"
ENERGY = "energy_uj"


class Subject(NamedTuple):
    """Whom a series is about: a workload, or `~NODE`; of all its tenants (""), or of one."""

    cluster: str
    workload: str
    tenant: str = ""


class Relation(StrEnum):
    """Relation of two honest series of one quantity."""

    EXACT = "exact"
    """Equal in every hour: one was computed from the other."""
    COUNTED = "counted"
    """Equal in the long run: what one counts in an hour, the other may count in the next one."""
    METERED = "metered"
    """Equal up to the error of a meter."""
    CONTAINED = "contained"
    """The first is a part of the second: in the past, the second was a linear function of it."""
    PART = "part"
    """The first is a part of the second, in a share that varies: only what no part can be is wrong."""
    ALONG = "along"
    """The second goes along with the first, in a ratio that varies: only silence and units can be told from it."""


class DiscrepancyKind(StrEnum):
    """Kinds of what is wrong, the clearest first: of several, a subject gets the first."""

    MAPPING = "mapping"
    """It is counted under another name."""
    SWAPPED = "swapped"
    """Prompt and completion are interchanged."""
    CACHED = "cached"
    """Cached tokens are added to the prompt, or left out of it."""
    SHIFTED = "shifted"
    """It is counted at another time."""
    SILENT = "silent"
    """One source says nothing while the other goes on."""
    MISSING = "missing"
    """A part of one source, such as a server's page or a GPU, says nothing."""
    FACTOR = "factor"
    """Off by a power of ten, or by a unit of time."""
    DOUBLED = "doubled"
    """All or some of it is counted twice."""
    EXCESS = "excess"
    """One source counts far more than the other."""
    LOST = "lost"
    """One source counts less than the other."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One quantity of a subject by hour, by two sources; all columns have the same hours, without gaps."""

    subject: Subject
    quantity: str
    relation: Relation
    first: str
    second: str
    a: F64
    b: F64
    a_parts: F64 | None = None
    """Parts of the first source that reported in each hour: GPUs, servers' pages. None: unknown."""
    b_parts: F64 | None = None


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Finding about a subject: what is wrong since an hour (its index), and the source that is likely the cause.

    `amounts` are the sums of both sources over the hours that differ, `ratio` is first over second. `other` is the name
    that a mapping leads to.
    """

    kind: DiscrepancyKind
    source: str
    subject: Subject
    quantities: tuple[str, ...]
    since: int
    first: str
    second: str
    amounts: tuple[float, float]
    ratio: float
    other: Subject | None = None
    hours_shifted: float = 0.0


@dataclass(frozen=True, slots=True)
class Witnesses:
    """All pairs of a span of hours, and series that neither side of a pair made, such as energy, by workload."""

    pairs: list[Pair]
    references: dict[Subject, F64] = field(default_factory=dict)
