"""Hours that an ended in-process worker owes: no successor reads its log, so the next opener of the folder computes
them."""

from __future__ import annotations

import json

from contracts.rows import conform
from warehouse.client import Warehouse
from warehouse.sink.sink import Sink

EMBEDDED_LOG = "embedded/"
"""Prefix of the log id of one process: of an in-process broker, whose topics vanish with it, or of a log on disk."""


def compute_owed_hours(warehouse: Warehouse) -> int:
    """Compute the hours and days that checkpoints of in-process logs name as due. Returns how many hours there were.

    Only for an embedded warehouse that this process has open, before it starts a worker: then every other in-process
    log has ended. Repeating it changes nothing. Raises Unavailable.
    """
    sink, count = Sink(warehouse), 0
    for mark in warehouse.ask("sink/owed_hours", log_prefix=EMBEDDED_LOG):
        state = json.loads(mark["state"])
        sink.refresh_hours_of(mark["log_id"], mark["log_partition"], state["hours"])
        count += len(state["hours"])
        state["hours"] = []
        paid = {**mark, "version": mark["version"] + 1, "state": json.dumps(state, separators=(",", ":"))}
        sink.write("marks", conform("marks", paid))
    return count
