"""`wattlog audit log` lists who did what, by API and by command, and verifies that nothing in the list was changed."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
from pathlib import Path

import pytest

from access.audit_log import AuditLog
from tests.cli.conftest import DemoRun, wattlog


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of four entries, the last two of which are of a command."""
    path = tmp_path / "audit.jsonl"
    AuditLog(path, lambda: 1_793_491_260.0).record("acme-ui", "export", "/v1/usage", "done", rows=3)
    AuditLog(path, lambda: 1_793_577_660.0).record("ann@desk", "price.put", "energy eu", "done", value="=1")
    env = {"WATTLOG_KEYS_FILE": str(tmp_path / "keys.json"), "WATTLOG_AUDIT_LOG": str(path)}
    assert wattlog("key", "create", "ui", "--role", "viewer", "--all-tenants", **env).status == 0
    return path


def test_entries_are_listed_by_time_actor_and_action(log: Path) -> None:
    def listed(*words: str) -> list[str]:
        rows = wattlog("audit", "log", "--json", *words, WATTLOG_AUDIT_LOG=str(log)).json
        return [row["action"] for row in rows]

    assert listed() == ["export", "price.put", "key.create", "key.create"]
    assert listed("--since", "2026-11-02", "--actor", "ann@desk") == ["price.put"]
    assert listed("--action", "price") == ["price.put"]
    assert listed("--action", "pri") == []
    assert listed("--limit", "1") == ["key.create"]


def test_the_actor_of_a_command_is_the_systems_user_in_any_environment(log: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    assert json.loads(log.read_text().splitlines()[-1])["actor"].startswith(f"{user}@")


def test_csv_is_safe_in_a_spreadsheet(log: Path) -> None:
    ran = wattlog("audit", "log", "--format", "csv", WATTLOG_AUDIT_LOG=str(log))
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert rows[1]["details"] == "value==1"
    assert [row["number"] for row in rows] == ["1", "2", "3", "4"]


def test_a_changed_entry_is_named_and_a_cut_off_end_by_its_noted_head(log: Path) -> None:
    def verified(*words: str) -> tuple[int, str, int]:
        ran = wattlog("audit", "log", "--verify", "--json", *words, WATTLOG_AUDIT_LOG=str(log))
        return ran.status, ran.json["fault"], ran.json["entries"]

    assert verified() == (0, "", 4)
    lines = log.read_bytes().splitlines(keepends=True)
    head = json.loads(lines[-1])["hash"]
    assert verified("--head", head) == (0, "", 4)
    log.write_bytes(b"".join(lines[:2]))
    assert verified() == (0, "", 2)
    status, fault, _ = verified("--head", head)
    assert (status, head in fault) == (1, True)
    log.write_bytes(lines[0] + lines[2])
    assert verified() == (1, "line 2: entry 3 follows entry 1", 1)
    log.write_bytes(b"".join(lines) + b'{"action":"ex')
    assert verified() == (3, "", 4)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("log", "--verify", "--actor", "ann"), "filters"),
        (("log", "--head", "0"), "--verify"),
        (("log", "--since", "yesterday"), "since"),
        (("--strict", "log"), "after"),
        (("log",), "no audit log"),
    ],
    ids=str,
)
def test_a_question_without_sense_is_refused(words: tuple[str, ...], named: str, tmp_path: Path) -> None:
    ran = wattlog("audit", *words, WATTLOG_DATA=str(tmp_path))
    assert (ran.status, ran.out) == (2, "")
    assert named in " ".join(ran.err.split())


@pytest.mark.slow
def test_commands_that_export_ask_in_sql_or_set_prices_are_in_the_log(demo: DemoRun, tmp_path: Path) -> None:
    env = {"WATTLOG_AUDIT_LOG": str(tmp_path / "audit.jsonl")}
    for words in (
        ("chargeback", "--by", "team", "--format", "csv"),
        ("chargeback", "--by", "team"),
        ("sql", "SELECT 1"),
        ("price", "carbon", "nowhere", "1", "--new"),
        ("price", "carbon", "nowhere", "--remove", "--yes"),
    ):
        assert wattlog(*words, "--data", demo.data, **env).status == 0
    rows = wattlog("audit", "log", "--json", **env).json
    assert [(row["action"], row["outcome"], row["subject"].split(" 20")[0], row.get("query", "")) for row in rows] == [
        ("export", "begun", "chargeback", f"--by team --format csv --data {demo.data}"),
        ("question", "begun", "all tenants", "SELECT 1"),
        ("prices.set", "begun", "carbon nowhere 1", ""),
        ("prices.set", "done", "carbon nowhere 1", ""),
        ("prices.remove", "begun", "carbon nowhere", ""),
        ("prices.remove", "done", "carbon nowhere", ""),
    ]
    stored = wattlog("audit", "log", "--json", "--data", demo.data).json
    assert [(row["action"], row["outcome"]) for row in stored] == [
        ("reference_data.put", "begun"), ("reference_data.put", "done"),
    ]  # fmt: skip
