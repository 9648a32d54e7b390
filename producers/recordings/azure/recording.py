"""Azure's LLM inference traces (github.com/Azure/AzurePublicDataset, CC-BY-4.0): requests without tenants or watts.

Columns by name, in any order: `TIMESTAMP` (in the zone that it names, else UTC; 100 ns are cut to ms),
`ContextTokens`, `GeneratedTokens`. Others are ignored, so the releases of 2023 and 2024 are both read. Arrivals
and token counts are as recorded. Energy and the times of first and last token are added by `power_model`
(SIMULATED), tenants by `tenant_of`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.events import MAX_TOKENS, Event, Method
from contracts.topics import check_name
from contracts.units import rfc3339
from producers.recordings import base
from producers.recordings.azure.power_model import ModelledServer, PowerModel, ServerSecond
from producers.recordings.base import (
    BadRow,
    PowerRow,
    Recording,
    RecordingIdleFloor,
    Row,
    TokenRow,
    bad_row,
    key_ms,
    reorder,
)
from producers.recordings.batches import events_of
from producers.recordings.csv_table import CsvLine, CsvTable, read_rows

_COLUMNS = {name: (name.lower(),) for name in ("TIMESTAMP", "ContextTokens", "GeneratedTokens")}
PAUSE_MS = 3_600_000
"""After an hour without requests the recording counts as paused: no idle energy is made up for that time."""
MAX_TENANTS = 1_000


class AzureNames(NamedTuple):
    """Names that the trace does not have."""

    cluster: str
    workload: str
    model: str

    def __repr__(self) -> str:
        """Return the text that goes into the recording's fingerprint. It must stay the same: see `base.fingerprint`."""
        return f"Names(cluster={self.cluster!r}, workload={self.workload!r}, model={self.model!r})"


class Arrival(NamedTuple):
    """One line of the trace. `key_ms` is its time."""

    key_ms: int
    line: int
    prompt_tokens: int
    completion_tokens: int


def azure(
    file: Path, *, cluster: str = "azure", workload: str | None = None, model: str = "azure-llm", tenants: int = 8,
    power: PowerModel | None = None, close_ms: int = base.CLOSE_MS,
) -> Recording:  # fmt: skip
    """Return the recording of one trace. Its workload is named after the file unless given.

    Reads the file twice: once for its span, once for its events. Raises BadInput for a file that is empty, lacks a
    column, or has no row that can be read.
    """
    power = power or PowerModel()
    stem = file.stem
    names = AzureNames(cluster, workload or stem, model)
    for field, name in (*names._asdict().items(), ("hardware", power.hardware)):
        check_name(field, name)
    if not 1 <= tenants <= MAX_TENANTS:
        raise BadInput("tenants", tenants, f"give 1 to {MAX_TENANTS}")
    digest = base.fingerprint((file,), names, tenants, power)
    source = base.source_name("azure", file, digest)
    requests = intervals = prompt = completion = start_ms = end_ms = 0
    for row in _rows(file, names, tenants, power):
        if isinstance(row, TokenRow):
            requests, prompt, completion = requests + 1, prompt + row.prompt_tokens, completion + row.completion_tokens
        elif isinstance(row, PowerRow):
            intervals, start_ms, end_ms = intervals + 1, start_ms or row.t0_ms, row.t1_ms
    if not requests:
        raise BadInput("file", file.name, "has no row that can be read")

    def events() -> Iterator[Event | BadRow]:
        yield from events_of(
            reorder(_rows(file, names, tenants, power)), name=source, groups=[names[:2]], epoch=start_ms,
            end_ms=end_ms, close_ms=close_ms,
        )  # fmt: skip

    return Recording(
        cluster=cluster,
        name=f"Azure LLM inference, {stem}",
        start_ms=start_ms,
        end_ms=end_ms,
        window=(start_ms, end_ms),
        workload=names.workload,
        rows=requests + intervals,
        events=events,
        references={"requests": f"{requests}", "prompt tokens": f"{prompt}", "completion tokens": f"{completion}"},
        idle_floors=(RecordingIdleFloor(power.hardware, round(power.idle_w * 1000), "the power model of this replay"),),
        notes=(
            f"Energy, times to first and last token: SIMULATED by a model, {power}.",
            "Energy after an hour without requests is left out, as if the recording had paused.",
            f"Tenants: SHA-256 of the line's number picks one of {tenants}, weighted 1, 1/2, 1/3 ...",
        ),
        simulated=True,
    )


