"""Claims: how a worker takes partitions of the log over and shuts their earlier owners out (docs/adr/0008).

From the claim on, the server refuses what holders of lower epochs write (`fence`). Statements that read the claims
before this one was stored are waited for, then killed. After `claim`, the rows of earlier owners no longer change and
can be read.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Sequence

from contracts.errors import Unavailable
from warehouse.client import Warehouse
from warehouse.sink.fence import statement_mark

MAX_CLAIMS = 20
"""Claims that one takeover makes, each above the greatest that it read, before it gives way."""
KILL_AFTER_S = 5.0
"""Wait for earlier owners' writes before they are killed."""
MAX_DRAIN_S = 60.0
"""Wait for earlier owners' writes at most."""
MIN_POLL_S, MAX_POLL_S = 0.02, 0.5
"""Pause between looks at running writes: a tenth of the wait so far, within these bounds."""


def claim(
    warehouse: Warehouse,
    log_id: str,
    partitions: Sequence[int],
    owner: str,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Claim partitions of a log. Return the epoch once no holder of a lower one can write any more.

    `owner` is a name that no other takeover has. Of two that claim at once under the same epoch, the one whose row is
    stored second reads both and claims again above: so no epoch ever has two owners. Repeating a claim is harmless, but
    fences the epoch that the first call returned.

    Raises Unavailable when others keep claiming, or when a statement of theirs does not end.
    """
    numbers = sorted(partitions)
    for turn in range(MAX_CLAIMS):
        (top,) = warehouse.ask("sink/claim_top")
        # Workers that claimed at once step apart by different amounts, so that they hardly meet again.
        step = 1 + zlib.crc32(f"{owner}/{turn}".encode()) % (4 * turn + 1)
        epoch = int(top["epoch"]) + step
        warehouse.execute("sink/claim_put", log_id=log_id, log_partitions=numbers, epoch=epoch, owner=owner)
        (others,) = warehouse.ask("sink/claim_others", log_id=log_id, log_partitions=numbers, owner=owner)
        if int(others["epoch"]) < epoch:
            _drain(warehouse, log_id, frozenset(partitions), epoch, sleep)
            return epoch
    raise Unavailable(
        f"Others claim partitions {numbers} of {log_id} at the same time, {MAX_CLAIMS} times",
        "Check that one consumer group writes to this warehouse.",
        reason="claims",
    )


def _drain(
    warehouse: Warehouse, log_id: str, partitions: frozenset[int], epoch: int, sleep: Callable[[float], None]
) -> None:
    """Wait for writes of lower epochs that read the claims before ours was stored; later ones are refused."""
    running = _running(warehouse, log_id, partitions, epoch)
    waited_s = 0.0
    while running:
        if waited_s >= MAX_DRAIN_S:
            raise Unavailable(
                f"Writes of an earlier owner of partitions {sorted(partitions)} of {log_id} do not end: "
                f"queries {', '.join(sorted(running)[:5])}",
                "Look at system.processes; this worker's user must see and may kill its own queries.",
                reason="draining",
            )
        if waited_s >= KILL_AFTER_S:
            warehouse.command("KILL QUERY WHERE query_id IN {ids:Array(String)} ASYNC", ids=sorted(running))
        pause_s = min(max(waited_s / 10, MIN_POLL_S), MAX_POLL_S)
        sleep(pause_s)
        waited_s += pause_s
        running &= _running(warehouse, log_id, partitions, epoch)


def _running(warehouse: Warehouse, log_id: str, partitions: frozenset[int], epoch: int) -> set[str]:
    """Return the ids of the server's running writes to these partitions under lower epochs."""
    mark = statement_mark(log_id)
    running = set()
    for row in warehouse.ask("sink/fenced_writes", mark=mark):
        match = re.search(rf"{mark}([\d,]+):(\d+)\.", row["query"])
        if match and partitions & set(map(int, match[1].split(","))) and int(match[2]) < epoch:
            running.add(row["query_id"])
    return running
