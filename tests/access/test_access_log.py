"""The access log: lines that are only appended, denials at a bounded rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from access.access_log import DENIALS, PERIOD_S, ActLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_act_has_its_time_actor_subject_and_outcome(tmp_path: Path) -> None:
    path = tmp_path / "data" / "access.jsonl"
    ActLog(path, lambda: 1_793_491_260.0).record("user:ann", "key.create", "ui:0123", "done", scopes="admin")
    assert lines(path) == [{
        "at": "2026-11-01T00:01:00.000Z", "actor": "user:ann", "act": "key.create", "subject": "ui:0123",
        "outcome": "done", "scopes": "admin",
    }]  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600


def test_earlier_lines_stay_and_a_moved_file_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for _ in range(2):
        ActLog(path).record("k", "export", "/v1/usage", "done")
    assert len(lines(path)) == 2
    log = ActLog(path)
    path.rename(tmp_path / "old")
    log.record("k", "export", "/v1/usage", "done")
    assert len(lines(path)) == 1


def test_denials_beyond_the_rate_are_counted(tmp_path: Path) -> None:
    path, now_s = tmp_path / "a.jsonl", [0.0]
    log = ActLog(path, monotonic_s=lambda: now_s[0])
    for _ in range(DENIALS + 40):
        log.deny("", "read", "/v1/fleet", status=401)
    assert len(lines(path)) == DENIALS
    now_s[0] = PERIOD_S
    log.deny("", "read", "/v1/fleet")
    log.deny("", "read", "/v1/fleet")
    assert [line.get("more_before") for line in lines(path)[-2:]] == [40, None]


def test_a_strangers_text_is_cut_and_cannot_begin_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ActLog(path).deny("a\n{}\u2028\ud800" + "x" * 9_999, "read", "/")
    [line] = path.read_bytes().splitlines()
    assert len(line) < 1_000


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = ActLog(tmp_path)
    log.record("k", "export", "/v1/usage", "done")
    log.record("k", "export", "/v1/usage", "done")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "WARNING"]
    assert "/v1/usage" in caplog.text
