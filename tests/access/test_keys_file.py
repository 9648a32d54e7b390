"""The file of keys: read again when it changes, replaced whole, and never less safe for being broken."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from access.api_keys import DAY_MS, encode_keys, key_text, new_key, with_key, without_keys
from access.keys_file import MAX_FILE_BYTES, KeysFile, changing_keys, read_keys
from contracts.callers import Scope
from contracts.errors import AccessDenied, BadInput, BadSetting

NOW_MS = 1_793_491_260_000


class Clock:
    """Time that a test moves, in seconds."""

    now_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret" / "keys.json"


def add(path: Path, number: int, name: str = "k") -> str:
    """Add a key to the file, and return its text."""
    secret = number.to_bytes(32)
    with changing_keys(path) as (keys, replace):
        replace(with_key(keys, new_key(name, ["read:fleet"], None, 1, NOW_MS, secret)))
    return key_text(secret)


def opened(path: Path) -> tuple[KeysFile, Clock]:
    clock = Clock()
    return KeysFile(path, clock, clock), clock


def refusal(keys: KeysFile, text: str) -> str:
    with pytest.raises(AccessDenied) as refused:
        keys.caller(text)
    assert refused.value.status == 401
    assert text not in refused.value.detail or not text
    return refused.value.detail


def test_a_key_of_the_file_is_its_caller(path: Path) -> None:
    text = add(path, 1, "ui")
    keys, _ = opened(path)
    assert (keys.caller(text).name, keys.caller(text).scopes) == ("ui", {Scope.READ_FLEET})


def test_others_cannot_read_or_write_the_file(path: Path) -> None:
    add(path, 1)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    path.chmod(0o666)
    with pytest.raises(BadSetting, match="chmod 600"):
        opened(path)


@pytest.mark.parametrize("text", ["", "wl_x", "wl_" + "0" * 49, "eyJ.eyJ.x"])
def test_a_text_that_is_no_key_is_refused(path: Path, text: str) -> None:
    add(path, 1)
    assert refusal(opened(path)[0], text)


def test_unknown_revoked_and_expired_keys_are_refused(path: Path) -> None:
    text = add(path, 1)
    keys, clock = opened(path)
    assert "unknown" in refusal(keys, key_text(bytes(32)))
    clock.now_s += DAY_MS / 1000
    assert "expired" in refusal(keys, text)


def test_changes_of_the_file_count_within_a_second(path: Path) -> None:
    keys, clock = opened(path)
    text = add(path, 1)
    assert refusal(keys, text)
    clock.now_s += 1
    assert keys.caller(text).name == "k"
    with changing_keys(path) as (stored, replace):
        replace(without_keys(stored, "k", NOW_MS)[0])
    assert keys.caller(text)
    clock.now_s += 1
    assert "revoked" in refusal(keys, text)


def test_a_file_that_breaks_or_goes_keeps_the_last_good_keys(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = add(path, 1)
    keys, clock = opened(path)
    good = path.read_bytes()
    for spoil in (lambda: path.write_bytes(good[:-9]), path.unlink, lambda: path.write_bytes(b"x" * MAX_FILE_BYTES)):
        caplog.clear()
        spoil()
        for _ in range(3):
            clock.now_s += 1
            assert keys.caller(text)
        assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1, "it is said once"
    path.write_bytes(encode_keys([]))
    clock.now_s += 1
    assert refusal(keys, text)


def test_a_file_that_is_broken_at_the_start_is_a_bad_setting(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"{")
    path.chmod(0o600)
    with pytest.raises(BadSetting, match="keys_file"):
        opened(path)


def test_a_folder_is_no_file_of_keys(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="keys_file"):
        read_keys(tmp_path)


def test_writers_wait_for_each_other(path: Path) -> None:
    threads = [threading.Thread(target=add, args=(path, n, f"k{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(path)} == {f"k{n}" for n in range(8)}


def test_a_broken_file_is_not_overwritten(path: Path) -> None:
    add(path, 1)
    path.write_bytes(b"{")
    with pytest.raises(BadInput):
        add(path, 2)
    assert path.read_bytes() == b"{"
