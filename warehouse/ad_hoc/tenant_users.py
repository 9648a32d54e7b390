"""DDL of ClickHouse users for SQL on a server: one for each tenant, and a role of analysts. Pure.

A tenant's user has nothing but views of its own database. They run as their definer, the user who runs these
statements, over one tenant's rows. A RESTRICTIVE policy on each table holds if somebody grants more by mistake. The
engine itself keeps the bounds: settings that a question cannot change, and quotas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from contracts.errors import BadInput
from warehouse.ad_hoc.copies import SHARED_TABLES, TENANT_TABLES
from warehouse.ad_hoc.views import SHARED_VIEWS, TENANT_VIEWS, declared_columns

ANALYST_ROLE = "wattlog_analyst"
_PROFILE = "wattlog_questions"
_BOUNDS = {
    "readonly": 1, "allow_ddl": 0, "allow_introspection_functions": 0, "max_execution_time": 30,
    "max_memory_usage": 2 * 2**30, "max_result_rows": 100_000, "max_result_bytes": 64 * 2**20,
    "max_concurrent_queries_for_user": 2, "max_threads": 2,
}  # fmt: skip


def user_name(tenant: str) -> str:
    """Return the user of a tenant, which is also its database of views: 128 bits of the name's hash, for any name."""
    if not tenant or "\x00" in tenant:
        raise BadInput("tenant", tenant, "give the tenant's name as the ledger has it")
    try:
        return f"wattlog_tenant_{hashlib.sha256(tenant.encode()).hexdigest()[:32]}"
    except UnicodeEncodeError:
        raise BadInput("tenant", tenant, "give text in UTF-8") from None


def tenant_user(tenant: str, database: str, password: str) -> Iterator[str]:
    """Yield the statements that make a tenant's user, to be run by the user of the workers. They may run again.

    The password itself is in none of them, only its SHA-256. Raises BadInput for a name that cannot be one.
    """
    user, value = _identifier(user_name(tenant)), _text(tenant)
    yield from _profile()
    yield f"CREATE DATABASE IF NOT EXISTS {user} COMMENT {value}"
    digest = hashlib.sha256(password.encode()).hexdigest()
    yield f"CREATE USER OR REPLACE {user} IDENTIFIED WITH sha256_hash BY '{digest}' SETTINGS PROFILE '{_PROFILE}'"
    yield f"REVOKE ALL ON *.* FROM {user}"
    columns = declared_columns()
    for table in (*TENANT_TABLES, *SHARED_TABLES, *TENANT_VIEWS, *SHARED_VIEWS):
        source = f"{_identifier(database)}.{_identifier(table)}"
        is_view, is_own = table in (*TENANT_VIEWS, *SHARED_VIEWS), table in (*TENANT_TABLES, *TENANT_VIEWS)
        rows = f"SELECT * FROM {source}{'' if is_view else ' FINAL'}"  # noqa: S608 (views read FINAL themselves)
        view = f"{user}.{_identifier(table)}"
        head = f"CREATE OR REPLACE VIEW {view} {columns.get(table, '')} DEFINER = CURRENT_USER SQL SECURITY DEFINER"
        yield f"{head} AS {rows}{f' WHERE tenant = {value}' if is_own else ''}"
        yield f"GRANT SELECT ON {view} TO {user}"
        if is_own and not is_view:
            yield f"CREATE ROW POLICY IF NOT EXISTS wattlog_service ON {source} FOR SELECT USING 1 TO CURRENT_USER"
            policy = f"CREATE ROW POLICY OR REPLACE {user} ON {source} AS RESTRICTIVE FOR SELECT"
            yield f"{policy} USING tenant = {value} TO {user}"
    yield from _quota(user, user)


def analyst_role(database: str) -> Iterator[str]:
    """Yield the statements that make the role of analysts, who read all rows of this database and nothing else."""
    role = _identifier(ANALYST_ROLE)
    yield from _profile()
    yield f"CREATE ROLE IF NOT EXISTS {role} SETTINGS PROFILE '{_PROFILE}'"
    yield f"GRANT SELECT ON {_identifier(database)}.* TO {role}"
    for table in TENANT_TABLES:
        source = f"{_identifier(database)}.{_identifier(table)}"
        yield f"CREATE ROW POLICY IF NOT EXISTS {role} ON {source} FOR SELECT USING 1 TO {role}"
    yield from _quota(role, role)


def _profile() -> Iterator[str]:
    bounds = ", ".join(f"{name} = {value} CONST" for name, value in _BOUNDS.items())
    yield f"CREATE SETTINGS PROFILE OR REPLACE {_PROFILE} SETTINGS {bounds}, result_overflow_mode = 'throw' CONST"


def _quota(name: str, to: str) -> Iterator[str]:
    minute = "FOR INTERVAL 1 minute MAX queries = 60, execution_time = 120"
    day = "FOR INTERVAL 1 day MAX queries = 10000, execution_time = 7200"
    yield f"CREATE QUOTA OR REPLACE {name} KEYED BY user_name {minute}, {day} TO {to}"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