def tenant_of(line: int, tenants: int) -> str:
    """Return the tenant of a line: `tenant-01` to `tenant-NN`, the k-th with weight 1/k (Zipf).

    SHA-256 of the line's number picks it, so that it depends on nothing else.
    """
    bounds = _bounds(tenants)
    point = int.from_bytes(hashlib.sha256(str(line).encode()).digest()[:8]) % bounds[-1]
    return f"tenant-{bisect(bounds, point) + 1:0{max(2, len(str(tenants)))}d}"


@lru_cache(maxsize=8)
def _bounds(tenants: int) -> tuple[int, ...]:
    return tuple(accumulate(1_000_000_000 // k for k in range(1, tenants + 1)))


def _arrivals(file: Path) -> Iterator[Arrival | BadRow]:
    yield from read_rows(CsvTable(file, _COLUMNS, tuple(_COLUMNS)), _arrival)


def _arrival(line: CsvLine) -> Arrival:
    prompt, completion = line.count("ContextTokens", MAX_TOKENS), line.count("GeneratedTokens", MAX_TOKENS)
    return Arrival(line.time("TIMESTAMP", 0), line.number, prompt, completion)


def _rows(file: Path, names: AzureNames, tenants: int, power: PowerModel) -> Iterator[Row | BadRow]:
    """Yield requests and the server's seconds, nearly in order."""
    server, last_ms = ModelledServer(power), 0
    for item in reorder(_arrivals(file)):
        if isinstance(item, BadRow):
            yield item
            continue
        now_ms = item.key_ms
        if now_ms < last_ms:
            late = f"earlier than {base.REORDER_ROWS} rows before it; sort the file"
            yield bad_row(file, item.line, "TIMESTAMP", rfc3339(now_ms), late)
            continue
        if now_ms > last_ms + PAUSE_MS:
            yield from _power(server.drain(), names, power.hardware)
            server = ModelledServer(power)
        last_ms = now_ms
        try:
            served = server.offer(now_ms * 1000, item.prompt_tokens, item.completion_tokens)
        except BadInput as error:
            yield bad_row(file, item.line, error.field, str(error.value), error.fix)
            continue
        yield from _power(server.until(now_ms * 1000), names, power.hardware)
        first_ms, end_ms = served.first_us // 1000, served.end_us // 1000
        yield TokenRow(
            key_ms=key_ms(now_ms, end_ms),
            cluster=names.cluster,
            workload=names.workload,
            tenant=tenant_of(item.line, tenants),
            model=names.model,
            request_id=f"{file.stem}-{item.line}",
            t_start_ms=now_ms,
            t_first_ms=first_ms,
            t_end_ms=end_ms,
            prompt_tokens=item.prompt_tokens,
            cached_tokens=0,
            completion_tokens=item.completion_tokens,
        )
    yield from _power(server.drain(), names, power.hardware)


def _power(seconds: Iterator[ServerSecond], names: AzureNames, hardware: str) -> Iterator[PowerRow]:
    for t_ms, energies in seconds:
        for gpu, energy_uj in enumerate(energies):
            yield PowerRow(
                key_ms=key_ms(t_ms, t_ms + 1000),
                cluster=names.cluster,
                workload=names.workload,
                node="modelled",
                gpu_uuid=f"modelled-{gpu}",
                hardware=hardware,
                t0_ms=t_ms,
                t1_ms=t_ms + 1000,
                energy_uj=energy_uj,
                method=Method.ESTIMATED,
            )
