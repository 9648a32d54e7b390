"""Shared fixtures. A process may open one embedded warehouse, so all tests of a process share one folder.

Each test has a database of its own in it.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import seeded_ledger as seed
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate

_WHY_DESELECTED = {
    "kafka": "start a real Apache Kafka (Java 17, Maven)",
    "browser": "draw the page in chromium",
    "slow": "take long",
}
_QUICK_TESTS = "quick"
_deselected = pytest.StashKey[Counter[str]]()

# The duration of an example shows how busy the machine is, nothing about the code: hence no deadlines. In CI the
# examples
# are the same each time, so that a change fails because of that change. Elsewhere they differ from run to run, and
# failing
# ones are printed and stored.
_QUICK = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], max_examples=30,
    derandomize=bool(os.environ.get("CI")),
)  # fmt: skip
hypothesis.settings.register_profile("quick", _QUICK)
hypothesis.settings.register_profile("exhaustive", _QUICK, max_examples=100)
hypothesis.settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exhaustive", action="store_true", help="20,000 simulated seeds, not 500; 100 hypothesis examples, not 30"
    )
    parser.addoption(
        "--after-quick",
        action="store_true",
        help="leave out what `make test` runs at the same size; for CI, which runs it",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_deselected] = Counter()
    if config.getoption("--exhaustive"):
        hypothesis.settings.load_profile("exhaustive")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--after-quick"):
        others = [item for item in items if not _is_larger_than_quick(item)]
        items[:] = [item for item in items if _is_larger_than_quick(item)]
        config.hook.pytest_deselected(items=others)


def _is_larger_than_quick(item: pytest.Item) -> bool:
    """Return True for a test that `make test` leaves out, or runs with fewer examples or seeds."""
    has_examples = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return has_examples or "pytestconfig" in item.fixturenames or any(map(item.get_closest_marker, _WHY_DESELECTED))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        for marker in _WHY_DESELECTED:
            if item.get_closest_marker(marker):
                item.config.stash[_deselected][marker] += 1
                break
        else:
            item.config.stash[_deselected][_QUICK_TESTS] += 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts of a worker process of pytest-xdist to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["deselected"] = dict(session.config.stash[_deselected])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Store the counts of one worker process: each has collected, and deselected, all tests."""
    node.config.stash[_deselected] |= Counter(getattr(node, "workeroutput", {}).get("deselected", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for marker, count in sorted(config.stash[_deselected].items()):
        if marker in _WHY_DESELECTED:
            terminalreporter.write_line(f"DESELECTED [{count}] {marker}: they {_WHY_DESELECTED[marker]}; make test-all")
        elif config.getoption("--after-quick"):
            terminalreporter.write_line(f"DESELECTED [{count}] {marker}: make test runs them at the same size")


_names = (f"t{n}" for n in itertools.count(1))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real recordings of shared/data (SOURCES.md there). Skips where they are absent."""
    folder = Path(os.environ.get("WATTLOG_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the recordings of shared/data are not here: set WATTLOG_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `--data` for a command in this process; its embedded warehouse is `chdb_root`."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def chdb_root(data_dir: Path) -> Path:
    """The one folder that this test process opens with chdb. Never open another."""
    return data_dir / "warehouse"


@pytest.fixture(scope="session")
def admin(chdb_root: Path) -> Iterator[Warehouse]:
    """The connection that empties and drops databases. Its engine stays up for the session: starting it takes 0.4 s."""
    with connect(f"chdb://{chdb_root}", database="default", readers=1) as admin:
        yield admin


@pytest.fixture(scope="session")
def chdb_dsn(chdb_root: Path, admin: Warehouse) -> str:
    """The DSN of this process's embedded warehouse."""
    return f"chdb://{chdb_root}"


@pytest.fixture
def database_name() -> str:
    """A database of this test alone."""
    return next(_names)


@pytest.fixture(scope="session")
def dsn(chdb_dsn: str) -> str:
    """The DSN by which tests open their warehouse."""
    return chdb_dsn


@pytest.fixture
def unmigrated(dsn: str, admin: Warehouse, database_name: str) -> Iterator[Warehouse]:
    """A warehouse without a database: `migrate` creates it. Dropped afterwards."""
    with connect(dsn, database=database_name) as warehouse:
        yield warehouse
    _drop(admin, database_name)


@dataclass(frozen=True)
class SpareDatabase:
    """A migrated database without rows, and how its tables were defined."""

    name: str
    definitions: list[dict[str, Any]]


@pytest.fixture(scope="session")
def spare_databases() -> list[SpareDatabase]:
    """Migrated, empty databases that tests before have used. To create one takes a fifth of a second."""
    return []


@pytest.fixture
def warehouse(dsn: str, chdb_dsn: str, admin: Warehouse, spare_databases: list[SpareDatabase]) -> Iterator[Warehouse]:
    """A migrated, otherwise empty warehouse of this test alone."""
    spare = spare_databases.pop() if spare_databases else _create_database(chdb_dsn, admin)
    with connect(dsn, database=spare.name) as warehouse:
        yield warehouse
    if _definitions(admin, spare.name) == spare.definitions:
        _empty(admin, spare.name)
        spare_databases.append(spare)
    else:
        _drop(admin, spare.name)


def _create_database(dsn: str, admin: Warehouse) -> SpareDatabase:
    name = next(_names)
    with connect(dsn, database=name, readers=1) as warehouse:
        migrate(warehouse)
    return SpareDatabase(name, _definitions(admin, name))


def _definitions(admin: Warehouse, database: str) -> list[dict[str, Any]]:
    """Return the tables and the applied migrations."""
    return admin.query(
        "SELECT name, create_table_query AS definition FROM system.tables WHERE database = {database:String}"
        f" UNION ALL SELECT name, toString(sha256) FROM `{database}`.migrations FINAL ORDER BY name",
        database=database,
    )


def _empty(admin: Warehouse, database: str) -> None:
    tables = admin.query(
        "SELECT DISTINCT table AS name FROM system.parts"
        " WHERE database = {database:String} AND active AND table != 'migrations'",
        database=database,
    )
    for table in tables:
        admin.command(f"TRUNCATE TABLE `{database}`.`{table['name']}`")


def _drop(admin: Warehouse, database: str) -> None:
    admin.command(f"DROP DATABASE IF EXISTS `{database}`")


@pytest.fixture(scope="module")
def books(chdb_dsn: str, admin: Warehouse, request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    """A warehouse with the ledger of two clusters, one of them SIMULATED (`seeded_ledger`). Tests only read it."""
    name = "books_" + request.module.__name__.replace(".", "_")
    with connect(chdb_dsn, database=name) as warehouse:
        migrate(warehouse)
        seed.lay(warehouse)
        yield warehouse
    _drop(admin, name)
