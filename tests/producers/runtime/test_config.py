"""Options of a plug-in: what is wrong is named, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadSetting
from producers.boundary.plugin import BoundaryConfig
from producers.runtime.config import load


def test_a_misspelt_option_is_named_with_those_that_there_are_and_without_its_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wattlog.toml").write_text('[produce.boundary]\nhosts = "a secret?"\n')
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    with pytest.raises(BadSetting, match=r"^produce\.boundary\.hosts: .*no such option; there are: host, ") as raised:
        load(BoundaryConfig)
    assert "secret?" not in str(raised.value)
