"""Recordings: files in, an iterator of numbered events out. They use no broker and no clock; the command line
publishes the events.

Read in this order: `base` (the shape of a recording), `text_lines` (text files), `batches` (rows to events). Each
folder is a format: `mlperf`, `azure`, `csv`. docs/replay.md is for their users.
"""

from __future__ import annotations

from producers.recordings.azure.power_model import PowerModel
from producers.recordings.azure.recording import azure
from producers.recordings.base import BadRow, Recording, RecordingIdleFloor
from producers.recordings.csv.recording import csv_recording
from producers.recordings.mlperf.recording import mlperf

__all__ = ["BadRow", "PowerModel", "Recording", "RecordingIdleFloor", "azure", "csv_recording", "mlperf"]
