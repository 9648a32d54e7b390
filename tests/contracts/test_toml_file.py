"""Settings files as people write them: a byte order mark is passed over, and mistakes have a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadSetting
from contracts.toml_file import read_toml


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa = 1\n", b"a = 1\r\n", b"a = 1"], ids=["mark", "CRLF", "no end"])
def test_files_of_other_editors_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wattlog.toml"
    path.write_bytes(content)
    assert read_toml(path) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (b"a = \n", "it is no TOML: Invalid value (at line 1, column 5)"),
        (b"a = 1\na = 2\n", "it is no TOML: Cannot overwrite a value"),
        ("a = 1".encode("utf-16"), "byte 1 is no UTF-8: save the file as UTF-8"),
        (b'a = "\xe4"', "byte 6 is no UTF-8"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, content: bytes, fix: str) -> None:
    path = tmp_path / "wattlog.toml"
    path.write_bytes(content)
    with pytest.raises(BadSetting) as caught:
        read_toml(path)
    assert (caught.value.field, caught.value.value) == ("file", str(path))
    assert fix in caught.value.fix
