"""`wattlog replay mlperf`: an MLPerf power run: the wall meter's log beside MLPerf's own."""

from __future__ import annotations

from producers.api import Kind, Plugin, RecordingReader
from producers.recordings.mlperf.recording import mlperf

PLUGIN: Plugin[None, RecordingReader] = Plugin(
    "mlperf",
    Kind.RECORDING,
    "an MLPerf power run: the wall meter's log beside MLPerf's own",
    lambda options, environment: mlperf,
)
