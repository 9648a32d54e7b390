"""The tables of reference data, each described once: commands, files and the API are made from these descriptions.

Another kind of reference data is another `ReferenceTable` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from contracts.errors import BadInput
from warehouse.reader import LedgerReader
from warehouse.reference_data import fields as f
from warehouse.reference_data.aliases import ClusterAlias, list_aliases
from warehouse.reference_data.attribution_tables import IdleFloor, WorkWeights, list_idle_floors, list_work_weights
from warehouse.reference_data.clusters import Cluster, list_clusters
from warehouse.reference_data.fields import ReferenceField
from warehouse.reference_data.prices import Price, list_prices
from warehouse.reference_data.tenants import Tenant, list_tenants

Row = Any
"""A row of one of the tables: a frozen dataclass."""


class InTime(Enum):
    """Order of the rows of one group in time."""

    DISJOINT = 1
    """At most one is valid at a time."""
    STEPS = 2
    """Each holds until the next."""
    VERSIONS = 3
    """Several may be valid: the greatest version wins."""
    NONE = 4
    """There is one row."""


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """A table that people edit: its fields, its key, and how its rows follow each other."""

    name: str
    """Name of its commands, and of its part of the API."""
    noun: str
    table: str
    """Name in the warehouse."""
    row: Callable[..., Row]
    fields: tuple[ReferenceField, ...]
    key: tuple[str, ...]
    """Attributes that identify a row."""
    group: tuple[str, ...]
    """Attributes of rows that follow each other in time."""
    in_time: InTime
    stored: Callable[[LedgerReader], list[Row]]
    names: Mapping[str, str]
    """Attributes that name a cluster, tenant, model or hardware type, and which of these."""
    inherited: tuple[str, ...] = ()
    """Attributes that a row has from the row before it where they are not given."""
    needed: frozenset[str] = frozenset()
    """Attributes that a row needs, from the row before it or its own."""
    version: str = ""
    """Attribute with the version, which is the next one where it is not given."""
    marks_deleted: bool = True
    """A removed row is marked; else it is deleted."""
    example: str = ""
    """Arguments of an example of `set`."""

    def field(self, name: str) -> ReferenceField:
        """Return a field by its name or attribute. Raises KeyError."""
        return next((one for one in self.fields if name in (one.name, one.attribute)), None) or _no_field(name)

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Return what identifies a row."""
        return tuple(getattr(row, attribute) for attribute in self.key)

    def group_of(self, row: Row) -> tuple[Any, ...]:
        """Return what rows that follow each other have in common."""
        return tuple(getattr(row, attribute) for attribute in self.group)

    def texts(self, row: Row) -> dict[str, str]:
        """Return a row as people write it: imported again, it is the same row."""
        return {one.name: one.form.show(getattr(row, one.attribute)) for one in self.fields}

    def subject(self, row: Row) -> str:
        """Return a row's key as people write it, in one line."""
        return " ".join(self.field(attribute).form.show(getattr(row, attribute)) for attribute in self.key)


def _no_field(name: str) -> ReferenceField:
    raise KeyError(name)


def reference_table(name: str) -> ReferenceTable:
    """Return a table by its name. Raises BadInput for another."""
    if name not in TABLES:
        raise BadInput("kind", name, f"give one of {', '.join(TABLES)}")
    return TABLES[name]


_FROM = ReferenceField(
    "valid_from", "valid_from_ms", f.START,
    "Start: RFC 3339, a day, or always; without it, the next window, so that nothing of the past changes.",
    "--from", optional=True,
)  # fmt: skip
_TO = ReferenceField(
    "valid_to", "valid_to_ms", f.END, "End, exclusive; without it, until further notice.", "--to", optional=True
)
_SOURCE = ReferenceField("source", "source", f.TEXT, "Origin of the figure, such as a contract.", "--source", True)
_SIMULATED = "It exists in a simulation only."


def _own_prices(reader: LedgerReader) -> list[Row]:
    """Return prices without their copies under former names of clusters."""
    return [price for price in list_prices(reader) if price.cluster not in reader.aliases]


