"""The `kafka` fixture: one real Apache Kafka for the session. Tests that use it are marked `kafka`.

Where Java or Maven is absent they are skipped by name; with WATTLOG_REQUIRE_KAFKA=1 they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.kafka import jars
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.field import Field, open_field

HERE = Path(__file__).parent
REQUIRED = os.environ.get("WATTLOG_REQUIRE_KAFKA", "") not in ("", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [i for i in items if i.path.is_relative_to(HERE) and "kafka" in getattr(i, "fixturenames", ())]
    reason = jars.missing() if ours and not REQUIRED else None
    for item in ours:
        item.add_marker(pytest.mark.kafka)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"needs a real Apache Kafka: {reason}"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A running broker: `kafka.bootstrap`, `kafka.topic(name, partitions)`, `kafka.cluster_id`, `kafka.client(...)`."""
    folder = None
    try:
        folder = jars.resolve()
    except jars.KafkaMissing as error:
        reason = str(error)
    if folder is None and REQUIRED:
        pytest.fail(f"WATTLOG_REQUIRE_KAFKA is set, but: {reason}", pytrace=False)
    if folder is None:
        pytest.skip(f"needs a real Apache Kafka: {reason}")
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), folder) as broker:
        yield broker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of the broker's log to a failed test that used it."""
    report = yield
    broker = getattr(item, "funcargs", {}).get("kafka")
    if report.failed and isinstance(broker, KafkaBroker):
        report.sections.append(("Apache Kafka's log", broker.log_tail()))
    return report


@pytest.fixture
def chaos(kafka: KafkaBroker, chdb_dsn: str, chdb_root: Path, database_name: str, tmp_path: Path) -> Iterator[Field]:
    """A deployment of its own, with short windows and a steady producer that is not started yet."""
    with open_field(kafka, chdb_root, tmp_path, database_name, seed=7) as field:
        yield field
