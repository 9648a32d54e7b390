"""`wattlog key` makes a key, lists it without its secret, and revokes it; the audit log says who did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import wattlog


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"WATTLOG_KEYS_FILE": str(tmp_path / "keys.json"), "WATTLOG_DATA": str(tmp_path / "data")}


def test_a_key_is_shown_once_listed_and_revoked(env: dict[str, str], tmp_path: Path) -> None:
    fresh = wattlog("key", "create", "acme-ui", "--role", "tenant", "--tenant", "acme", "--json", **env).json
    assert (fresh["scopes"], fresh["tenants"]) == ("read:tenant", "acme")
    [listed] = wattlog("key", "list", "--json", **env).json
    assert (listed["id"], listed["state"]) == (fresh["id"], "valid")
    assert wattlog("key", "revoke", "acme-ui", **env).status == 0
    [listed] = wattlog("key", "list", "--json", **env).json
    assert listed["state"] == "revoked"
    log = (tmp_path / "data" / "audit.jsonl").read_text()
    assert [json.loads(line)["action"] for line in log.splitlines()] == ["key.create"] * 2 + ["key.revoke"] * 2
    assert fresh["key"] not in log + (tmp_path / "keys.json").read_text()


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("ui", "--role", "viewer"), "tenant"),
        (("ui", "--role", "viewer", "--tenant", "acme", "--all-tenants"), "tenant"),
        (("ui", "--all-tenants"), "role"),
        (("ui", "--role", "king", "--all-tenants"), "role"),
        (("ui", "--role", "operator", "--all-tenants"), "make two"),
        (("ui", "--role", "tenant", "--all-tenants"), "read:finance"),
        (("ui", "--role", "viewer", "--all-tenants", "--days", "900"), "days"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_key_without_sense_is_refused_by_field(words: tuple[str, ...], field: str, env: dict[str, str]) -> None:
    ran = wattlog("key", "create", *words, **env)
    assert (ran.status, ran.out) == (2, "")
    assert field in ran.err
    assert not Path(env["WATTLOG_KEYS_FILE"]).exists()


def test_without_the_setting_the_command_names_it(tmp_path: Path) -> None:
    ran = wattlog("key", "list", WATTLOG_DATA=str(tmp_path))
    assert ran.status == 2
    assert "WATTLOG_KEYS_FILE" in ran.err
