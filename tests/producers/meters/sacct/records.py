"""Accounting in the format of `sacct`, and the rows that are made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contracts.events import UsageBatch
from producers.api import PollResult
from producers.meters.sacct.job_records import FIELDS
from producers.meters.sacct.source import SacctSource
from tests.support.clocks import clock_at

T0 = 1_700_000_000
NOW = T0 + 20_000
ACCOUNTING = (Path(__file__).parent / "accounting.txt").read_bytes()
J = 1_000_000


def line(
    number: int | str = 1, start: object = T0, end: object = T0 + 1_000, energy: object = 1_000, **cells: str
) -> str:
    values = {
        "Cluster": "east", "JobIDRaw": str(number), "JobID": str(number), "State": "COMPLETED", "Start": str(start),
        "End": str(end), "NNodes": "1", "NodeList": "n1", "Partition": "gpu", "Account": "acme", "User": "alice",
        "ConsumedEnergyRaw": str(energy),
    }  # fmt: skip
    return "|".join((values | cells)[field] for field in FIELDS)


def accounting(*lines: str, **options: Any) -> SacctSource:
    content = ("\n".join(lines) + "\n").encode()
    return SacctSource("sacct", "c", lambda since_s: content, lambda run: run.account, **options)


def collect(source: SacctSource, checkpoint: bytes | None = None, now_s: int = NOW) -> PollResult:
    return source.collect(checkpoint, clock_at(now_s * 1000))


def rows(result: PollResult) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = []
    for item in result.batches:
        batch = item.batch
        assert isinstance(batch, UsageBatch)
        batch.check()
        columns = zip(
            batch.tenant, batch.quantity, batch.t0_ms.tolist(), batch.t1_ms.tolist(), batch.event_id, batch.dimensions,
            batch.meter, strict=True,
        )  # fmt: skip
        names = ("tenant", "uj", "t0_ms", "t1_ms", "event_id", "dimensions", "meter")
        values += [{"workload": item.workload, **dict(zip(names, row, strict=True))} for row in columns]
    return sorted(values, key=lambda row: str(row["event_id"]))


def jobs(result: PollResult) -> list[str]:
    return [row["event_id"].split("/", 1)[1] for row in rows(result)]
