"""A log of loadgen that cannot be read ends a replay at its start; the conformance suite feeds the other files."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.recordings.mlperf.recording import mlperf
from tests.producers.recordings.mlperf.test_recording import _folder


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
