"""Rows of the requests file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TOKENS
from producers.recordings.base import BadRow, TokenRow, key_ms
from producers.recordings.csv_defaults import MAX_REASONS, CsvDefaults, group_of
from producers.recordings.csv_formats import refuse_other_formats
from producers.recordings.csv_table import BadCell, CsvLine, CsvTable, read_rows
from producers.recordings.csv_times import FileTimes
from producers.recordings.unpack import stem

TOKEN_COLUMNS = {
    "start": ("start", "t_start"),
    "end": ("end", "t_end"),
    "first": ("first", "t_first"),
    "tenant": ("tenant",),
    "model": ("model",),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
    "cached_tokens": ("cached_tokens",),
    "request_id": ("request_id",),
    "status": ("status",),
    "session_id": ("session_id",),
    "trace_id": ("trace_id",),
    "workload": ("workload",),
    "cluster": ("cluster",),
}
"""Our columns of the requests file, and the headers that they may have."""
_EXAMPLE = "start,end,tenant,model,prompt_tokens,completion_tokens"


def token_rows(path: Path, defaults: CsvDefaults) -> Iterator[TokenRow | BadRow]:
    """Yield the requests of a file in its order, with bad rows in between."""
    named = [name for name in ("tenant", "model", "workload") if not getattr(defaults, name)]
    required = ("start", "end", *named, "prompt_tokens", "completion_tokens")
    table = CsvTable(path, TOKEN_COLUMNS, required, joined=True)
    times, name = defaults.file_times(), stem(path)
    yield from read_rows(table, lambda line: _token_row(line, table, times, name, defaults))


def readable_requests(path: Path, defaults: CsvDefaults) -> Iterator[TokenRow]:
    """Yield the requests of a file, without its bad rows.

    Raises BadInput for another format, or if it has rows of which none can be read.
    """
    refuse_other_formats(path, TOKEN_COLUMNS, ("start", "end"), _EXAMPLE)
    refused: list[BadRow] = []
    requests = 0
    for row in token_rows(path, defaults):
        if isinstance(row, TokenRow):
            requests += 1
            yield row
        elif len(refused) < MAX_REASONS:
            refused.append(row)
    if refused and not requests:
        raise BadInput("tokens", path.name, f"none of its rows can be read: {'; '.join(map(str, refused))}")


def _token_row(line: CsvLine, table: CsvTable, times: FileTimes, name: str, defaults: CsvDefaults) -> TokenRow:
    start_ms, end_ms = times.read(line, table, "start"), times.read(line, table, "end")
    if not start_ms <= end_ms <= start_ms + MAX_SPAN_MS:
        raise BadCell("end", line.get("end"), "must be 0 to 6 hours after start")
    first_ms = times.read(line, table, "first") if line.get("first") else 0
    if first_ms and not start_ms <= first_ms <= end_ms:
        raise BadCell("first", line.get("first"), "must lie between start and end")
    prompt, completion = line.count("prompt_tokens", MAX_TOKENS), line.count("completion_tokens", MAX_TOKENS)
    cached = line.count("cached_tokens", MAX_TOKENS, default=0)
    if cached > prompt:
        raise BadCell("cached_tokens", str(cached), "is a subset of prompt_tokens")
    tenant = _text(line, "tenant", defaults.tenant)
    if tenant.startswith("__"):
        raise BadCell("tenant", tenant, "names that begin with '__' are Wattlog's own")
    cluster, workload = group_of(line, defaults)
    if not workload:
        raise BadCell("workload", workload, "is empty")
    return TokenRow(
        key_ms=key_ms(start_ms, end_ms), cluster=cluster, workload=workload, tenant=tenant,
        model=_text(line, "model", defaults.model), request_id=line.text("request_id", f"{name}-{line.number}"),
        t_start_ms=start_ms, t_first_ms=first_ms, t_end_ms=end_ms, prompt_tokens=prompt, cached_tokens=cached,
        completion_tokens=completion, status=line.text("status", "ok"), session_id=line.text("session_id", ""),
        trace_id=line.text("trace_id", ""),
    )  # fmt: skip


def _text(line: CsvLine, column: str, default: str) -> str:
    value = line.text(column, default)
    if not value:
        raise BadCell(column, value, "is empty")
    return value
