"""A power file, replayed for tests, and what the command would say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from contracts.events import Method, PowerBatch
from producers.recordings.base import BadRow
from producers.recordings.csv.recording import csv_recording
from tests.producers.recordings.replay import replay


class Energy(NamedTuple):
    """Energy of a power file in joules, by GPU and by method, with its notes and refused rows."""

    by_gpu: dict[str, float]
    by_method: dict[str, float]
    nodes: set[str]
    hardware: set[str]
    notes: str
    bad: list[BadRow]
    start_ms: int

    @property
    def joules(self) -> float:
        return round(sum(self.by_gpu.values()), 6)


def energy(path: Path, content: str | bytes | Iterable[str], **options: Any) -> Energy:
    """Write a power file and replay it alone. Lines get a newline each; text and bytes are written as they are."""
    if not isinstance(content, str | bytes):
        content = "".join(f"{line}\n" for line in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    recording = csv_recording(None, path, **options)
    out = replay(recording.events())
    by_gpu, by_method = Counter[str](), Counter[str]()
    for gpu, _, _, energy_uj, method, _ in out.power_rows:
        by_gpu[gpu] += energy_uj
        by_method[Method(method).name.lower()] += energy_uj
    batches = [event.batch for event in out.events if isinstance(event.batch, PowerBatch) and len(event.batch)]
    return Energy(
        by_gpu={gpu: uj / 1e6 for gpu, uj in by_gpu.items()},
        by_method={method: uj / 1e6 for method, uj in by_method.items()},
        nodes={batch.node for batch in batches},
        hardware={hardware for batch in batches for _, hardware in batch.gpus},
        notes="\n".join(recording.notes),
        bad=out.bad,
        start_ms=recording.start_ms,
    )


def smi(*columns: str, cells: Iterable[str], step_s: float = 1, at: str = "2026/07/01 10:00:00.000") -> list[str]:
    """Return a file of nvidia-smi: a header with these columns, and a row at each step with the cells."""
    day, clock = at.split()
    hours, minutes, seconds = clock.split(":")
    begin_ms = round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000)
    lines = [", ".join(("timestamp", *columns))]
    for row, text in enumerate(cells):
        ms = begin_ms + round(row * step_s * 1000)
        stamp = f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
        lines.append(f"{day} {stamp}, {text}")
    return lines
