"""Copies of the rows that a caller may read, in a folder of one question: what its child process reads.

chdb locks its folder, and would hand a child everybody's rows. So this process, which holds the folder, copies the
tables that the question names: all their rows for an operator, for a tenant its own and the reference tables.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import BadQuery
from warehouse.ad_hoc.views import SHARED_VIEWS, TENANT_VIEWS

if TYPE_CHECKING:
    from warehouse.reader import LedgerReader

TENANT_TABLES = ("ledger", "ledger_hour", "ledger_day", "token_usage", "request_energy", "usage", "tenants",
                 "closed_lines")  # fmt: skip
"""Tables whose rows belong to a tenant each."""
SHARED_TABLES = {
    "prices": "ad_hoc/prices", "clusters": "ad_hoc/clusters", "work_weights": "ad_hoc/work_weights",
    "billing_periods": "ad_hoc/billing_periods",
}  # fmt: skip
"""Tables that every caller may read, and the question that copies each. Without idle floors: with them, a tenant's own
idle energy would tell all tenants' work."""
FOR_TENANTS = frozenset((*TENANT_TABLES, *SHARED_TABLES, *TENANT_VIEWS, *SHARED_VIEWS))
MAX_COPY_BYTES = 2 * 2**30
"""Of rows as the engine holds them, in all tables of one question."""
_TOO_LARGE = (
    f"its tables hold more than {MAX_COPY_BYTES >> 30} GiB, too much to copy for a question: use the other commands "
    "and routes, or a ClickHouse server"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


def copy_tables(reader: LedgerReader, sql: str, folder: Path) -> list[str]:
    """Copy what the question may need, and return the statements that make a database of it.

    Every table that the caller may read is created, and those that the question names get their rows. Raises BadQuery
    for more than `MAX_COPY_BYTES`.
    """
    tables = [t for t in reader.ask("ad_hoc/tables") if reader.tenants is None or t["name"] in FOR_TENANTS]
    names = _named(sql, tables)
    statements = [t["definition"] for t in sorted(tables, key=lambda t: bool(t["engine"] == "View"))]
    left = float(MAX_COPY_BYTES)
    for table in tables:
        if table["name"] not in names or table["engine"] == "View":
            continue
        (count,) = _rows(reader, table, "SELECT count() AS rows")
        left -= count["rows"] * table["row_bytes"]
        if left < 0:
            raise BadQuery("sql", sql, _TOO_LARGE)
        if count["rows"]:
            file, columns = f"{folder}/{table['name']}.native", ", ".join(f"`{c}`" for c in table["columns"])
            _rows(reader, table, f"INSERT INTO FUNCTION file({{file:String}}, 'Native') SELECT {columns}", file=file)
            source = f"SELECT {columns} FROM file('{file}', 'Native')"  # noqa: S608
            statements.append(f"INSERT INTO `{table['name']}` ({columns}) {source}")
    return statements


def _rows(reader: LedgerReader, table: dict[str, Any], read: str, **params: Any) -> list[dict[str, Any]]:
    if table["name"] in SHARED_TABLES:
        question = SHARED_TABLES[table["name"]]
    else:
        question = "ad_hoc/tenant_rows" if "tenant" in table["columns"] else "ad_hoc/operator_rows"
    return reader.ask(question, fragments={"read": read, "table": f"`{table['name']}`"}, **params)


def _named(sql: str, tables: list[dict[str, Any]]) -> set[str]:
    """Return the tables whose names the text has anywhere, and those that views among them read, through views too."""
    words = set(_WORD.findall(sql))
    views = {table["name"]: table["definition"] for table in tables if table["engine"] == "View"}
    while named := words & views.keys():
        for name in named:
            words |= set(_WORD.findall(views.pop(name)))
    return words & {t["name"] for t in tables}