PRICES = ReferenceTable(
    name="prices",
    noun="price",
    table="prices",
    row=Price,
    fields=(
        ReferenceField("kind", "kind", f.TEXT, "energy (money per kWh), pue, or carbon (gCO2eq per kWh)."),
        ReferenceField("cluster", "cluster", f.TEXT, "Cluster; '*' for all without a price of their own."),
        ReferenceField("value", "value", f.NUMBER, "A plain decimal number; energy and its price may be negative."),
        _FROM,
        _TO,
        ReferenceField(
            "currency", "currency", f.TEXT, "Currency of kind energy, such as EUR (default: the setting currency).",
            "--currency", optional=True,
        ),
        _SOURCE,
    ),
    key=("kind", "cluster", "valid_from_ms"),
    group=("kind", "cluster"),
    in_time=InTime.DISJOINT,
    stored=_own_prices,
    names={"cluster": "cluster"},
    example='energy us-east 0.083 --from 2026-01-01 --source "contract 17"',
)  # fmt: skip
TENANTS = ReferenceTable(
    name="tenants",
    noun="tenant",
    table="tenants",
    row=Tenant,
    fields=(
        ReferenceField("tenant", "tenant", f.TEXT, "Tenant, as requests name it."),
        ReferenceField("team", "team", f.TEXT, "Its team.", "--team", optional=True),
        ReferenceField("cost_centre", "cost_centre", f.TEXT, "Its cost centre.", "--cost-centre", optional=True),
        _FROM,
        ReferenceField("simulated", "simulated", f.FLAG, _SIMULATED, "--simulated", optional=True),
    ),
    key=("tenant", "valid_from_ms"),
    group=("tenant",),
    in_time=InTime.STEPS,
    stored=list_tenants,
    names={"tenant": "tenant"},
    inherited=("team", "cost_centre", "simulated"),
    example="acme --cost-centre B --from 2026-12-01",
)
FLOORS = ReferenceTable(
    name="floors",
    noun="idle floor",
    table="idle_floors",
    row=IdleFloor,
    fields=(
        ReferenceField("hardware", "hardware", f.TEXT, "Hardware type, as the ledger names it; '*' for all others."),
        ReferenceField("idle_w", "idle_mw", f.THOUSANDTHS, "Watts of one GPU that is on without work."),
        _FROM,
        _TO,
        ReferenceField("version", "floor_version", f.VERSION, "Number that ledger rows name.", "--version", True),
        _SOURCE,
    ),
    key=("hardware", "valid_from_ms"),
    group=("hardware",),
    in_time=InTime.VERSIONS,
    stored=list_idle_floors,
    names={"hardware": "hardware"},
    version="floor_version",
    marks_deleted=False,
    example="'NVIDIA H100 80GB HBM3' 68 --source measured",
)
WEIGHTS = ReferenceTable(
    name="weights",
    noun="row of work weights",
    table="work_weights",
    row=WorkWeights,
    fields=(
        ReferenceField("model", "model", f.TEXT, "Model, as requests name it; '*' for all others."),
        ReferenceField("hardware", "hardware", f.TEXT, "Hardware type; '*' for all others."),
        ReferenceField("prompt", "prompt_milli", f.THOUSANDTHS, "Work of a computed prompt token.", "--prompt", True),
        ReferenceField("cached", "cached_milli", f.THOUSANDTHS, "Work of a cached prompt token.", "--cached", True),
        ReferenceField(
            "completion", "completion_milli", f.THOUSANDTHS, "Work of a completion token.", "--completion", True
        ),
        _FROM,
        _TO,
        ReferenceField("version", "weights_version", f.VERSION, "Number that ledger rows name.", "--version", True),
        _SOURCE,
    ),
    key=("model", "hardware", "valid_from_ms"),
    group=("model", "hardware"),
    in_time=InTime.VERSIONS,
    stored=list_work_weights,
    names={"model": "model", "hardware": "hardware"},
    inherited=("prompt_milli", "cached_milli", "completion_milli"),
    needed=frozenset({"prompt_milli", "cached_milli", "completion_milli"}),
    version="weights_version",
    marks_deleted=False,
    example="llama-70b '*' --prompt 1 --cached 0.1 --completion 4",
)
CLUSTERS = ReferenceTable(
    name="clusters",
    noun="cluster",
    table="clusters",
    row=Cluster,
    fields=(
        ReferenceField("cluster", "cluster", f.TEXT, "Cluster, as its agents name it."),
        ReferenceField("simulated", "simulated", f.FLAG, "Its energy is simulated.", "--simulated", optional=True),
        ReferenceField("note", "note", f.TEXT, "A remark.", "--note", optional=True),
    ),
    key=("cluster",),
    group=("cluster",),
    in_time=InTime.NONE,
    stored=list_clusters,
    names={"cluster": "cluster"},
    inherited=("simulated", "note"),
    marks_deleted=False,
    example='us-east --note "hall 3"',
)
ALIASES = ReferenceTable(
    name="aliases",
    noun="alias",
    table="cluster_aliases",
    row=ClusterAlias,
    fields=(
        ReferenceField("alias", "alias", f.TEXT, "Former name of the cluster."),
        ReferenceField("cluster", "cluster", f.TEXT, "Its name now, under which all of its rows are read."),
    ),
    key=("alias",),
    group=("alias",),
    in_time=InTime.NONE,
    stored=list_aliases,
    names={"alias": "cluster", "cluster": "cluster"},
    example="us-east us-east-1",
)
TABLES: Mapping[str, ReferenceTable] = MappingProxyType(
    {table.name: table for table in (TENANTS, FLOORS, WEIGHTS, PRICES, CLUSTERS, ALIASES)}
)
"""All tables by name, in the order in which they are described."""
