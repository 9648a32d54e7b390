"""Rows that reads return: plain frozen dataclasses, whose types define how each value is written as JSON.

In Python, a time is UTC epoch milliseconds, an energy integer microjoules, money and kWh Decimal. As JSON, a time is
RFC 3339, money and kWh are decimal strings without exponents, and energies stay integers (which may pass 2^53).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema

from contracts.units import EpochMs, plain_decimal, rfc3339

Time = Annotated[
    EpochMs,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-01T00:00:00.000Z"]}),
]
"""UTC epoch milliseconds; RFC 3339 as JSON."""

Amount = Annotated[
    Decimal,
    PlainSerializer(plain_decimal, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "examples": ["12.345678"]}),
]
"""Money, grams or kWh: Decimal; a decimal string as JSON."""

METHODS = ("counter", "integrated", "estimated", "unmetered")
"""Names of the ledger's `method` numbers, the best evidence first."""


@dataclass(frozen=True, slots=True)
class MissingPrice:
    """A price that a cluster's energy lacks: `kind` is energy (tariff), pue or carbon.

    With ` within windows`, such a price changes inside windows of the ledger, whose energy is known as a whole only.
    """

    kind: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Measures:
    """Energy, tokens and money of a group. `joules_per_token` is per prompt and completion token with measured energy;
    null without any.

    `kwh` is the measured energy, `kwh_facility` that times PUE. `cost` and `gco2` are of the facility's energy, in
    millionths, by largest remainder: an answer's rows sum to its total exactly. They are null, never 0, when a price
    is missing (`missing_prices` names it), when currencies mix, and where nothing was measured, as then `kwh` is too.
    """

    energy_uj: int
    active_uj: int
    idle_uj: int
    unallocated_uj: int
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cache_write_tokens: int
    audio_prompt_tokens: int
    image_prompt_tokens: int
    estimated_prompt_tokens: int
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    audio_completion_tokens: int
    image_completion_tokens: int
    estimated_completion_tokens: int
    requests: int
    failures: int
    joules_per_token: float | None
    joules_per_output_token: float | None
    kwh: Amount | None
    kwh_facility: Amount | None
    cost: Amount | None
    currency: str
    gco2: Amount | None
    method: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class ChargebackRow(Measures):
    """One group of a chargeback. Only the dimensions that it is grouped by are set.

    `host_uj` and `wall_uj` are the parts of `energy_uj` that were measured at hosts and at the wall; the rest is GPUs'.
    `unmetered_tokens` and `unmetered_requests` are those without measured energy: energy and money are of the others.

    Where `per_million` was asked for, the quotients are per 1,000,000 tokens of a kind with measured energy: input
    (computed prompt), cached (prompt), output (completion). They are null without such tokens, and where
    `kinds_unknown` says why. `energy_without_kind_uj` is in none of them.
    """

    missing_prices: list[MissingPrice] = field(default_factory=list)
    mixed_currencies: bool = False
    unmetered_tokens: int = 0
    unmetered_requests: int = 0
    host_uj: int = 0
    wall_uj: int = 0
    joules_per_million_input: float | None = None
    joules_per_million_cached: float | None = None
    joules_per_million_output: float | None = None
    gco2_per_million_input: Amount | None = None
    gco2_per_million_cached: Amount | None = None
    gco2_per_million_output: Amount | None = None
    cost_per_million_input: Amount | None = None
    cost_per_million_cached: Amount | None = None
    cost_per_million_output: Amount | None = None
    energy_without_kind_uj: int | None = None
    kinds_unknown: str | None = None
    tenant: str | None = None
    team: str | None = None
    cost_centre: str | None = None
    cluster: str | None = None
    workload: str | None = None
    model: str | None = None
    hardware: str | None = None
    user: str | None = None
    application: str | None = None
    feature: str | None = None
    provider: str | None = None
    region: str | None = None
    endpoint: str | None = None
    priority: str | None = None
    sender: str | None = None
    hour: str | None = None
    day: str | None = None
    week: str | None = None
    month: str | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """Clusters with energy, but none of the part that a boundary is named for: of those, its figures include less.

    `clusters_excluded` are those of them without any energy within the boundary: its figures have nothing of them.
    """

    clusters_outside: list[str] = field(default_factory=list)
    clusters_excluded: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FleetRow:
    """The GPUs of one type on one node; or its host, or its meter at the wall, with 0 GPUs and 0 seconds of them.

    Ratios are of energy, but `utilisation_ratio` is busy over covered time; null where no reading had it.
    `gpu_seconds` is the time that readings cover.
    """

    cluster: str
    node: str
    hardware: str
    gpus: int
    energy_uj: int
    gpu_seconds: float
    mean_w: float | None
    utilisation_ratio: float | None
    idle_ratio: float | None
    unallocated_ratio: float
    method: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class FleetGroup:
    """GPUs, hosts and meters at the wall of one group. Only the dimensions that it is grouped by are set.

    `gpus` counts each GPU once, by its id. Ratios are as in `FleetRow`. Where the fleet is compared, `other_...` are
    the figures of the other period or cluster, and `energy_change_ratio` is energy over theirs, less 1.
    """

    gpus: int
    energy_uj: int
    gpu_seconds: float
    mean_w: float | None
    utilisation_ratio: float | None
    idle_ratio: float | None
    unallocated_ratio: float
    method: str
    simulated: bool
    other_gpus: int | None = None
    other_energy_uj: int | None = None
    other_gpu_seconds: float | None = None
    other_mean_w: float | None = None
    other_utilisation_ratio: float | None = None
    other_idle_ratio: float | None = None
    energy_change_ratio: float | None = None
    cluster: str | None = None
    node: str | None = None
    hardware: str | None = None
    model: str | None = None
    hour: str | None = None
    day: str | None = None
    week: str | None = None
    month: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row of the ledger: a tenant's part of a window. `work` is weighted tokens, in thousandths."""

    window_start: Time
    window_ms: int
    tenant: str
    cluster: str
    workload: str
    model: str
    hardware: str
    energy_uj: int
    active_uj: int
    idle_uj: int
    unallocated_uj: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cache_write_tokens: int
    audio_prompt_tokens: int
    image_prompt_tokens: int
    estimated_prompt_tokens: int
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    audio_completion_tokens: int
    image_completion_tokens: int
    estimated_completion_tokens: int
    work: int
    requests: int
    failures: int
    method: str
    weights_version: int
    floor_version: int
    revision: int
    final: bool
    simulated: bool
    user: str
    application: str
    feature: str
    provider: str
    region: str
    endpoint: str
    priority: str
    sender: str


