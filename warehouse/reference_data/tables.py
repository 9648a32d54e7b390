"""The tables that people edit: prices, tenants, clusters, and what attribution uses (idle floors, work weights).

Validity is half-open, `[valid_from_ms, valid_to_ms)`, by event time. Nothing here is measured or learned. Changing a
floor or a weight under a past `valid_from_ms` changes what a replay of that time gives: put a new version from now on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from contracts.errors import BadInput
from contracts.topics import check_name
from contracts.units import rfc3339
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader

ANY = "*"
END_MS = 7_258_118_400_000
"""2200-01-01T00:00:00Z: valid until further notice."""
_MAX_U32 = 2**32 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PriceKind = Literal["energy", "pue", "carbon"]
_UNITS = {"energy": "money per kWh", "pue": "facility over IT energy", "carbon": "gCO2eq per kWh"}


@dataclass(frozen=True, slots=True)
class Price:
    """A tariff (`energy`, money per kWh), a `pue` or a `carbon` intensity (gCO2eq per kWh) of a cluster.

    Cluster '*' means those without their own. `currency` (ISO 4217) belongs to kind energy only; `source` says where
    the figure is from.
    """

    kind: PriceKind
    cluster: str
    value: Decimal
    valid_from_ms: int = 0
    valid_to_ms: int = END_MS
    currency: str = ""
    source: str = ""

    def check(self) -> None:
        """Raises BadInput that names the field."""
        if self.kind not in _UNITS:
            raise BadInput("kind", self.kind, f"one of {', '.join(_UNITS)}")
        _check_scope("cluster", self.cluster)
        _check_validity(self.valid_from_ms, self.valid_to_ms)
        value = self.value
        if not value.is_finite() or abs(value) >= 10**9 or value != round(value, 9):
            raise BadInput("value", str(value), f"give {_UNITS[self.kind]}, below 1e9, with at most 9 decimals")
        if self.kind == "pue" and value < 1:
            raise BadInput("value", str(value), "a PUE is 1 or more: the facility uses at least what IT uses")
        if self.kind == "carbon" and value < 0:
            raise BadInput("value", str(value), "give 0 or more gCO2eq per kWh")
        if not re.fullmatch("[A-Z]{3}" if self.kind == "energy" else "", self.currency):
            raise BadInput(
                "currency", self.currency, "give three capitals (USD) for kind energy, nothing for the others"
            )


@dataclass(frozen=True, slots=True)
class Tenant:
    """A team and a cost centre belong to a tenant."""

    tenant: str
    team: str = ""
    cost_centre: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """Whether a cluster's energy is simulated: whatever shows its rows says SIMULATED."""

    cluster: str
    simulated: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class IdleFloor:
    """Power of one GPU that is on without work, in milliwatts. Where several are valid, the closest match wins, then
    the greatest version."""

    hardware: str
    valid_from_ms: int
    valid_to_ms: int
    idle_mw: int
    floor_version: int
    source: str = ""

    def check(self) -> None:
        """Raises BadInput that names the field."""
        _check_scope("hardware", self.hardware)
        _check_validity(self.valid_from_ms, self.valid_to_ms)
        _check_u32("idle_mw", self.idle_mw)
        _check_u32("floor_version", self.floor_version, least=1)


@dataclass(frozen=True, slots=True)
class WorkWeights:
    """Work per token, in thousandths, of a model on a hardware type. Where several are valid, as for `IdleFloor`."""

    model: str
    hardware: str
    valid_from_ms: int
    valid_to_ms: int
    prompt_milli: int
    cached_milli: int
    completion_milli: int
    weights_version: int
    source: str = ""

    def check(self) -> None:
        """Raises BadInput that names the field."""
        _check_scope("model", self.model)
        _check_scope("hardware", self.hardware)
        _check_validity(self.valid_from_ms, self.valid_to_ms)
        for field in ("prompt_milli", "cached_milli", "completion_milli"):
            _check_u32(field, getattr(self, field))
        _check_u32("weights_version", self.weights_version, least=1)


DEFAULT_WEIGHTS = WorkWeights(ANY, ANY, 0, END_MS, 1000, 0, 3000, 1, "DESIGN.md: output 3 : input 1, cached 0")


class AttributionTables(NamedTuple):
    """What attribution uses beside the log."""

    floors: list[IdleFloor]
    weights: list[WorkWeights]


def seed_defaults(warehouse: Warehouse) -> None:
    """Lay down the default work weights where there are none for ('*', '*'). No idle floor: unknown is 0."""
    if not any((w.model, w.hardware) == (ANY, ANY) for w in list_work_weights(warehouse)):
        put_work_weights(warehouse, [DEFAULT_WEIGHTS])


def attribution_tables(warehouse: Warehouse) -> AttributionTables:
    """Idle floors and work weights, as attribution takes them."""
    return AttributionTables(list_idle_floors(warehouse), list_work_weights(warehouse))


def put_prices(warehouse: Warehouse, prices: Sequence[Price]) -> None:
    """Store prices, together. One with the kind, cluster and start of a stored one replaces it.

    To change a tariff: put the old one again with the day it ends, and the new one from that day, in one call.
    Raises BadInput for a value out of range, or where two of the same kind and cluster would be valid at once.
    """
    for price in prices:
        price.check()
    after = {(p.kind, p.cluster, p.valid_from_ms): p for p in (*list_prices(warehouse), *prices)}
    ordered = sorted(after.values(), key=lambda p: (p.kind, p.cluster, p.valid_from_ms))
    for one, other in pairwise(ordered):
        if (one.kind, one.cluster) == (other.kind, other.cluster) and one.valid_to_ms > other.valid_from_ms:
            raise BadInput(
                "valid_from_ms", other.valid_from_ms,
                f"the {one.kind} price of cluster {one.cluster} from {rfc3339(one.valid_from_ms)} is valid until "
                f"{rfc3339(one.valid_to_ms)}: put it again with an end of {rfc3339(other.valid_from_ms)} or before",
            )  # fmt: skip
    _put(warehouse, "prices", prices)


