"""`wattlog replay csv`: your own recordings, as CSV."""

from __future__ import annotations

from producers.api import Kind, Plugin, RecordingReader
from producers.recordings.csv.recording import csv_recording

PLUGIN: Plugin[None, RecordingReader] = Plugin(
    "csv", Kind.RECORDING, "your own recordings, as CSV", lambda options, environment: csv_recording
)
