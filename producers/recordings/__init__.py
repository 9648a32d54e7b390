"""Recordings to events: files in, an iterator of numbered events out. No broker, no clock; the command line feeds them.

Read in this order: `base` (what a recording is), `lines` (text files), `batches` (rows to events); then the readers:
`mlperf` (with `loadgen` and `integrate`), `azure` (with `power_model`), `usercsv`. docs/replay.md is for their users.
"""

from __future__ import annotations

from producers.recordings.azure.power_model import PowerModel
from producers.recordings.azure.recording import azure
from producers.recordings.base import BadRow, Recording, RecordingIdleFloor
from producers.recordings.csv.recording import csv_recording
from producers.recordings.mlperf.recording import mlperf

__all__ = ["BadRow", "PowerModel", "Recording", "RecordingIdleFloor", "azure", "csv_recording", "mlperf"]
