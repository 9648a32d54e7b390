"""Prompts and answers in an access log: marked texts are searched in everything that is written."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from producers.gateways.accesslog.lines import LineReader
from producers.gateways.accesslog.presets import PRESETS
from producers.gateways.accesslog.source import AccessLog
from producers.gateways.deployments import Deployments
from tests.producers.conformance import poll
from tests.producers.gateways.accesslog.test_lines import LINES
from tests.producers.gateways.payloads import SECRET
from tests.support.clocks import T0, FakeClock

TEXTS = {
    "messages": [{"role": "user", "content": SECRET}], "request_body": SECRET, "response_body": {"choices": [SECRET]},
    "llm_request": {"messages": [SECRET]}, "llm_response_text": {"content": SECRET}, "query": SECRET,
    "request_headers": {"cookie": SECRET},
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_no_text_of_a_prompt_passes_an_access_log(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    good = json.dumps(LINES[name] | TEXTS).encode()
    wrong = [LINES[name] | TEXTS | {field: {"text": SECRET}} for field in ("model", "tenant", "llm_model")]
    lines = [good, good[:-7], SECRET.encode(), b'["%s"]' % SECRET.encode(), json.dumps(TEXTS | {"id": SECRET}).encode()]
    path = tmp_path / "log" / "access.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"\n".join([*lines, *(json.dumps(line).encode() for line in wrong), b""]))
    spool = tmp_path / "spool"
    spool.mkdir()
    log = AccessLog(path, LineReader(PRESETS[name]), Deployments([], "c"), begin="start")
    broker, _ = poll([log], spool, FakeClock(end_ms=12_000, now_ms=10_000, epoch_ms=T0))
    assert sum(len(event.batch) for event in broker.stored) >= 1
    assert SECRET not in repr(broker.stored)
    assert "left out" in caplog.text
    assert SECRET not in caplog.text
    assert not [file for file in spool.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
