"""Migrations: numbered SQL files, applied once each and in order, over chdb and over HTTP.

ClickHouse has no transactions around DDL. So every statement of a file must be safe to repeat, and a file counts as
applied only after its last statement: a run that was interrupted is completed by the next one, which skips what exists.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from clickhouse_connect.driver.exceptions import DatabaseError

from contracts.errors import LedgerError, Unavailable
from warehouse.client import Warehouse
from warehouse.sink.durability import set_durable

_FILE = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_ALREADY_EXISTS = 57

_LEDGER = """
CREATE TABLE IF NOT EXISTS migrations
(
    name       String,
    sha256     FixedString(64) COMMENT 'of the file as applied',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY name
"""

# Comments and quoted text as in ClickHouse's lexer (src/Parsers/Lexer.cpp): backslash and doubling both escape
# a quote; block comments do not nest.
_TOKEN = re.compile(
    r"""(?P<comment> --[^\n]* | \#[!\x20][^\n]* | /\*.*?\*/ )
      | (?P<quoted> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*` )
      | (?P<heredoc> \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
      | (?P<end> ; )
      | (?P<other> [^'"`;\-/\#$]+ | . )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name, its text's SHA-256 and its statements."""

    name: str
    sha256: str
    statements: tuple[str, ...]


def migrate(warehouse: Warehouse, *, durable: bool | None = None) -> list[str]:
    """Create the database and apply missing migrations, in order. Returns the names applied now; none the second time.

    `durable` makes inserts be synced to disk before they are acknowledged (warehouse/sink/durability.py); None leaves
    that as it is. Raises LedgerError when an applied file was changed since, or when the warehouse has a migration that
    this version does not know; Unavailable when the warehouse is gone.
    """
    with warehouse.writer() as client:
        client.command(f"CREATE DATABASE IF NOT EXISTS `{warehouse.database}`", use_database=False)
    warehouse.command(_LEDGER)
    missing = _missing(load(), _applied(warehouse))
    for migration in missing:
        for statement in migration.statements:
            _apply(warehouse, statement)
        warehouse.insert_rows("migrations", [{"name": migration.name, "sha256": migration.sha256}])
    if durable is not None:
        set_durable(warehouse, durable)
    return [m.name for m in missing]


def pending(warehouse: Warehouse) -> list[str]:
    """Return the names of the migrations that `migrate` would apply. Raises as `migrate` does; changes nothing."""
    try:
        applied = _applied(warehouse)
    except Unavailable as error:
        if isinstance(error.__cause__, DatabaseError):  # no database or no ledger of migrations yet
            applied = {}
        else:
            raise
    return [m.name for m in _missing(load(), applied)]


def load(folder: Traversable | None = None) -> list[Migration]:
    """Return the migrations in `folder` (default: this package's), in order of their numbers."""
    folder = folder or resources.files("warehouse") / "migrations"
    files = sorted((f for f in folder.iterdir() if _FILE.fullmatch(f.name)), key=lambda f: f.name)
    out = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        out.append(Migration(file.name.removesuffix(".sql"), sha256, tuple(statements(text))))
    return out


def statements(text: str) -> Iterator[str]:
    """Yield the statements of a script without comments. A ';' in a comment or in quotes does not end one."""
    parts: list[str] = []
    for token in _TOKEN.finditer(text):
        if token["end"]:
            yield from _statement(parts)
            parts = []
        else:
            parts.append(" " if token["comment"] else token[0])
    yield from _statement(parts)


def _statement(parts: list[str]) -> Iterator[str]:
    if sql := "".join(parts).strip():
        yield sql


def _applied(warehouse: Warehouse) -> dict[str, str]:
    rows: list[dict[str, Any]] = warehouse.query("SELECT name, toString(sha256) AS sha256 FROM migrations FINAL")
    return {r["name"]: r["sha256"] for r in rows}


def _missing(known: list[Migration], applied: dict[str, str]) -> list[Migration]:
    names = {m.name for m in known}
    if unknown := sorted(set(applied) - names):
        raise LedgerError(
            f"The warehouse has migration {unknown[-1]}, which this version of Wattlog does not know. "
            "Upgrade Wattlog: a newer version has used this warehouse."
        )
    for migration in known:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise LedgerError(
                f"Migration {migration.name} was changed after it was applied to this warehouse. "
                "Restore the file; put the change into a new, higher-numbered one."
            )
    return [m for m in known if m.name not in applied]


def _apply(warehouse: Warehouse, statement: str) -> None:
    try:
        warehouse.command(statement)
    except Unavailable as error:
        cause = error.__cause__
        if not isinstance(cause, DatabaseError) or cause.code != _ALREADY_EXISTS:  # left by a run that was interrupted
            raise
