"""The ledger after a fault, compared with the oracle and with an undisturbed worker."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from cli.log_feed import FeedProgress, wait_until_stored
from tests.kafka.chaos.field import Field, lay_floors
from tests.kafka.chaos.world import CLUSTERS, FLOORS_MW, World
from tests.support.oracle import Oracle
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse, connect
from warehouse.ledger.fingerprint import fingerprint
from warehouse.periods import Period
from warehouse.reader import operator_reader

_AMOUNTS = (
    "active_uj", "idle_uj", "unallocated_uj", "prompt_tokens", "cached_tokens", "completion_tokens",
    "requests", "failures",
)  # fmt: skip
_ROWS = (
    "SELECT toUnixTimestamp64Milli(window_start) AS start_ms, cluster, workload, hardware, tenant, model, "
    f"{', '.join(_AMOUNTS)} FROM ledger FINAL WHERE final = 1"
)
_FACTS = """
SELECT count() AS n, sum(cityHash64(*)) AS digest FROM (
    SELECT tenant, t_end, request_id, window_start, workload, sum(prompt_tokens), sum(completion_tokens),
        sum(active_uj), sum(idle_uj)
    FROM request_energy FINAL GROUP BY ALL
)
"""


@dataclass(frozen=True)
class Verdict:
    """Result of the comparison.

    `stray_rows` are provisional rows that no final row replaced; `wrong_rows` differ from the oracle. The digests are
    of the final ledger, of the oracle's, and of an undisturbed worker's.
    """

    residual_uj: int
    sequence_gaps: int
    duplicates: int
    audit_ok: bool
    ledger_rows: int
    stray_rows: int
    wrong_rows: int
    oracle_sha256: str
    ledger_sha256: str
    fingerprint: str
    undisturbed: str
    requests_equal: bool

    @property
    def sound(self) -> bool:
        return (
            self.audit_ok
            and not (self.residual_uj or self.sequence_gaps or self.stray_rows or self.wrong_rows)
            and self.ledger_rows > 0
            and self.ledger_sha256 == self.oracle_sha256
            and self.fingerprint == self.undisturbed
            and self.requests_equal
        )


def judge(field: Field) -> Verdict:
    """Audit the ledger and compare it row by row. All events must be stored (`Field.until_stored`).

    The undisturbed ledger is that of one new worker over the same log, from its beginning, in a database of its own.
    """
    books = audit(operator_reader(field.warehouse))
    actual, expected = _rows(field.warehouse), oracle(field.world)
    (stray,) = field.warehouse.query("SELECT count() AS n FROM ledger FINAL WHERE final = 0")
    with connect(field.chdb_dsn, database=f"{field.database}_again") as again:
        lay_floors(again)
        try:
            _replay(field, again)
            undisturbed, requests = _fingerprint(field.world, again), again.query(_FACTS)
        finally:
            again.command(f"DROP DATABASE IF EXISTS `{field.database}_again`")
    return Verdict(
        residual_uj=books.residual_uj,
        sequence_gaps=books.sequence_gaps,
        duplicates=books.duplicates,
        audit_ok=books.ok,
        ledger_rows=len(actual),
        stray_rows=int(stray["n"]),
        wrong_rows=len(actual.items() ^ expected.items()),
        oracle_sha256=_digest(expected),
        ledger_sha256=_digest(actual),
        fingerprint=_fingerprint(field.world, field.warehouse),
        undisturbed=undisturbed,
        requests_equal=requests == field.warehouse.query(_FACTS),
    )


def assert_sound(verdict: Verdict) -> None:
    assert verdict.sound, verdict


def oracle(world: World) -> dict[tuple, tuple]:
    """The ledger of a world's rows, by the scalar attribution of tests/support/oracle.py."""
    return Oracle(1_000, FLOORS_MW).ledger(world.intervals, world.requests)


def _rows(warehouse: Warehouse) -> dict[tuple, tuple]:
    return {
        (r["start_ms"], r["cluster"], r["workload"], r["hardware"], r["tenant"], r["model"]): tuple(
            r[name] for name in _AMOUNTS
        )
        for r in warehouse.query(_ROWS)
    }


def _digest(rows: dict[tuple, tuple]) -> str:
    return hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()


def _fingerprint(world: World, warehouse: Warehouse) -> str:
    return fingerprint(warehouse, Period(world.start_ms - 3_600_000, world.end_ms + 3_600_000), CLUSTERS)


def _replay(field: Field, into: Warehouse) -> None:
    group = f"{field.deployment.env['WATTLOG_KAFKA_GROUP']}-again"
    env = {"WATTLOG_KAFKA_GROUP": group, "WATTLOG_WAREHOUSE_DSN": f"{field.address}/{field.database}_again"}
    worker = field.deployment.stream("undisturbed", env=env)
    try:
        asyncio.run(wait_until_stored(into, field.log_id, FeedProgress(events=dict(field.world.sent)), None))
    except Exception as error:
        error.add_note(worker.error_text())
        raise
    finally:
        worker.kill()
