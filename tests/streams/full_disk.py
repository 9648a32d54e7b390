"""A worker whose warehouse's disk is full: `python -m tests.streams.full_disk FOLDER`, where FOLDER is a small disk.

A file beside the warehouse fills the disk. It is deleted when the worker has been refused twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from prometheus_client import REGISTRY

from streams import retrying_sink as store_module
from tests.streams.driven_worker import Driven, ledger
from tests.streams.sample_log import two_windows
from warehouse.client import connect
from warehouse.migrate import migrate


def fill(path: Path) -> None:
    """Write until there is no byte left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


def refused() -> float:
    return REGISTRY.get_sample_value("wattlog_stream_store_retries_total", {"reason": "disk_full"}) or 0.0


async def run(folder: Path) -> dict[str, object]:
    sent = two_windows()
    with connect(f"chdb://{folder}/warehouse") as warehouse:
        migrate(warehouse)
        driven = Driven(warehouse, sent.log)
        await driven.stream_worker.assign([0])
        await driven.read()
        fill(folder / "ballast")
        storing = asyncio.create_task(driven.stream_worker.store_once())
        while refused() < 2 and not storing.done():  # noqa: ASYNC110 - a metric tells nobody
            await asyncio.sleep(0.02)
        committed = [offset for offsets in driven.committed.values() for offset in offsets]
        os.truncate(folder / "ballast", 0)
        await storing
        return {
            "refused": refused(), "committed_while_full": committed,
            "committed": sum(len(offsets) for offsets in driven.committed.values()),
            "exact": ledger(warehouse) == sent.oracle(),
        }  # fmt: skip


def main() -> None:
    store_module.RETRY_FIRST_S = 0.05
    print(json.dumps(asyncio.run(run(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
