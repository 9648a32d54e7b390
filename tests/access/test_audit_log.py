"""The audit log: entries that are only appended, by any number of processes, and denials at a bounded rate."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from access.audit_chain import verify
from access.audit_log import DENIALS, PERIOD_S, AuditLog
from contracts.errors import Unavailable


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdict(path: Path) -> Any:
    with path.open("rb") as file:
        return verify(file)


def test_an_entry_has_its_time_actor_subject_and_outcome(tmp_path: Path) -> None:
    path = tmp_path / "data" / "audit.jsonl"
    AuditLog(path, lambda: 1_793_491_260.0).record("ann@desk", "key.create", "ui:0123", "done", scopes="admin")
    [entry] = entries(path)
    del entry["hash"], entry["previous"]
    assert entry == {
        "at": "2026-11-01T00:01:00.000Z", "actor": "ann@desk", "action": "key.create", "subject": "ui:0123",
        "outcome": "done", "scopes": "admin", "number": 1,
    }  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600


def test_earlier_entries_stay_and_a_moved_file_begins_a_new_chain(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for _ in range(2):
        AuditLog(path).record("k", "export", "/v1/usage", "done")
    assert [entry["number"] for entry in entries(path)] == [1, 2]
    log = AuditLog(path)
    path.rename(tmp_path / "old")
    log.record("k", "export", "/v1/usage", "done")
    assert [entry["number"] for entry in entries(path)] == [1]


def append(path: Path, actor: str) -> None:
    log = AuditLog(path)
    for _ in range(40):
        log.record(actor, "export", "/v1/usage", "done")


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append, args=(path, f"writer-{number}")) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (verdict(path).fault, verdict(path).link.number) == ("", 160)
    assert {entry["actor"] for entry in entries(path)} == {f"writer-{number}" for number in range(4)}


@pytest.mark.parametrize("cuts", [[30], [30, 40], [1]], ids=str)
@pytest.mark.parametrize("before", [0, 3])
def test_a_line_that_was_cut_off_stays_and_is_named(before: int, cuts: list[int], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path)
    for _ in range(before):
        log.record("k", "export", "/v1/usage", "done")
    for cut in cuts:  # As writers leave them that are stopped in the middle: the second one's begins with a line feed.
        with path.open("ab") as file:
            file.write((b"\n" if cut == 40 else b"") + b'{"action":"export","actor":"k","at":"2026-11'[:cut])
    torn = tuple(range(before + 1, before + 1 + len(cuts)))
    assert (verdict(path).torn, verdict(path).link.number) == (torn, before)
    log.record("k", "export", "/v1/usage", "done")
    assert (verdict(path).fault, verdict(path).torn, verdict(path).link.number) == ("", torn, before + 1)


def test_an_entry_that_only_lacks_its_line_feed_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    AuditLog(path).record("k", "export", "/v1/usage", "done")
    path.write_bytes(path.read_bytes()[:-1])
    AuditLog(path).record("k", "export", "/v1/usage", "done")
    assert (verdict(path).fault, verdict(path).torn, verdict(path).link.number) == ("", (), 2)


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["without a line feed", "with one"])
def test_the_next_entry_does_not_hide_that_the_last_one_was_changed(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for _ in range(2):
        AuditLog(path).record("k", "export", "/v1/usage", "done")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:-1].replace(b"usage", b"other") + end)
    assert verdict(path).fault == "line 2: it is no entry"
    AuditLog(path).record("k", "export", "/v1/usage", "done")
    assert verdict(path).fault == "line 2: it is no entry"


def test_a_file_without_a_chain_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 300_000 + b"\n")
    AuditLog(path).record("k", "export", "/v1/usage", "done")
    assert verdict(path).fault == "line 1: it is no entry"


def test_denials_beyond_the_rate_are_counted(tmp_path: Path) -> None:
    path, now_s = tmp_path / "a.jsonl", [0.0]
    log = AuditLog(path, monotonic_s=lambda: now_s[0])
    for _ in range(DENIALS + 40):
        log.deny("", "read", "/v1/fleet", status=401)
    assert len(entries(path)) == DENIALS
    now_s[0] = PERIOD_S
    log.deny("", "read", "/v1/fleet")
    log.deny("", "read", "/v1/fleet")
    assert [entry.get("more_before") for entry in entries(path)[-2:]] == [40, None]
    assert not verdict(path).fault


def test_a_strangers_text_is_cut_and_cannot_begin_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    AuditLog(path).deny("a\n{}\u2028\ud800" + "x" * 9_999, "read", "/")
    [line] = path.read_bytes().splitlines()
    assert len(line) < 1_000
    assert not verdict(path).fault


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(tmp_path)
    log.record("k", "export", "/v1/usage", "done")
    log.record("k", "export", "/v1/usage", "done")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "WARNING"]
    assert "/v1/usage" in caplog.text


def test_a_change_is_recorded_before_it_is_made_and_after_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path).change("ann@desk", "prices.set", "energy eu", value="0.2") as results:
        assert [entry["outcome"] for entry in entries(path)] == ["begun"]
        results["rows"] = 3
    first, last = entries(path)
    assert first["value"] == last["value"] == "0.2"
    assert (last["outcome"], last["rows"], first["subject"], last["subject"]) == ("done", 3, "energy eu", "energy eu")


def test_a_change_that_fails_says_why(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with pytest.raises(ValueError), AuditLog(path).change("ann@desk", "period.close", "2026-09"):
        raise ValueError("a line is open")
    assert [(entry["outcome"], entry.get("error")) for entry in entries(path)] == [
        ("begun", None), ("failed", "a line is open"),
    ]  # fmt: skip


def test_a_change_whose_process_is_killed_leaves_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = f"""
import os, pathlib
from access.audit_log import AuditLog
with AuditLog(pathlib.Path({str(path)!r})).change("ann@desk", "key.create", "ui"):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert [(entry["action"], entry["outcome"]) for entry in entries(path)] == [("key.create", "begun")]


def test_nothing_is_changed_where_the_log_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.mkdir()
    with (
        pytest.raises(Unavailable, match="nothing is changed"),
        AuditLog(path).change("ann@desk", "key.create", "ui"),
    ):
        raise AssertionError("the change was made")
