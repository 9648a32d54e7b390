"""Idle floors and work weights: all that attribution uses beside the log. They have versions, and rows name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.rows import REQUEST_TIME_VERSION
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader
from warehouse.reference_data.storage import put_rows
from warehouse.reference_data.validity import ANY, END_MS, check_scope, check_u32, check_validity


@dataclass(frozen=True, slots=True)
class IdleFloor:
    """Power of one GPU that is on without work, in milliwatts.

    Where several are valid, the closest match of the hardware wins, then the greatest version.
    """

    hardware: str
    valid_from_ms: int
    valid_to_ms: int
    idle_mw: int
    floor_version: int
    source: str = ""

    def check(self) -> None:
        """Raise BadInput that names the field."""
        check_scope("hardware", self.hardware)
        check_validity(self.valid_from_ms, self.valid_to_ms)
        check_u32("idle_mw", self.idle_mw)
        check_u32("floor_version", self.floor_version, least=1)


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
        """Raise BadInput that names the field."""
        check_scope("model", self.model)
        check_scope("hardware", self.hardware)
        check_validity(self.valid_from_ms, self.valid_to_ms)
        for field in ("prompt_milli", "cached_milli", "completion_milli"):
            check_u32(field, getattr(self, field))
        check_u32("weights_version", self.weights_version, least=1, limit=REQUEST_TIME_VERSION - 1)


DEFAULT_WEIGHTS = WorkWeights(
    model=ANY,
    hardware=ANY,
    valid_from_ms=0,
    valid_to_ms=END_MS,
    prompt_milli=1000,
    cached_milli=0,
    completion_milli=3000,
    weights_version=1,
    source="docs/ARCHITECTURE.md, The rule: completion 3, prompt 1, cached 0",
)


class AttributionTables(NamedTuple):
    """All floors and weights, for attribution to choose from."""

    floors: list[IdleFloor]
    weights: list[WorkWeights]


def attribution_tables(warehouse: Warehouse) -> AttributionTables:
    """Return all idle floors and work weights."""
    return AttributionTables(floors=list_idle_floors(warehouse), weights=list_work_weights(warehouse))


def seed_defaults(warehouse: Warehouse) -> None:
    """Store the default work weights, unless some are stored for ('*', '*'). An unknown floor is 0: it needs no row."""
    if not any((w.model, w.hardware) == (ANY, ANY) for w in list_work_weights(warehouse)):
        put_work_weights(warehouse, [DEFAULT_WEIGHTS])


def put_idle_floors(warehouse: Warehouse, floors: Sequence[IdleFloor]) -> None:
    """Store new versions of idle floors. Equal stored rows are left alone.

    Raises BadInput for a value out of range, or a version not above every stored one of the same hardware.
    """
    stored = list_idle_floors(warehouse)
    new = [floor for floor in floors if floor not in stored]
    for floor in new:
        floor.check()
        versions = [s.floor_version for s in stored if s.hardware == floor.hardware]
        _check_newer("floor_version", floor.floor_version, versions)
    put_rows(warehouse, "idle_floors", new)


def list_idle_floors(warehouse: Warehouse | LedgerReader) -> list[IdleFloor]:
    """Return all idle floors, by hardware and start."""
    return [IdleFloor(**row) for row in warehouse.ask("reference_data/idle_floors")]


def put_work_weights(warehouse: Warehouse, weights: Sequence[WorkWeights]) -> None:
    """Store new versions of work weights. Equal stored rows are left alone.

    Raises BadInput for a value out of range, or a version not above every stored one of the same model and hardware.
    """
    stored = list_work_weights(warehouse)
    new = [w for w in weights if w not in stored]
    for w in new:
        w.check()
        versions = [s.weights_version for s in stored if (s.model, s.hardware) == (w.model, w.hardware)]
        _check_newer("weights_version", w.weights_version, versions)
    put_rows(warehouse, "work_weights", new)


def list_work_weights(warehouse: Warehouse | LedgerReader) -> list[WorkWeights]:
    """Return all work weights, by model, hardware and start."""
    return [WorkWeights(**row) for row in warehouse.ask("reference_data/work_weights")]


def _check_newer(field: str, version: int, stored: Sequence[int]) -> None:
    if stored and version <= max(stored):
        raise BadInput(field, version, f"a changed row needs a new version: {max(stored) + 1} or more")
