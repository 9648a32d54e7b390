"""Progress of each partition's final windows, sampled in a thread: it shows whether and when workers recovered."""

from __future__ import annotations

import bisect
import threading
import time
from types import TracebackType
from typing import Self

from warehouse.client import Warehouse

EVERY_S = 0.25
_SQL = """
SELECT log_partition, toUnixTimestamp64Milli(max(final_end)) AS end_ms
FROM marks WHERE log_id = {log_id:String} GROUP BY log_partition
"""


class Progress:
    """Sample the checkpoints every EVERY_S seconds, in a thread. Times are of `time.monotonic`, in seconds."""

    def __init__(self, warehouse: Warehouse, log_id: str, partitions: int) -> None:
        self.log_id = log_id
        self._warehouse, self._partitions = warehouse, partitions
        self._times: list[float] = []
        self._ends: list[dict[int, int]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def ends(self) -> dict[int, int]:
        """The end of the final windows (epoch ms of event time), by partition; 0 where none is final."""
        return dict(self._ends[-1]) if self._ends else dict.fromkeys(range(self._partitions), 0)

    def recovered_after(self, since_s: float) -> float | None:
        """Seconds from `since_s` until every partition had made another window final; None if one has not."""
        at = bisect.bisect_right(self._times, since_s)
        before = self._ends[at - 1] if at else dict.fromkeys(range(self._partitions), 0)
        for place in range(at, len(self._times)):
            if all(end > before[p] for p, end in self._ends[place].items()):
                return self._times[place] - since_s
        return None

    def _run(self) -> None:
        while not self._stopped.is_set():
            rows = self._warehouse.query(_SQL, log_id=self.log_id)
            ends = dict.fromkeys(range(self._partitions), 0)
            ends.update({r["log_partition"]: r["end_ms"] for r in rows})
            if not self._ends or ends != self._ends[-1]:
                self._times.append(time.monotonic())
                self._ends.append(ends)
            self._stopped.wait(EVERY_S)
