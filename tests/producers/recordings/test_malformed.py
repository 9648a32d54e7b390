"""Malformed lines of recordings: each is reported by file and line, and the lines around it are replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.recordings.azure.recording import azure
from producers.recordings.csv.recording import csv_recording
from producers.recordings.mlperf.recording import mlperf
from tests.producers.recordings.mlperf.test_recording import _folder, _line
from tests.producers.recordings.replay import replay

TOKENS = "start,end,tenant,model,prompt_tokens,completion_tokens"
T0 = 1_700_000_000


def _write(path: Path, header: str, good: str, bad: bytes, better: str) -> Path:
    path.write_bytes(b"\n".join([header.encode(), good.encode(), bad, better.encode(), b""]))
    return path


BAD_CELLS = [
    b"NaN", b"-1", b"1e99999999999999999999", b"9" * 5_000, b"\xff\xfe", b'"', b"[" * 3_000, b"\x00", b"null",
]  # fmt: skip


@pytest.mark.parametrize("cell", BAD_CELLS, ids=lambda cell: repr(cell)[:20])
@pytest.mark.parametrize("column", range(6))
def test_a_malformed_request_is_reported_and_the_others_are_replayed(tmp_path: Path, cell: bytes, column: int) -> None:
    cells = [b"%d" % T0, b"%d" % (T0 + 1), b"a", b"m", b"1", b"2"]
    cells[column] = cell
    tokens = _write(tmp_path / "t.csv", TOKENS, f"{T0},{T0},a,m,1,2", b",".join(cells), f"{T0 + 1},{T0 + 1},b,m,1,2")
    power = _write(tmp_path / "p.csv", "time,power_w", f"{T0},1", b"", f"{T0 + 1},1")
    out = replay(csv_recording(tokens, power).events())
    names_a_tenant = column in (2, 3) and cell in (b"NaN", b"-1", b"1e99999999999999999999", b"null")
    assert len(out.token_rows) == 2 + names_a_tenant
    assert [(row.file, row.line) for row in out.bad] == ([] if names_a_tenant else [("t.csv", 3)])


@pytest.mark.parametrize("cell", [*BAD_CELLS, b"1e999", b"9.2e18"], ids=lambda cell: repr(cell)[:20])
@pytest.mark.parametrize("column", ["power_w", "energy_mj", "energy_j"])
def test_a_malformed_reading_is_reported_and_the_others_are_replayed(tmp_path: Path, cell: bytes, column: str) -> None:
    tokens = _write(tmp_path / "t.csv", TOKENS, f"{T0},{T0},a,m,1,2", b"", f"{T0},{T0},a,m,1,2")
    power = _write(tmp_path / "p.csv", f"time,{column}", f"{T0},1", b"%d,%s" % (T0 + 1, cell), f"{T0 + 2},1000")
    out = replay(csv_recording(tokens, power).events())
    assert out.power_rows and sum(out.energy_uj.values()) > 0
    assert [(row.file, row.line) for row in out.bad] == [("p.csv", 3)]


@pytest.mark.parametrize("cell", BAD_CELLS, ids=lambda cell: repr(cell)[:20])
@pytest.mark.parametrize("column", range(3))
def test_a_malformed_line_of_a_trace_is_reported_and_the_others_are_replayed(
    tmp_path: Path, cell: bytes, column: int
) -> None:
    cells = [b"2024-01-01 00:00:01", b"10", b"5"]
    cells[column] = cell
    header, good, better = (
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2024-01-01 00:00:00,1,2",
        "2024-01-01 00:00:02,1,2",
    )
    out = replay(azure(_write(tmp_path / "x.csv", header, good, b",".join(cells), better)).events())
    assert (len(out.token_rows), [row.line for row in out.bad]) == (2, [3])


@pytest.mark.parametrize("cell", ["NaN", "-1", "1e999", "9" * 5_000, "\ud800", "\x00", "[" * 3_000, ""])
def test_a_malformed_reading_of_ptdaemon_is_reported_and_the_others_are_replayed(tmp_path: Path, cell: str) -> None:
    lines = [_line(second, 100 + second) for second in range(20)]
    folder = _folder(tmp_path, lines)
    lines.insert(1, _line(0.5, cell))
    (folder / "spl.txt").write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    out = replay(mlperf(folder).events())
    assert out.power_rows and [row.line for row in out.bad] == [2]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 3_000 + "]" * 3_000, '{"key": 1e999, "value": 1}', '{"key": [], "value": 1}', "null", "[]", '"text"',
        '{"key": "result_query_count", "value": 1e308}', '{"key": "result_query_count", "value": null}',
        '{"key": "generated_samples_per_query", "value": 1e17}', '{"key": "a", "value": "\udcff"}',
        '{"key": "result_query_count", "value": %s}' % ("9" * 5_000), '{"key": "a", "value": "\\ud800"}',
    ],
    ids=lambda line: repr(line)[:40],
)  # fmt: skip
def test_a_log_of_loadgen_that_cannot_be_read_is_refused_by_name(tmp_path: Path, line: str) -> None:
    log = _folder(tmp_path) / "mlperf_log_detail.txt"
    log.write_bytes(log.read_bytes() + b"\n:::MLLOG " + line.encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=r"mlperf_log_detail\.txt"):
        mlperf(tmp_path)
