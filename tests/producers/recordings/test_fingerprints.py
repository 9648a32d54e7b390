"""Sources of a replay: a file has the same source for ever, or a second replay would count twice."""

from __future__ import annotations

from pathlib import Path

from contracts.events import Event
from producers.recordings.azure.recording import azure
from producers.recordings.base import Recording
from producers.recordings.csv.recording import csv_recording
from tests.producers.recordings.replay import write


def _source(recording: Recording) -> str:
    event = next(iter(recording.events()))
    assert isinstance(event, Event)
    return event.source


def test_a_trace_of_azure_keeps_its_fingerprint(tmp_path: Path) -> None:
    trace = write(tmp_path / "trace.csv", "TIMESTAMP,ContextTokens,GeneratedTokens", "2024-01-01 00:00:00,10,5")
    assert _source(azure(trace)) == "replay://azure/trace@1dd7676f912c/azure/trace/wattlog.power.v1"


def test_csv_files_keep_their_fingerprint(tmp_path: Path) -> None:
    columns = "start,end,tenant,model,prompt_tokens,completion_tokens"
    tokens = write(tmp_path / "tokens.csv", columns, "1700000000,1700000001,a,m,1,2")
    power = write(tmp_path / "power.csv", "time,power_w", "1700000000,100", "1700000010,100")
    source = _source(csv_recording(tokens, power))
    assert source == "replay://csv/tokens@6599ffa8a465/csv/csv/wattlog.power.v1"
