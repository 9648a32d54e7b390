"""`LedgerReader`: the warehouse as one caller may see it. Every read of tenants' rows goes through it.

No caller has to remember to filter by tenant. Read functions take a reader, never a `Warehouse`. The reader binds its
tenants into each question (a `.sql` file: see `sql_files`). `Warehouse.ask` refuses questions on tenants' rows.
Readers are made in few places, from a verified caller: `tenant_reader` and `operator_reader`. They are listed in
tests/warehouse/test_reader.py.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from contracts.errors import AccessDenied, BadInput, BadQuery
from warehouse.filters import Filter
from warehouse.sql_files import (
    TENANT_PARAMETER,
    TENANTS_PARAMETER,
    Access,
    is_narrowed,
    reads_clusters,
    sql_file,
    with_clusters,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from warehouse.client import Warehouse

_EVERY_ROW = Filter()
_OPTIONAL_CLUSTER = "{cluster:String} = ''"
"""A question with this has all clusters, or that of the filter, under all of its names."""


class LedgerReader:
    """Runs questions for one caller: of some tenants, who sees their rows, or an operator, who sees all."""

    def __init__(self, warehouse: Warehouse, tenants: frozenset[str] | None) -> None:
        """Made by `tenant_reader` and `operator_reader` only. `tenants` None: an operator."""
        self._warehouse = warehouse
        self._tenants = tenants
        self._aliases: dict[str, str] | None = None

    @property
    def tenants(self) -> frozenset[str] | None:
        """The tenants whose rows this reader sees; None: an operator's, who sees all."""
        return self._tenants

    def narrow(self, filter: Filter) -> Filter:
        """Return the filter with this reader's tenants in it. Raises AccessDenied (403) for another tenant's."""
        if self._tenants is None:
            return replace(filter, among=())
        if filter.tenant:
            if filter.tenant not in self._tenants:
                own = "tenant" if len(self._tenants) == 1 else "tenants"
                raise AccessDenied(403, f"This token sees its own {own} only.")
            return replace(filter, among=(filter.tenant,))
        among = tuple(sorted(self._tenants))
        return replace(filter, tenant=among[0] if len(among) == 1 else None, among=among)

    @property
    def aliases(self) -> dict[str, str]:
        """Clusters by their former names, as they were when this reader first asked."""
        if self._aliases is None:
            rows = self._warehouse.ask("reference_data/cluster_aliases")
            self._aliases = {row["alias"]: row["cluster"] for row in rows}
        return self._aliases

    def with_aliases(self, aliases: Mapping[str, str]) -> LedgerReader:
        """Return a reader of the same caller under which clusters have these former names, and no others."""
        reader = LedgerReader(self._warehouse, self._tenants)
        reader._aliases = dict(aliases)
        return reader

    @property
    def embedded(self) -> bool:
        """True if the engine runs in this process."""
        return self._warehouse.embedded

    @property
    def database(self) -> str:
        """The warehouse's database."""
        return self._warehouse.database

    def operator_warehouse(self) -> Warehouse:
        """Return the warehouse itself, for an operator's own SQL. Raises AccessDenied (403) for a tenant's reader."""
        self._require_operator()
        return self._warehouse

    def ask(
        self,
        name: str,
        filter: Filter = _EVERY_ROW,
        *,
        fragments: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> list[dict[str, Any]]:
        """Run a question (`sql_files`), with this reader's tenant and the filter bound, and return its rows.

        Raises AccessDenied (403) for another tenant's rows, BadQuery for a filter that the question cannot apply.
        """
        sql, bound = self._bind(name, filter, fragments, params)
        return self._warehouse.query(sql, settings=settings, **bound)

    def ask_blocks(
        self, name: str, filter: Filter = _EVERY_ROW, *, fragments: Mapping[str, str] | None = None, **params: Any
    ) -> Generator[list[dict[str, Any]]]:
        """Run a question as `ask` does, and yield its rows in blocks (`Warehouse.query_blocks`)."""
        sql, bound = self._bind(name, filter, fragments, params)
        return self._warehouse.query_blocks(sql, **bound)

    def ask_arrow(
        self, name: str, filter: Filter = _EVERY_ROW, *, fragments: Mapping[str, str] | None = None, **params: Any
    ) -> pa.Table:
        """Run a question as `ask` does, and return an Arrow table.

        Parameters may be long: they are sent in the body.
        """
        sql, bound = self._bind(name, filter, fragments, params)
        return self._warehouse.arrow(sql, **bound)

    def _bind(
        self, name: str, filter: Filter, fragments: Mapping[str, str] | None, params: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        file = sql_file(name)
        sql = file.render(fragments)
        if file.access is Access.INTERNAL:
            raise ValueError(f"{name} is internal: a reader does not run it")
        if file.access is Access.OPERATOR:
            self._require_operator()
        if file.access is Access.TENANT:
            if not is_narrowed(sql):
                raise ValueError(f"{name} returns tenants' rows without a condition on {TENANTS_PARAMETER}")
            filter = self.narrow(filter)
            if TENANT_PARAMETER in sql and filter.among and not filter.tenant:
                raise BadQuery("tenant", None, "this credential has several tenants: name one")
        bound = dict(params)
        if reads_clusters(sql) or (filter.cluster and _OPTIONAL_CLUSTER in sql):
            filter = replace(filter, cluster=self.aliases.get(filter.cluster or "", filter.cluster))
            sql = with_clusters(sql, renamed=bool(self.aliases))
            if self.aliases:
                bound |= self._alias_parameters(sql, filter.cluster or "")
        if TENANTS_PARAMETER in sql:
            bound["tenants"] = [filter.tenant] if filter.tenant else list(filter.among)
        for column, value in asdict(filter).items():
            if column == "among" or (column == "tenant" and TENANTS_PARAMETER in sql and TENANT_PARAMETER not in sql):
                continue
            if f"{{{column}:String}}" in sql:
                bound[column] = value or ""
            elif value:
                raise BadQuery(column, value, "this question cannot be narrowed by it: leave it out")
        return sql, bound

    def _alias_parameters(self, sql: str, cluster: str) -> dict[str, list[str]]:
        names = [cluster, *(alias for alias, target in self.aliases.items() if target == cluster)]
        values = {"aliases": list(self.aliases), "alias_clusters": list(self.aliases.values()), "names": names}
        return {name: value for name, value in values.items() if f"{{{name}:Array(String)}}" in sql}

    def _require_operator(self) -> None:
        if self._tenants is not None:
            raise AccessDenied(403, "Only operators see this: it is about all tenants.")


def tenant_reader(warehouse: Warehouse, *tenants: str) -> LedgerReader:
    """Return the reader of verified tenants. Raises BadInput for none or an empty name, which would mean all."""
    if not tenants or not all(tenants):
        raise BadInput("tenant", tenants, "give the names of the caller's tenants")
    return LedgerReader(warehouse, frozenset(tenants))


def operator_reader(warehouse: Warehouse) -> LedgerReader:
    """Return the reader of a verified operator, or of the command line, whose user can open the warehouse anyway."""
    return LedgerReader(warehouse, None)
