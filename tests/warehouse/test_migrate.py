"""Migrations: applied once, in order, and never changed afterwards."""

from __future__ import annotations

import pytest

from contracts.errors import LedgerError
from warehouse.client import Warehouse
from warehouse.migrate import load, migrate, pending, statements


def test_an_empty_warehouse_gets_every_migration_in_order(unmigrated: Warehouse) -> None:
    names = [m.name for m in load()]
    assert pending(unmigrated) == names == sorted(names)
    assert migrate(unmigrated) == names
    assert pending(unmigrated) == []


def test_migrating_again_changes_nothing(warehouse: Warehouse) -> None:
    before = warehouse.query("SELECT name, applied_at FROM migrations ORDER BY name")
    assert migrate(warehouse) == []
    assert warehouse.query("SELECT name, applied_at FROM migrations ORDER BY name") == before


def test_an_applied_file_that_changed_is_refused(warehouse: Warehouse) -> None:
    warehouse.insert_rows("migrations", [{"name": load()[0].name, "sha256": "0" * 64}])
    with pytest.raises(LedgerError, match="0001_ledger was changed after it was applied"):
        migrate(warehouse)
    with pytest.raises(LedgerError, match="was changed"):
        pending(warehouse)


def test_a_migration_of_a_newer_version_is_refused(warehouse: Warehouse) -> None:
    warehouse.insert_rows("migrations", [{"name": "9999_from_the_future", "sha256": "0" * 64}])
    with pytest.raises(LedgerError, match=r"9999_from_the_future.*Upgrade"):
        migrate(warehouse)


def test_an_interrupted_run_is_completed_by_the_next(unmigrated: Warehouse) -> None:
    migrate(unmigrated)
    unmigrated.command("DROP TABLE clusters")
    unmigrated.command("ALTER TABLE migrations DELETE WHERE name = '0002_prices' SETTINGS mutations_sync = 1")
    assert migrate(unmigrated) == ["0002_prices"]
    assert unmigrated.query("SELECT count() AS n FROM clusters") == [{"n": 0}]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        (" ;; \n-- nothing\n;", []),
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 2;", ["SELECT ';'", "SELECT 2"]),
        (r"SELECT 'it\'s; ok'; SELECT 2", [r"SELECT 'it\'s; ok'", "SELECT 2"]),
        ("SELECT 'it''s; ok'; SELECT 2", ["SELECT 'it''s; ok'", "SELECT 2"]),
        (r"SELECT '\\'; SELECT 2", [r"SELECT '\\'", "SELECT 2"]),
        ('SELECT 1 AS "a;b"; SELECT `c;d`', ['SELECT 1 AS "a;b"', "SELECT `c;d`"]),
        ("SELECT 1 -- one; two\n+ 1; SELECT 2", ["SELECT 1  \n+ 1", "SELECT 2"]),
        ("SELECT /* it's; */ 1; SELECT 2", ["SELECT   1", "SELECT 2"]),
        ("#! shebang; here\nSELECT 1", ["SELECT 1"]),
        ("SELECT $$a;'b$$; SELECT $x$;$x$", ["SELECT $$a;'b$$", "SELECT $x$;$x$"]),
        ("SELECT 4 - 2 / 1; SELECT '--;'", ["SELECT 4 - 2 / 1", "SELECT '--;'"]),
    ],
)
def test_a_script_is_split_only_at_its_semicolons(script: str, expected: list[str]) -> None:
    assert list(statements(script)) == expected
