"""Reading another tenant's rows is refused by the reader, and cannot be forgotten in a new query, read or route."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from contracts.errors import AccessDenied, BadInput, BadQuery
from tests.support.ledger_rows import row
from warehouse.ad_hoc.saved_questions import saved_questions
from warehouse.chargeback import slots
from warehouse.chargeback.rollups import CUTS
from warehouse.chargeback.token_kinds import NO_FRAGMENTS
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.reader import LedgerReader, operator_reader, tenant_reader
from warehouse.sql_files import TENANT_PARAMETER, TENANTS_PARAMETER, Access, SqlFile, is_narrowed, sql_file, sql_files

ROOT = Path(__file__).parents[2]
FILES = list(sql_files())
FIRST_PAGE = {"first": 1, "after_ms": 0, "after_tenant": ""}
"""Of `ledger/latest`."""
TENANT_TABLES = (
    "ledger", "ledger_hour", "ledger_day", "token_usage", "request_energy", "requests", "gpu_energy", "usage",
    "usage_ids",
)  # fmt: skip
"""Tables and views with rows of tenants."""
TIMES_ONLY = {"ledger/extremes", "ledger/newest", "ledger/oldest", "chargeback/known_steps"}
"""Shared queries over these tables: they return times, and no row of a tenant."""
MAKE_READERS = {
    "api/auth.py": "from a verified token; without a key, for callers on loopback",
    "api/metrics.py": "the scrape page, which only operators see",
    "cli/demo_run.py": "the simulated fleet of this process",
    "cli/health_checks.py": "as cli/ledger_access.py",
    "cli/ledger_access.py": "whoever can open the warehouse can read all of it",
    "cli/replay_run.py": "as cli/ledger_access.py",
    "cli/up_run.py": "as cli/ledger_access.py: the process holds the warehouse",
}
"""Modules that create a LedgerReader, with the reason."""
READS = (
    "audit.conservation", "chargeback.chargeback_queries", "chargeback.series", "ledger.explanation",
    "latency.latency_queries", "ledger.ledger_queries", "usage.sessions", "usage.usage_queries",
)  # fmt: skip


def sources(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_query_over_tenants_rows_has_the_tenant_in_a_condition(file: SqlFile) -> None:
    if file.access is Access.TENANT and "$charges" not in file.text:  # Those are chargeback/rollup_rows.
        assert is_narrowed(file.text), file.name
    if file.access is Access.SHARED and file.name not in TIMES_ONLY:
        tables = set(re.findall(r"\b(?:FROM|JOIN) (?:\w+\.)?(\w+)", file.text))
        assert not tables & set(TENANT_TABLES), "declare `-- Access: tenant` and bind {tenant:String}"
        assert "$table" not in file.text, file.name


@pytest.mark.parametrize(
    ("sql", "narrowed"),
    [
        (f"SELECT 1 FROM ledger WHERE tenant = {TENANT_PARAMETER}", True),
        (f"SELECT 1 FROM ledger WHERE tenant IN {TENANTS_PARAMETER}", True),
        (f"SELECT {TENANT_PARAMETER} FROM ledger", False),
        (f"SELECT 1 FROM ledger -- tenant = {TENANT_PARAMETER}", False),
        (f"SELECT 1 FROM ledger WHERE tenant = {TENANT_PARAMETER} UNION ALL SELECT 1 FROM usage", False),
    ],
)
def test_the_tenant_must_be_in_a_condition_of_each_part_of_a_union(sql: str, narrowed: bool) -> None:
    assert is_narrowed(sql) is narrowed


def test_every_query_is_used() -> None:
    literals = {
        node.value
        for _, tree in sources("warehouse", "streams", "api", "cli")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert [file.name for file in FILES if file.name not in literals] == []
    assert sorted(str(p.relative_to(ROOT / "warehouse")) for p in (ROOT / "warehouse").rglob("*.sql")) == sorted(
        [f"{file.name}.sql" for file in FILES]
        + [f"migrations/{p.name}" for p in (ROOT / "warehouse" / "migrations").glob("*.sql")]
        + [f"ad_hoc/saved/{question.name}.sql" for question in saved_questions()]
    )


def test_readers_are_created_only_from_verified_callers() -> None:
    makers = {"LedgerReader", "operator_reader", "tenant_reader"}
    calling = {
        path
        for path, tree in sources("contracts", "producers", "streams", "warehouse", "api", "forecasting", "cli")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers
    }
    assert calling == {*MAKE_READERS, "warehouse/reader.py"}


def test_the_api_reaches_the_warehouse_only_by_a_reader() -> None:
    for path, tree in sources("api"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("query", "arrow", "ask", "ask_arrow", "command", "execute"), path
            if path.startswith("api/routes/") and isinstance(node, ast.Name):
                assert node.id != "Warehouse", path


@pytest.mark.parametrize("module", READS)
def test_a_read_takes_a_reader_never_a_warehouse(module: str) -> None:
    reads = import_module(f"warehouse.{module}")
    for name, function in vars(reads).items():
        if isinstance(function, FunctionType) and function.__module__ == reads.__name__:
            parameters = list(inspect.signature(function).parameters.values())
            assert all("Warehouse" not in str(p.annotation) for p in parameters), name


def test_a_warehouse_itself_refuses_queries_over_tenants(warehouse: Warehouse) -> None:
    for file in FILES:
        if file.access in (Access.TENANT, Access.OPERATOR):
            for run in (warehouse.ask, warehouse.ask_arrow, warehouse.execute):
                with pytest.raises(ValueError, match="LedgerReader"):
                    run(file.name)


def test_a_tenants_reader_refuses_another_tenants_and_all_tenants(warehouse: Warehouse) -> None:
    reader = tenant_reader(warehouse, "acme")
    for file in FILES:
        if file.access is Access.OPERATOR:
            with pytest.raises(AccessDenied):
                reader.ask(file.name)
        if file.access is Access.INTERNAL:
            with pytest.raises(ValueError, match="internal"):
                reader.ask(file.name)
        if file.access is Access.TENANT:
            with pytest.raises(AccessDenied):
                reader.ask(file.name, Filter(tenant="globex"), fragments=_fragments(file))
    with pytest.raises(AccessDenied):
        reader.operator_warehouse()
    assert operator_reader(warehouse).operator_warehouse() is warehouse


def test_a_query_without_a_tenant_condition_cannot_run(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful = SqlFile("ledger/rows", Access.TENANT, "SELECT * FROM ledger")
    monkeypatch.setattr("warehouse.reader.sql_file", lambda _: forgetful)
    for reader in (tenant_reader(warehouse, "acme"), operator_reader(warehouse)):
        with pytest.raises(ValueError, match="condition"):
            reader.ask("ledger/rows")


def test_the_readers_tenant_overrides_a_parameter_of_that_name(warehouse: Warehouse) -> None:
    for tenant in ("acme", "globex"):
        warehouse.insert("ledger", row("ledger", tenant=tenant))
    rows = tenant_reader(warehouse, "acme").ask(
        "ledger/latest", tenant="", start_ms=0, end_ms=2**40, limit=9, **FIRST_PAGE
    )
    assert {r["tenant"] for r in rows} <= {"acme"}


def test_a_reader_of_several_tenants_sees_exactly_their_rows(warehouse: Warehouse) -> None:
    for tenant in ("acme", "globex", "initech"):
        warehouse.insert("ledger", row("ledger", tenant=tenant))
    both, everyone = tenant_reader(warehouse, "acme", "globex"), operator_reader(warehouse)
    window = {"start_ms": 0, "end_ms": 2**42, "limit": 9, **FIRST_PAGE}

    def tenants(reader: LedgerReader, filter: Filter = Filter()) -> set[str]:  # noqa: B008
        return {r["tenant"] for r in reader.ask("ledger/latest", filter, **window)}

    assert tenants(everyone) == {"acme", "globex", "initech"}
    assert tenants(both) == {"acme", "globex"}
    assert tenants(both, Filter(tenant="globex")) == {"globex"}
    assert tenants(both, Filter(among=("initech",))) == {"acme", "globex"}, "a caller's own `among` is not read"
    with pytest.raises(AccessDenied):
        tenants(both, Filter(tenant="initech"))


def test_a_question_about_one_tenant_needs_its_name_from_a_reader_of_several(warehouse: Warehouse) -> None:
    both = tenant_reader(warehouse, "acme", "globex")
    with pytest.raises(BadQuery, match="name one"):
        both.ask("ledger/explain_window", at_ms=-1)
    assert both.ask("ledger/explain_window", Filter(tenant="acme"), at_ms=-1)[0]["windows"] == 0


def test_a_reader_without_a_tenant_is_refused(warehouse: Warehouse) -> None:
    for tenants in ((), ("",), ("acme", "")):
        with pytest.raises(BadInput, match="tenant"):
            tenant_reader(warehouse, *tenants)


def test_a_filter_that_a_query_cannot_apply_is_refused_not_ignored(warehouse: Warehouse) -> None:
    with pytest.raises(BadQuery, match="model"):
        operator_reader(warehouse).ask("ledger/latest", Filter(model="m"), start_ms=0, end_ms=1, limit=1)


def test_a_query_without_its_access_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "subject").mkdir()
    (tmp_path / "subject" / "unmarked.sql").write_text("SELECT 1")
    monkeypatch.setattr("warehouse.sql_files.resources.files", lambda _: tmp_path)
    with pytest.raises(ValueError, match="Access"):
        sql_file("subject/unmarked")


def _fragments(file: SqlFile) -> dict[str, Any]:
    if "$charges" in file.text:
        windows = {"table": "ledger", "time": "window_start", "only": "1"}
        rollup = sql_file("chargeback/rollup_rows").render(windows | {"slot_columns": "", "slot_join": ""})
        return {
            "charges": rollup,
            "spans": sql_file("chargeback/spans").render({"breaks": "[]", "prices": "prices FINAL"}),
            "cuts": CUTS,
            **NO_FRAGMENTS,
            **slots.NO_FRAGMENTS,
            "divided": "[]",
            "breaks": "[]",
            "prices": "prices FINAL",
            "groups": "1",
            "keys": "",
            "account": "",
        }
    return dict.fromkeys(re.findall(r"\$(\w+)", file.text), "x") | {"breaks": "[]", "account": "", "prices": "prices"}


def test_a_narrowed_filter_keeps_its_other_conditions(warehouse: Warehouse) -> None:
    reader = tenant_reader(warehouse, "acme")
    assert reader.narrow(Filter(cluster="eu")) == Filter(tenant="acme", cluster="eu", among=("acme",))
    assert isinstance(reader, LedgerReader)
