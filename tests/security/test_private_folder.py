"""The data folder is its user's alone, and passwords in addresses are masked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.settings import load_settings
from contracts.private_folder import is_open_to_others, make_private_folder


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_folder_and_its_missing_parents_are_private(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "data" / "spool")
    assert (_mode(tmp_path / "data"), _mode(tmp_path / "data" / "spool")) == (0o700, 0o700)


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o700), (0o777, 0o700), (0o700, 0o700), (0o1777, 0o1777)])
def test_a_folder_that_others_may_enter_is_tightened_unless_many_share_it(
    tmp_path: Path, before: int, after: int
) -> None:
    folder = tmp_path / "warehouse"
    folder.mkdir()
    folder.chmod(before)
    make_private_folder(folder)
    assert _mode(folder) == after
    assert is_open_to_others(folder) == (after != 0o700)


def test_a_file_where_the_folder_would_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(OSError, match="directory"):
        make_private_folder(tmp_path / "data")


def test_a_data_folder_that_others_may_enter_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o750)
    load_settings(data)
    assert "chmod 700" in capsys.readouterr().err
    data.chmod(0o700)
    load_settings(data)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("https://wattlog:swordfish@db:8443/w", "https://wattlog:**********@db:8443/w"),
        ("https://wattlog:sword@fish@db/w", "https://wattlog:**********@db/w"),
        ("https://:swordfish@db", "https://:**********@db"),
        ("https://wattlog@db:8443/w", "https://wattlog@db:8443/w"),
        ("chdb:///var/lib/wattlog", "chdb:///var/lib/wattlog"),
    ],
)
def test_config_masks_passwords_in_addresses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, masked: str
) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_WAREHOUSE_DSN", address)
    for arguments in (["config", "--json"], ["config"]):
        output = CliRunner().invoke(app, arguments).stdout
        assert "fish" not in output
    rows = {row["setting"]: row["value"] for row in json.loads(CliRunner().invoke(app, ["config", "--json"]).stdout)}
    assert rows["warehouse_dsn"] == masked
