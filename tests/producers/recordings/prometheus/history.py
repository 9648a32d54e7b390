"""A replayed history for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from producers.gpu.exporter_formats import DCGM
from producers.recordings.base import Recording
from producers.recordings.prometheus.plugin import prometheus_history
from tests.producers.recordings.prometheus.stand_in import StandIn
from tests.producers.recordings.replay import Replayed, replay

T0 = 1_700_000_000 // 3600 * 3600
ENERGY, POWER = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_POWER_USAGE"


def open_history(server: StandIn | str, folder: Path, **options: Any) -> Recording:
    """Open a history of ten minutes, of a stand-in or of the address of one."""
    if isinstance(server, StandIn):
        with server.serving() as url:
            return open_history(url, folder, **options)
    values: dict[str, Any] = {
        "exporter_format": DCGM, "start_ms": T0 * 1000, "end_ms": (T0 + 600) * 1000, "step_s": 30, "cluster": "c",
        "now_ms": (T0 + 10**8) * 1000, "close_ms": 135_000, "wait": lambda seconds: None,
    }  # fmt: skip
    return prometheus_history(server, folder=folder, **values | options)


def replay_history(server: StandIn | str, folder: Path, **options: Any) -> Replayed:
    return replay(open_history(server, folder, **options).events())


def steady(seconds: int = 600, watts: int = 300, *, step_s: int = 30, base_mj: int = 10**9, start_s: int = T0) -> Any:
    """Return the samples of a counter in mJ that advances by `watts`."""
    return [(start_s + s, base_mj + watts * 1000 * s) for s in range(0, seconds + 1, step_s)]
