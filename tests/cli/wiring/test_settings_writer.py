"""Settings files are written whole or not at all, and an earlier one is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.wiring.settings_writer import write_settings
from contracts.errors import BadInput


def test_a_file_that_was_edited_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "wattlog.toml"
    assert write_settings(path, "a = 1\n") is None
    for number, name in enumerate(["wattlog.toml.old", "wattlog.toml.old2"]):
        path.write_text(f"# mine {number}\n")
        assert write_settings(path, "b = 2\n") == tmp_path / name
        assert (tmp_path / name).read_text() == f"# mine {number}\n"
    assert path.read_text() == "b = 2\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_half_file_and_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wattlog.toml"
    path.write_text("# mine\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="cannot be written: No space left on device"):
        write_settings(path, "b = 2\n")
    assert [file.name for file in tmp_path.iterdir()] == ["wattlog.toml"]
    assert path.read_text() == "# mine\n"


def test_a_link_to_the_file_stays_one(tmp_path: Path) -> None:
    real, path = tmp_path / "real.toml", tmp_path / "wattlog.toml"
    real.write_text("# mine\n")
    path.symlink_to(real)
    write_settings(path, "b = 2\n")
    assert path.is_symlink() and real.read_text() == "b = 2\n"


@pytest.mark.parametrize("name", ["none/wattlog.toml", "folder"])
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="cannot be written"):
        write_settings(tmp_path / name, "b = 2\n")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