def remove_price(warehouse: Warehouse, price: Price) -> None:
    """Take away the stored price of this kind, cluster and start. Raises BadInput when there is none."""
    if not any(
        (p.kind, p.cluster, p.valid_from_ms) == (price.kind, price.cluster, price.valid_from_ms)
        for p in list_prices(warehouse)
    ):
        raise BadInput("valid_from_ms", price.valid_from_ms, "no price of this kind and cluster starts then")
    _put(warehouse, "prices", [price], deleted=1)


def list_prices(warehouse: Warehouse | LedgerReader) -> list[Price]:
    """All prices, by kind, cluster and start."""
    return [Price(**row) for row in warehouse.ask("reference_data/prices")]


def put_tenants(warehouse: Warehouse, tenants: Sequence[Tenant]) -> None:
    """Store who tenants belong to; a known tenant's row is replaced. Raises BadInput for an impossible name."""
    for tenant in tenants:
        check_name("tenant", tenant.tenant)
    _put(warehouse, "tenants", tenants)


def list_tenants(warehouse: Warehouse) -> list[Tenant]:
    """All tenants, by name."""
    return [Tenant(**_flagged(row)) for row in warehouse.ask("reference_data/tenants")]


def put_clusters(warehouse: Warehouse, clusters: Sequence[Cluster]) -> None:
    """Store what is said of clusters; a known cluster's row is replaced. Raises BadInput for an impossible name."""
    for cluster in clusters:
        check_name("cluster", cluster.cluster)
    _put(warehouse, "clusters", clusters)


def list_clusters(warehouse: Warehouse) -> list[Cluster]:
    """All clusters that something is said of, by name."""
    return [Cluster(**_flagged(row)) for row in warehouse.ask("reference_data/clusters")]


def put_idle_floors(warehouse: Warehouse, floors: Sequence[IdleFloor]) -> None:
    """Store new versions of idle floors; what is stored already, equal, is left alone.

    Raises BadInput for a value out of range, or a version not above every stored one of the same hardware.
    """
    stored = list_idle_floors(warehouse)
    new = [f for f in floors if f not in stored]
    for floor in new:
        floor.check()
        scope = [s.floor_version for s in stored if s.hardware == floor.hardware]
        _check_newer("floor_version", floor.floor_version, scope)
    _put(warehouse, "idle_floors", new)


def list_idle_floors(warehouse: Warehouse) -> list[IdleFloor]:
    """All idle floors, by hardware and start."""
    return [IdleFloor(**row) for row in warehouse.ask("reference_data/idle_floors")]


def put_work_weights(warehouse: Warehouse, weights: Sequence[WorkWeights]) -> None:
    """Store new versions of work weights; what is stored already, equal, is left alone.

    Raises BadInput for a value out of range, or a version not above every stored one of the same model and hardware.
    """
    stored = list_work_weights(warehouse)
    new = [w for w in weights if w not in stored]
    for w in new:
        w.check()
        scope = [s.weights_version for s in stored if (s.model, s.hardware) == (w.model, w.hardware)]
        _check_newer("weights_version", w.weights_version, scope)
    _put(warehouse, "work_weights", new)


def list_work_weights(warehouse: Warehouse) -> list[WorkWeights]:
    """All work weights, by model, hardware and start."""
    return [WorkWeights(**row) for row in warehouse.ask("reference_data/work_weights")]


_OWN_VERSION = frozenset({"idle_floors", "work_weights"})


def _put(warehouse: Warehouse, table: str, items: Iterable[Any], **extra: int) -> None:
    """One insert, so that it is stored whole. The version is the next number, never the clock."""
    if table not in _OWN_VERSION:
        (greatest,) = warehouse.ask("reference_data/greatest_version", idents={"table": table})
        extra["version"] = greatest["version"] + 1
    rows = [{_stored(k): _to_time(k, v) for k, v in asdict(item).items()} | extra for item in items]
    warehouse.insert_rows(table, rows)


def _flagged(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "simulated": bool(row["simulated"])}


def _stored(field: str) -> str:
    return field.removesuffix("_ms")


def _to_time(field: str, value: Any) -> Any:
    return _EPOCH + timedelta(milliseconds=value) if field.endswith("_ms") else value


def _check_scope(field: str, value: str) -> None:
    if value != ANY:
        check_name(field, value)


def _check_validity(from_ms: int, to_ms: int) -> None:
    if not 0 <= from_ms < to_ms <= END_MS:
        raise BadInput("valid_to_ms", to_ms, f"validity is [from, to), here from {from_ms}, up to {END_MS}")


def _check_u32(field: str, value: int, *, least: int = 0) -> None:
    if not least <= value <= _MAX_U32:
        raise BadInput(field, value, f"give {least} to {_MAX_U32}")


def _check_newer(field: str, version: int, stored: Sequence[int]) -> None:
    if stored and version <= max(stored):
        raise BadInput(field, version, f"a changed row needs a new version: {max(stored) + 1} or more")