@dataclass(frozen=True, slots=True)
class GpuInterval:
    """Energy of one GPU in one window for one workload.

    `busy_ms` is utilisation x time, null if unknown. `late` marks one that arrived after the window was final.
    """

    window_start: Time
    window_ms: int
    cluster: str
    workload: str
    node: str
    gpu_uuid: str
    hardware: str
    owner: str
    energy_uj: int
    covered_ms: int
    busy_ms: int | None
    method: str
    late: bool
    late_id: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class GpuOfWindow:
    """A GPU that measured a window for one workload, as a tenant sees it: energy and times it shares with others."""

    window_start: Time
    window_ms: int
    cluster: str
    workload: str
    node: str
    gpu_uuid: str
    hardware: str
    owner: str
    method: str
    late: bool
    late_id: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class RequestEnergyRow:
    """One inference request, with its energy in the final windows that it ran in.

    In `unmetered_windows` of its `windows` nothing was measured: energy is that of the others, and J/token is null.
    """

    tenant: str
    cluster: str
    workload: str
    model: str
    request_id: str
    session_id: str
    trace_id: str
    user: str
    application: str
    feature: str
    provider: str
    region: str
    endpoint: str
    priority: str
    sender: str
    status: str
    t_start: Time
    t_end: Time
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cache_write_tokens: int
    audio_prompt_tokens: int
    image_prompt_tokens: int
    estimated_prompt_tokens: int
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    audio_completion_tokens: int
    image_completion_tokens: int
    estimated_completion_tokens: int
    energy_uj: int
    active_uj: int
    idle_uj: int
    windows: int
    unmetered_windows: int
    joules_per_token: float | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """A meter's quantity of one group, summed exactly over so many `rows`. For money, `unit` is its currency.

    Only the dimensions that it is grouped by are set.
    """

    meter: str
    unit: str
    quantity: Amount
    rows: int
    simulated: bool
    tenant: str | None = None
    cluster: str | None = None
    workload: str | None = None
    hour: str | None = None
    day: str | None = None
    week: str | None = None
    month: str | None = None
    dimensions: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """Sums of a session over a period: of requests that ended in it, and of usage that counts in it.

    `unmetered_tokens` have no measured energy: `energy_uj` is that of the others.
    """

    tenant: str
    session_id: str
    first: Time
    last: Time
    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cache_write_tokens: int
    audio_prompt_tokens: int
    image_prompt_tokens: int
    estimated_prompt_tokens: int
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    audio_completion_tokens: int
    image_completion_tokens: int
    estimated_completion_tokens: int
    energy_uj: int
    unmetered_tokens: int
    usage_rows: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """A column of a table that a question in SQL may name, with ClickHouse's type."""

    table: str
    column: str
    type: str


@dataclass(frozen=True, slots=True)
class LatestRow:
    """A tenant's part of one of the newest windows, which may be provisional. `unmetered_tokens` have no energy."""

    window_start: Time
    window_ms: int
    tenant: str
    final: bool
    energy_uj: int
    active_uj: int
    idle_uj: int
    unallocated_uj: int
    tokens: int
    unmetered_tokens: int
    requests: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """Ends of the newest final window and of the newest window at all; null in an empty ledger."""

    final_end: Time | None
    window_end: Time | None
