"""Values for what a CSV file lacks: names, and the zone and start of its times."""

from __future__ import annotations

from dataclasses import dataclass, fields

from contracts.errors import BadInput
from contracts.time_zones import zone_of
from producers.recordings.base import offset_ms
from producers.recordings.batches import Group
from producers.recordings.csv_table import BadCell, CsvLine
from producers.recordings.csv_times import FileTimes, start_of

MAX_REASONS = 3
"""Refused rows that an error names, of a file without a readable one."""
_ADDED_OPTIONS = {"timezone": "", "start_ms": None, "tenant": "", "model": ""}
"""Options that are part of the fingerprint only where they are set: see `CsvDefaults.__repr__`."""


@dataclass(slots=True, frozen=True, repr=False, kw_only=True)
class CsvDefaults:
    """Values to use where a file has no such column, or a cell is empty."""

    cluster: str
    workload: str
    node: str
    gpu: str
    hardware: str
    owner: str
    zone_ms: int
    max_gap_ms: int
    timezone: str = ""
    start_ms: int | None = None
    tenant: str = ""
    model: str = ""

    def __repr__(self) -> str:
        """Return the text that goes into the recording's fingerprint. It must stay the same: see `base.fingerprint`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        options = ", ".join(
            f"{name}={value!r}"
            for name, value in values.items()
            if name not in _ADDED_OPTIONS or value != _ADDED_OPTIONS[name]
        )
        return f"Defaults({options})"

    def file_times(self, *, begins_late: bool = False) -> FileTimes:
        """Return a reader of the times of one file."""
        zone = zone_of(self.timezone, "timezone") if self.timezone else None
        return FileTimes(zone, self.zone_ms, self.start_ms, begins_late=begins_late)


def csv_defaults(
    *, cluster: str, workload: str, node: str = "csv", gpu: str = "gpu-0", hardware: str = "unknown", owner: str = "",
    tenant: str = "", model: str = "", utc_offset: str = "+00:00", timezone: str = "", start: str = "",
    max_gap_ms: int = 0,
) -> CsvDefaults:  # fmt: skip
    """Return the values for what files lack, with the zone and the start of their times. Raises BadInput."""
    zone_ms = offset_ms(utc_offset)
    if timezone and zone_ms:
        raise BadInput("timezone", timezone, "give the zone's name or --utc-offset, not both")
    return CsvDefaults(
        cluster=cluster, workload=workload, node=node, gpu=gpu, hardware=hardware, owner=owner, tenant=tenant,
        model=model, zone_ms=zone_ms, max_gap_ms=max_gap_ms, timezone=timezone,
        start_ms=start_of(start, timezone, zone_ms) if start else None,
    )  # fmt: skip


def group_of(line: CsvLine, defaults: CsvDefaults) -> Group:
    """Return the cluster and workload of a row."""
    cluster = line.text("cluster", defaults.cluster)
    if "/" in cluster:
        raise BadCell("cluster", cluster, "a cluster's name has no '/'")
    return cluster, line.text("workload", defaults.workload)
