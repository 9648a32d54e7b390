"""`wattlog replay azure`: an Azure LLM inference trace with a power model: SIMULATED energy."""

from __future__ import annotations

from producers.api import Kind, Plugin, RecordingReader
from producers.recordings.azure.recording import azure

PLUGIN: Plugin[None, RecordingReader] = Plugin(
    "azure",
    Kind.RECORDING,
    "an Azure LLM inference trace with a power model: SIMULATED energy",
    lambda options, environment: azure,
)
